"""Figures of models, data and training, and the HTML report of a run."""

from ._figures import filters as filters, image_grid as image_grid, training_curves as training_curves
from ._latent import (
    active_units as active_units,
    latent_map as latent_map,
    reconstructions as reconstructions,
    strips as strips,
)
from ._pixels import paper_and_ink as paper_and_ink
from ._report import write_report as write_report
