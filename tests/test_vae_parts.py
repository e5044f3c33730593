"""A variational autoencoder of parts that do not fit is refused where it is made."""

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import lnz


def parts(num_prior=3, num_decoder=3, num_encoder=3, num_pixels=5):
    def conditional(template, num_in, num_out):
        return lnz.Conditional(template, lnz.nets.MLP(num_in, num_out, key=jr.key(0), width=4, depth=1))

    decoder = conditional(lnz.Bernoulli(jnp.zeros(5)), num_decoder, 5)
    encoder = conditional(lnz.Normal.standard(num_encoder), num_pixels, 2 * num_encoder)
    return lnz.Normal.standard(num_prior), decoder, encoder


def test_parts_that_fit():
    assert lnz.latent.VAE(*parts()).space == lnz.Binary(5)
    jax.eval_shape(lambda: lnz.latent.VAE(*parts()).posterior(jnp.zeros(5)).loc)  # also where shapes are traced


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (parts(num_prior=2), r"`VAE\(decoder=...\)` cannot take a latent variable of shape \(2,\)"),
        (parts(num_pixels=7), r"`VAE\(encoder=...\)` cannot take an example of shape \(5,\)"),
        (parts(num_encoder=4), r"the prior lives on Euclidean\(shape=\(3,\)\), .* on Euclidean\(shape=\(4,\)\)"),
        ((parts()[0], parts()[2], parts()[1]), r"`VAE\(decoder=...\)` cannot take"),
    ],
    ids=["prior", "pixels", "encoder", "exchanged"],
)
def test_parts_that_do_not_fit(made, words, untyped):
    with pytest.raises(ValueError, match=words):
        lnz.latent.VAE(*made)


def test_a_network_alone_is_no_encoder(untyped):
    prior, decoder, encoder = parts()
    with pytest.raises(TypeError, match=r"`VAE\(encoder=...\)` must return a distribution"):
        lnz.latent.VAE(prior, decoder, encoder.net)
