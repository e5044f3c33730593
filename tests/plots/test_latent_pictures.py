import io

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from made_runs import make_run
from PIL import Image
from test_figures import picture

import lnz
from lnz.plots import active_units, image_grid, latent_map, reconstructions, strips
from lnz.plots._latent_section import activity, latents
from lnz.plots._pixels import encode, paper_and_ink


def test_reconstructions_stand_below_their_originals():
    originals = np.arange(1, 6)[:, None] * np.ones((5, 6))
    montage = picture(reconstructions(originals, 10 * originals, (2, 3), num_columns=3))
    assert montage.shape == (4 * 3 - 1, 3 * 4 - 1)
    tops, lefts = np.arange(4) * 3, np.arange(3) * 4
    found = montage[np.ix_(tops, lefts)]
    np.testing.assert_array_equal(found, [[1, 2, 3], [10, 20, 30], [4, 5, np.nan], [40, 50, np.nan]])
    with pytest.raises(ValueError, match="as many reconstructions as originals"):
        reconstructions(originals, originals[:4], (2, 3))


def test_strips_have_a_line_for_each_path_and_names_beside_it():
    images = np.arange(6).reshape(2, 3, 1) * np.ones((2, 3, 4))
    figure = strips(images, (2, 2), rows=["a", "$b"], columns=["-1", "0", "1"], title="more")
    np.testing.assert_array_equal(picture(figure)[::3, ::3], [[0, 1, 2], [3, 4, 5]])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "$b"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["-1", "0", "1"]
    assert axes.get_xticks().tolist() == [0.5, 3.5, 6.5]
    figure.canvas.draw()
    with pytest.raises(ValueError, match=r"needs 2 names; got 1"):
        strips(images, (2, 2), rows=["a"])
    with pytest.raises(ValueError, match=r"\[n, num, ...\]"):
        strips(images[0], (2, 2))


def test_latent_map_shows_the_plane_of_most_variance():
    random = np.random.default_rng(0)
    plane = random.standard_normal((200, 2)) * [5, 3]
    basis = np.linalg.qr(random.standard_normal((4, 4)))[0]
    labels = (plane[:, 0] > 0).astype(int)
    figure = latent_map(plane @ basis[:2] + 7, labels, ["left", "right"])
    axes = figure.axes[0]
    assert axes.get_xlabel().startswith("component 1: 7")
    drawn = [np.stack(line.get_data(), axis=1) for line in axes.lines]
    assert [line.get_label() for line in axes.lines] == ["left", "right"]
    assert [len(points) for points in drawn] == [int((labels == 0).sum()), int((labels == 1).sum())]
    # Two classes that the first axis separates stay apart, whichever way it points.
    assert abs(np.mean(drawn[0][:, 0]) - np.mean(drawn[1][:, 0])) > 6


def test_latent_map_of_two_latents_is_these():
    z = np.array([[1.0, 2.0], [3.0, 5.0]])
    (line,) = latent_map(z).axes[0].lines
    np.testing.assert_array_equal(np.stack(line.get_data(), axis=1), z)
    with pytest.raises(ValueError, match="a class for each of 2 rows"):
        latent_map(z, [0])


def test_active_units_are_counted_and_sorted():
    axes = active_units(np.array([0.0, 0.9, 0.011, 0.009])).axes[0]
    assert axes.get_title(loc="left") == "2 of 4 active"
    tops = [patch.get_extents().transformed(axes.transData.inverted()).y1 for patch in axes.patches]
    np.testing.assert_allclose(tops, [0.9, 0.011, 0.009, 1e-6], rtol=1e-6)


def small_vae():
    decoder = lnz.distributions.ConditionalBernoulli(
        lnz.nets.Linear.from_parameters(jr.normal(jr.key(0), (16, 2)), jnp.zeros(16))
    )
    encoder = lnz.distributions.ConditionalNormal(
        lnz.nets.Linear.from_parameters(jr.normal(jr.key(1), (2, 16)), jnp.zeros(2)), jnp.ones(2)
    )
    return lnz.latent.VAE(lnz.Normal.standard(2), decoder, encoder)


def test_reports_show_latents_of_models_that_have_some():
    run = make_run(small_vae())
    section = latents(run)
    for title in ("Reconstructions", "Interpolations", "Traversals"):
        assert section.count(f"<b>{title}</b>") == 1
    assert "Active latents" in activity(run)
    without = make_run(lnz.Bernoulli(jnp.zeros(16)))
    assert latents(without) == activity(without) == ""
    blind = make_run(lnz.latent.VAE(run.model.prior, run.model.decoder, None))
    assert latents(blind) == activity(blind) == ""
    table = make_run(small_vae(), image_shape=None)
    assert latents(table) == ""
    assert "Active latents" in activity(table)


def test_photographs_are_light_where_their_values_are_large():
    random = np.random.default_rng(0)
    drawn = np.where(random.random((5, 100)) < 0.2, 255, 0)
    photographed = random.integers(20, 240, (5, 100))
    assert paper_and_ink(drawn) == (0, 255)
    assert paper_and_ink(photographed) == (photographed.max(), 0)
    assert paper_and_ink(np.ones((2, 4))) == (0, 1)  # bits, most of them set, are ink all the same
    image = image_grid(np.array([[0.0, 9.0]]), (1, 2), low=9, high=0).axes[0].images[0]
    black, white = (image.to_rgba(np.array([value]))[0, :3].mean() for value in (0.0, 9.0))
    assert black < 0.15
    assert white > 0.85
    pixels = np.asarray(Image.open(io.BytesIO(encode(np.array([[0.0, 9.0]]), 9, 0, size=2))).convert("L"))
    assert pixels[0, 0] < 40 < 200 < pixels[0, -1]
