from ._figures import filters as filters, image_grid as image_grid, training_curves as training_curves
from ._report import write_report as write_report
