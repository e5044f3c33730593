import io
import sys

import numpy as np
import pytest
from PIL import Image

from lnz.plots import filters, image_grid, training_curves
from lnz.plots._figures import marginals, scatter
from lnz.plots._pixels import encode, grey_scale


def picture(figure):
    (image,) = figure.axes[0].images
    return np.ma.filled(image.get_array(), np.nan)


def test_image_grid_places_every_image_once_with_gaps():
    images = np.arange(1, 6)[:, None] * np.ones((5, 6))
    montage = picture(image_grid(images, (2, 3), num_columns=2, high=5))
    assert montage.shape == (3 * 3 - 1, 2 * 4 - 1)
    assert np.isnan(montage[2]).all()
    assert np.isnan(montage[:, 3]).all()
    assert (montage[3:5, 4:] == 4).all()
    assert np.isnan(montage[6:, 4:]).all()  # no sixth image
    for value in range(1, 6):
        assert (montage == value).sum() == 6


def test_image_grid_draws_whole_pixels():
    figure = image_grid(np.zeros((4, 4)), (2, 2))
    width, height = figure.get_size_inches() * figure.dpi
    assert round(width) % 5 == 0  # 2 + 1 + 2 pixels
    assert width == height


@pytest.mark.parametrize(("images", "shape"), [(np.zeros((2, 7)), (2, 3)), (np.zeros((0, 6)), (2, 3))])
def test_image_grid_explains_a_wrong_shape(images, shape):
    with pytest.raises(ValueError, match="image_shape"):
        image_grid(images, shape)


def test_filters_shows_columns_on_a_scale_centred_at_zero():
    W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    figure = filters(W, (2, 3))
    np.testing.assert_array_equal(picture(figure)[:2, :3], W[:, 0].reshape(2, 3))
    low, high = figure.axes[0].images[0].get_clim()
    assert low == -high < 0
    assert figure.axes[1].get_xlabel() == "weight"


def test_filters_of_zeros_have_a_scale():
    low, high = filters(np.zeros((6, 1), np.float32), (2, 3)).axes[0].images[0].get_clim()
    assert low < high


def test_training_curves_have_units_and_one_direction():
    history = [{"step": step, "seconds": 0.1 * step, "log_likelihood": -20.0 / step, "kl": 1.0} for step in (1, 2, 3)]
    history[-1]["valid"] = -7.0
    figure = training_curves(history)
    likelihood, objective = figure.axes
    lines = {line.get_label(): line for line in likelihood.lines}
    assert list(lines["train"].get_ydata()) == [-20.0, -10.0, -20.0 / 3]
    assert list(lines["valid"].get_xdata()) == [3]
    assert [line.get_label() for line in objective.lines] == ["kl"]
    assert likelihood.get_ylabel() == objective.get_ylabel() == "nats per example"
    assert objective.get_xlabel() == "step"


def test_training_curves_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one record"):
        training_curves([])


def test_training_curves_of_a_fit_that_diverged():
    history = [{"step": step, "seconds": 0.1, "loss": np.nan, "$odd": -np.inf} for step in (1, 2)]
    figure = training_curves(history)
    figure.canvas.draw()
    assert figure.axes[0].get_ylabel() == "nats per example"


def test_marginals_show_every_test_row_and_nearly_all_samples():
    rng = np.random.default_rng(0)
    samples = np.stack([rng.standard_cauchy(2000), np.full(2000, 7.0), np.full(2000, np.nan)], axis=1)
    rows = np.stack([np.linspace(-1000, 0, 5), np.full(5, 7.0), np.arange(5.0)], axis=1)
    figure = marginals(samples, rows, ["$cauchy", "constant", "lost"])
    figure.canvas.draw()
    for axes, column in zip(figure.axes, rows.T, strict=False):
        low, high = axes.get_xlim()
        assert low < column.min()
        assert column.max() < high
        assert list(axes.lines[0].get_xdata()) == list(column)
    assert [axes.get_xlabel() for axes in figure.axes] == ["$cauchy", "constant", "lost", ""]
    assert figure.axes[0].get_xlim()[1] < 1000  # the furthest of 2000 draws are thousands away


def test_scatter_shows_every_test_row():
    samples = np.array([[0.0, 0.0], [np.nan, 1.0], [1.0, 1.0]])
    rows = np.array([[-3.0, 7.0], [2.0, 7.0]])
    axes = scatter(samples, rows, ["$a", "b"]).axes[0]
    (low, high), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    assert low < -3
    assert high > 2
    assert bottom < 0
    assert top > 7
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("$a", "b")


def test_encoded_pictures_have_whole_pixels_and_clear_gaps():
    image = Image.open(io.BytesIO(encode(np.array([[0.0, np.nan, 1.0]]), 0, 1, size=30))).convert("RGBA")
    assert image.size == (30, 10)
    left, gap, right = (np.asarray(image)[0, i] for i in (9, 10, 20))
    assert gap[3] == 0
    assert left[3] == right[3] == 255
    assert left[0] > right[0]  # more ink is darker


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[0, 1], [1, 0]], (0, 1)),
        ([[0, 0]], (0, 1)),
        ([[0, 16], [3, 2]], (0, 16)),
        ([[0.2, 0.5]], (0, 0.5)),
        ([[-2.0, 1.5]], (-2, 1.5)),
        ([[np.nan]], (0, 1)),
    ],
)
def test_scale_of_greys_comes_from_the_values(values, expected):
    assert grey_scale(values) == expected


def test_pyplot_is_not_touched():
    assert "matplotlib.pyplot" not in sys.modules
