import sys

import numpy as np
import pytest

from lnz.plots import filters, image_grid, training_curves


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
    history = [
        {"step": step, "seconds": 0.1 * step, "negative_log_likelihood": 20.0 / step, "kl": 1.0} for step in (1, 2, 3)
    ]
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


def test_pyplot_is_not_touched():
    assert "matplotlib.pyplot" not in sys.modules
