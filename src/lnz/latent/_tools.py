"""Tools for latents: embed, decode, reconstruct and interpolate examples, and walk along one latent variable.

Plain functions of any latent-variable model with a posterior. Rows go through the model in chunks of `batch_size`. Each
row has its own random key, so that the numbers do not depend on the chunks.
"""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

from ..core import AbstractDistribution, AbstractLatentModel, closed_form_mean, local
from ..modules import as_numbers, check_key, check_positive, model_dtype
from ._paths import lerp, slerp

_NUM_DRAWS = 100  # for a mean that has no closed form


def embed(
    model: AbstractLatentModel,
    data: Any,
    *,
    key: PRNGKeyArray | None = None,
    num_draws: int = _NUM_DRAWS,
    batch_size: int = 512,
) -> Float[np.ndarray, "n ..."]:
    """`E[z]` under `q(z | x)` for each x of `data [n, *model.space.shape]`: `[n, *model.prior.space.shape]`.

    **Arguments:**

    - `key`: needed only where the posterior's mean has no closed form, as for a flow or a hierarchy. The mean is then
      the average of `num_draws` draws.
    - `batch_size`: rows in memory at a time.

    **Raises:** `TypeError` if the model has no latents or no posterior; `ValueError` if a key is needed.
    """
    _posterior_of(model)
    there = local(model)
    rows = there.check_and_move(data)
    model, posterior = there.model, there.model.posterior
    if key is None and not _has_mean(posterior, model.space.cast(rows[0], model_dtype(model))):
        raise ValueError(
            "`embed(key=None)`: the mean of this posterior has no closed form. Pass `key=jax.random.key(0)` for the "
            f"average of {num_draws} draws."
        )
    return _by_chunks(_posterior_mean, model, rows, key, num_draws, batch_size)


def decode(
    model: AbstractLatentModel,
    z: Any,
    *,
    key: PRNGKeyArray | None = None,
    num_draws: int = _NUM_DRAWS,
    batch_size: int = 512,
) -> Float[np.ndarray, "n ..."]:
    """`E[x]` under `p(x | z)` for each z of `[n, *model.prior.space.shape]`: probabilities of bits, means of numbers.

    **Arguments:** as for `embed`; `key` is needed where the mean of `p(x | z)` has no closed form.
    """
    _check_latent(model)
    z = _check_latents(model, z)
    there = local(model)
    model = there.model
    if key is None and not _has_mean(model.likelihood, z[0]):
        raise ValueError(
            "`key=None`: the mean of p(x | z) of this model has no closed form. Pass `key=jax.random.key(0)` for the "
            f"average of {num_draws} draws."
        )
    return there.to_data(_by_chunks(_likelihood_mean, model, z, key, num_draws, batch_size))


def reconstruct(
    model: AbstractLatentModel,
    data: Any,
    *,
    key: PRNGKeyArray | None = None,
    num_draws: int = _NUM_DRAWS,
    batch_size: int = 512,
) -> Float[np.ndarray, "n ..."]:
    """`E[x']` under `p(x' | z)` for one draw z of `q(z | x)`, for each x of `data [n, ...]`.

    Only the latent is drawn; each pixel is a mean. `decode(model, embed(model, data))` takes the posterior mean in
    place of the draw, as `interpolate` does at its ends. Means vary less than the latents that the model is trained on.

    **Arguments:** as for `embed`; here `key` is always needed, for the draws.

    **Raises:** as `embed`; `ValueError` without a key.
    """
    if key is None:
        raise ValueError(
            "`reconstruct(key=None)`: each latent is drawn, so pass `key=jax.random.key(0)`. Without draws: "
            "`decode(model, embed(model, data))`."
        )
    _posterior_of(model)
    there = local(model)
    rows = there.check_and_move(data)
    return there.to_data(_by_chunks(_reconstruction, there.model, rows, check_key(key), num_draws, batch_size))


def interpolate(
    model: AbstractLatentModel,
    x0: Any,
    x1: Any,
    num: int = 10,
    *,
    method: Literal["slerp", "lerp"] = "slerp",
    key: PRNGKeyArray | None = None,
    num_draws: int = _NUM_DRAWS,
    batch_size: int = 512,
) -> Float[np.ndarray, "num ..."]:
    """`num` images on the path between the posterior means of two examples, `[num, *model.space.shape]`.

    The first and the last are decoded from the posterior means of `x0` and `x1`.

    **Arguments:**

    - `x0`, `x1`: ONE example each.
    - `num`: at least 2.
    - `method`: `"slerp"`, a great circle, for priors near a standard normal; or `"lerp"`, a straight line.
    - `key`, `num_draws`, `batch_size`: as for `embed`.
    """
    if check_positive(num, "num") < 2:
        raise ValueError("`num` must be at least 2: the two ends.")
    paths = {"slerp": slerp, "lerp": lerp}
    if method not in paths:
        raise ValueError(f"`method` must be 'slerp' or 'lerp'; got {method!r}.")
    _check_latent(model)
    ends = [model.space.as_example(x, name) for x, name in ((x0, "x0"), (x1, "x1"))]
    options: dict[str, Any] = {"key": key, "num_draws": num_draws, "batch_size": batch_size}
    z0, z1 = embed(model, np.stack([np.asarray(x) for x in ends]), **options)
    along = _along(paths[method], jnp.asarray(z0), jnp.asarray(z1), jnp.linspace(0, 1, num, dtype=z0.dtype))
    return decode(model, along, **options)


def traverse(
    model: AbstractLatentModel,
    dimension: int,
    values: Any,
    *,
    x: Any = None,
    z: Any = None,
    key: PRNGKeyArray | None = None,
) -> Float[np.ndarray, "num ..."]:
    """Images of one latent vector with entry `dimension` set to each of `values [num]`: `[num, *model.space.shape]`.

    **Arguments:**

    - `x`: an example; its posterior mean is the latent vector.
    - `z`: the latent vector itself, such as zeros, in place of `x`.
    - `key`: as for `embed`.

    **Raises:** `ValueError` unless exactly one of `x` and `z` is given and the latent has such a dimension.
    """
    if (x is None) == (z is None):
        raise ValueError("`traverse(...)` needs either an example `x=...` or a latent `z=...`.")
    if z is None:
        z = embed(model, np.asarray(as_numbers(x, "x"))[None], key=key)[0]
    z = np.asarray(as_numbers(z, "z"))
    if not -z.size <= dimension < z.size:
        raise ValueError(f"`dimension` must be below {z.size}, the number of latent variables; got {dimension}.")
    values = np.asarray(as_numbers(values, "values"))
    # A latent of whole numbers must not round the values down.
    along = np.repeat(z.reshape(1, -1), len(values), axis=0).astype(np.result_type(z, values))
    along[:, dimension] = values
    return decode(model, along.reshape(-1, *z.shape), key=key)


def _check_latent(model: Any) -> None:
    if not isinstance(model, AbstractLatentModel):
        raise TypeError(f"This needs a model with latents, such as a `VAE`; {type(model).__name__} has none.")


def _posterior_of(model: Any) -> Callable[[Array], AbstractDistribution]:
    _check_latent(model)
    x = jax.ShapeDtypeStruct(model.space.shape, model_dtype(model) if model.space.kind == "float" else jnp.int32)
    if eqx.filter_eval_shape(model.posterior, x) is None:
        raise TypeError(f"This needs an encoder, q(z | x); this {type(model).__name__} has none.")
    return model.posterior


def _check_latents(model: AbstractLatentModel, z: Any) -> Array:
    z = as_numbers(z, "z")
    z = model.prior.space.cast(z, model_dtype(model)) if model.prior.space.kind == "float" else jnp.asarray(z)
    shape = model.prior.space.shape
    if z.shape[1:] != shape or len(z) == 0:
        raise ValueError(f"`z` must be latents [n, {', '.join(map(str, shape))}]; got shape {z.shape}.")
    return z


def _has_mean(conditional: Callable[[Array], Any], example: Array) -> bool:
    return eqx.filter_eval_shape(lambda x: closed_form_mean(conditional(x)), example) is not None


def _mean_or_average(distribution: AbstractDistribution, key: PRNGKeyArray, num_draws: int) -> Array:
    """`E[x]`, or the average of independent draws, an unbiased estimate."""
    mean = closed_form_mean(distribution)
    if mean is not None:
        return mean
    draws = distribution.sample(key, (num_draws,))
    dtype = draws.dtype if jnp.issubdtype(draws.dtype, jnp.floating) else jnp.result_type(float)
    return jnp.mean(draws.astype(dtype), axis=0)


def _posterior_mean(key: PRNGKeyArray, model: AbstractLatentModel, x: Array, num_draws: int) -> Array:
    return _mean_or_average(_present(model.posterior(x)), key, num_draws)


def _likelihood_mean(key: PRNGKeyArray, model: AbstractLatentModel, z: Array, num_draws: int) -> Array:
    return _mean_or_average(model.likelihood(z), key, num_draws)


def _reconstruction(key: PRNGKeyArray, model: AbstractLatentModel, x: Array, num_draws: int) -> Array:
    key_z, key_x = jr.split(key)
    return _likelihood_mean(key_x, model, _present(model.posterior(x)).sample(key_z), num_draws)


def _present(posterior: AbstractDistribution | None) -> AbstractDistribution:
    assert posterior is not None  # `_posterior_of` has checked this
    return posterior


def _by_chunks(
    function: Callable, model: AbstractLatentModel, rows: Any, key: PRNGKeyArray | None, num_draws: int, batch_size: int
) -> Shaped[np.ndarray, "n ..."]:
    key = jr.key(0) if key is None else check_key(key)  # without a key, none is used
    check_positive(num_draws, "num_draws")
    size = min(check_positive(batch_size, "batch_size"), len(rows))
    found = []
    for start in range(0, len(rows), size):
        numbers = np.minimum(np.arange(start, start + size), len(rows) - 1)  # one shape, so one program
        found.append(np.asarray(_chunk(function, model, rows[numbers], key, jnp.asarray(numbers), num_draws)))
    return np.concatenate(found)[: len(rows)]


@eqx.filter_jit
def _chunk(function, model, rows, key, numbers, num_draws):
    dtype = model_dtype(model)
    keys = jax.vmap(lambda number: jr.fold_in(key, number))(numbers)
    if function is not _likelihood_mean:
        rows = model.space.cast(rows, dtype)
    return jax.vmap(lambda key, row: function(key, model, row, num_draws))(keys, jnp.asarray(rows))


@eqx.filter_jit
def _along(path, z0, z1, ts):
    return jax.vmap(lambda t: path(z0, z1, t))(ts)
