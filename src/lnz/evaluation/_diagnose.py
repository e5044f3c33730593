"""The verb that takes the bound of a latent-variable model apart: what is lost where, and what the latents carry."""

import dataclasses
import math
import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import (
    AbstractDistribution,
    AbstractLatentModel,
    Bound,
    Estimate,
    exact_log_det,
    faulty_rows,
    local,
    log_mean_exp,
)
from ..distributions import closed_form_kl
from ..modules import check_key, check_positive, model_dtype
from ._refine import CHUNK, amortised_parameters, mean_and_error, refinement

_ACTIVE = 0.01  # variance over examples of a posterior mean
_USED = 0.01  # the same as a share of the variance of all codes, whatever unit the latents have
_COLLAPSED = 0.1  # nats of KL divergence, or of mutual information
_NUM_MIXTURE_DRAWS = 4096  # at least, over all examples, for the mutual information
_MIXTURE_NUMBERS = 2**22  # in memory for it
_UNRELIABLE_BY_CHANCE = 0.05


class PosteriorCollapseWarning(UserWarning):
    """The approximate posterior says little or nothing of the examples: the decoder does without the latents."""


@dataclasses.dataclass(frozen=True)
class LatentDiagnostics:
    """The bound of a latent-variable model in its parts, in nats per example; it prints itself as a table.

    - `log_likelihood`: the importance-weighted bound (IWAE-K, K = `num_samples`), a lower bound on log p(x).
    - `elbo`: `reconstruction - kl`, a lower bound too.
    - `reconstruction`: `E_q[log p(x | z)]`.
    - `kl`: `KL(q(z | x) || p(z))`, exact where it has a closed form.
    - `mutual_information`, `marginal_kl`: the two parts of `kl`: `I_q(x; z)`, and `KL(q(z) || p(z))` of the aggregate
      posterior q(z). The mixture over the examples stands for q(z); of these examples alone both are unbiased. As
      estimates for the population the first is a *lower* bound (it cannot exceed log n), the second an *upper* one.
    - `gap`: `log_likelihood - elbo`, at most the inference gap `KL(q(z | x) || p(z | x))`: a lower bound on it.
    - `amortisation_gap`: the part of it that the encoder loses against a posterior whose parameters, those that the
      encoder makes of x, are fitted to each example: a lower bound, as far as the refinement came; of `num_refined`
      examples. What examples share (`Frozen` or learned scales that do not depend on x, the weights of a flow) stays.
      `None` without one.
    - `variances`: `Var_x(E_q[z])` of each latent variable; `num_active` of them are above 0.01, which is meant for
      latents of unit variance.
    - `shares`: of that in the variance of the aggregate posterior, `Var_x(E_q[z]) / (Var_x(E_q[z]) + E_x Var_q[z])`,
      the same in every unit; of the `num_used` above 0.01 z says something of x. Warnings of collapse go by it.
    - `data_errors`: by the name of a field, the standard error from the choice of examples, `sd / sqrt(n)` of the
      values per example, where these exist. That of an estimate itself, `elbo.standard_error`, is the Monte Carlo error
      alone: what other draws for the same examples would change.
    - `num`, `num_samples`: examples, and draws for each.
    - `warnings`: what to look at, in sentences.
    """

    log_likelihood: Estimate
    elbo: Estimate
    reconstruction: Estimate
    kl: Estimate
    mutual_information: Estimate
    marginal_kl: Estimate
    gap: Estimate
    amortisation_gap: Estimate | None
    variances: Float[np.ndarray, "..."]
    shares: Float[np.ndarray, "..."]
    data_errors: dict[str, float]
    num: int
    num_samples: int
    num_refined: int
    warnings: tuple[str, ...] = ()

    @property
    def num_active(self) -> int:
        return int(np.sum(self.variances > _ACTIVE))

    @property
    def num_used(self) -> int:
        return int(np.sum(self.shares > _USED))

    def __str__(self) -> str:
        def line(name: str, field: str, *more: str) -> str:
            estimate, data_error = getattr(self, field), self.data_errors.get(field)
            words = [] if estimate.bound == "exact" else [f"MC s.e. {estimate.standard_error:.2g}"]
            words += [] if data_error is None else [f"data s.e. {data_error:.2g}"]
            return f"{name:<22} {float(estimate.value):>10.3f}  ({', '.join([estimate.bound, *words, *more])})"

        ceiling = f"at most log n = {math.log(self.num):.2f}"
        lines = [
            f"{self.num} examples, {self.num_samples} draws each; nats per example",
            line(f"log p(x), IWAE-{self.num_samples}", "log_likelihood"),
            line("ELBO", "elbo"),
            line("  reconstruction", "reconstruction"),
            line("  KL(q(z|x) || p(z))", "kl"),
            line("    mutual information", "mutual_information", ceiling),
            line("    KL(q(z) || p(z))", "marginal_kl"),
            line("log p(x) - ELBO", "gap"),
        ]
        if self.amortisation_gap is not None:
            lines.append(line("  amortisation gap", "amortisation_gap", f"{self.num_refined} examples refined"))
        lines.append(f"{'active units':<22} {self.num_active} of {self.variances.size} (Var_x(E_q[z]) > {_ACTIVE})")
        return "\n".join(lines + [f"Warning: {warning}" for warning in self.warnings])


def diagnose(
    key: PRNGKeyArray,
    model: AbstractLatentModel,
    data: Any,
    *,
    num_samples: int = 1000,
    refine_steps: int = 200,
    num_refined: int = 100,
    batch_size: int = 16,
) -> LatentDiagnostics:
    """Where the bound of a latent-variable model loses what, and whether its latents are used.

    It tells the numbers apart that are quoted as "the likelihood" of a variational autoencoder: the ELBO, which is
    below `log p(x)` by `KL(q(z | x) || p(z | x))`, and the importance-weighted bound. It splits that gap into what
    another encoder could win and what only another family of posteriors could, and the KL divergence from the prior
    into what z says of x and how far all codes together are from the prior.

    **Arguments:**

    - `data`: examples `[n, *model.space.shape]`, n at least 2. The mutual information takes n^2 posterior densities.
    - `num_samples`: draws for each example, the K of IWAE-K.
    - `refine_steps`: steps of Adam that fit the posterior of one example, from the encoder's output on: every
      floating-point array of it that depends on x, except x itself (as lower layers of `lnz.latent.TopDown` hold it)
      and `Frozen` ones. 0 leaves the amortisation gap out. So does a posterior whose draws have no gradient, or of
      which nothing depends on x.
    - `num_refined`: of at most so many examples, drawn from all.
    - `batch_size`: examples that go at the same time, with 128 draws each.

    **Returns:** a `LatentDiagnostics`; print it.

    **Raises:** `TypeError` for other models, or a prior that is known up to a constant only; `ValueError` for one
    without an encoder.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8 and section 5.2 (active units); arXiv:1509.00519. Hoffman
    and Johnson (2016) for the two parts of the KL divergence, Poole et al. (2019) for the direction of the mutual
    information (arXiv:1905.06922), Cremer, Li and Duvenaud (2018) for the gaps (arXiv:1801.03558).
    """
    key_draws, key_subset, key_refine = jr.split(check_key(key), 3)
    if not isinstance(model, AbstractLatentModel):
        raise TypeError(f"`model` must have latent variables, such as a VAE; got {type(model).__name__}.")
    if not isinstance(model.prior, AbstractDistribution):
        raise TypeError(
            f"`model.prior` must be one that can be sampled exactly and has a log-density; got "
            f"{type(model.prior).__name__}, whose log Z is unknown, and with it every bound. Use `lnz.evaluate(key, "
            "model, data, partition=..., hidden=...)`."
        )
    if check_positive(num_samples, "num_samples") < 2:
        raise ValueError("`num_samples` must be at least 2, so that there is an error bar; got 1.")
    check_positive(num_refined, "num_refined")
    check_positive(batch_size, "batch_size")
    if refine_steps != 0:
        check_positive(refine_steps, "refine_steps")
    there = local(model)
    rows = jnp.asarray(there.checked_rows(data))
    if len(rows) < 2:
        raise ValueError("`data` must have at least 2 examples, for what varies over them; got 1.")
    model, dtype = there.model, model_dtype(model)
    posterior = model.posterior(model.space.cast(rows[0], dtype))
    if posterior is None:
        raise ValueError(f"{type(model).__name__} has no approximate posterior (an encoder), which is diagnosed here.")

    num = len(rows)
    model = exact_log_det(model)
    parts = _draws(key_draws, model, rows, num_samples, min(batch_size, num), dtype)
    information, information_error = _mutual_information(model, rows, parts["z"], parts["log_q"], dtype)
    likelihood: Estimate = parts["likelihood"]
    values = {
        "log_likelihood": likelihood.value,
        "elbo": parts["elbo"][0],
        "reconstruction": parts["reconstruction"][0],
        "kl": parts["kl"][0],
        "gap": likelihood.value - parts["elbo"][0],
    }
    refined = None
    amortised = amortised_parameters(model, rows[0], dtype) if refine_steps and posterior.reparameterised else None
    if amortised is not None:
        chosen = rows[jr.permutation(key_subset, num)[:num_refined]]
        size = min(batch_size, len(chosen))
        gain, error = refinement(key_refine, model, amortised, chosen, num_samples, refine_steps, size, dtype)
        refined = _mean(gain, error, "lower")
        values["amortisation_gap"] = gain
    log_likelihood = _mean(likelihood.value, likelihood.standard_error, "lower")
    kl = _mean(*parts["kl"], bound="exact" if parts["closed_form"] is not None else "unbiased")
    mutual_information = Estimate(information, information_error, "lower")
    elbo = _mean(*parts["elbo"], bound="lower")
    variances, tiny = np.asarray(_variances(*parts["moments"])), np.finfo(dtype).tiny
    with np.errstate(invalid="ignore"):  # infinite over infinite: rows that are not finite are told below
        shares = variances / np.maximum(variances + np.asarray(jnp.mean(parts["inner"], axis=0)), tiny)
    result = LatentDiagnostics(
        log_likelihood=log_likelihood,
        elbo=elbo,
        reconstruction=_mean(*parts["reconstruction"], bound="unbiased"),
        kl=kl,
        mutual_information=mutual_information,
        marginal_kl=kl - mutual_information,
        # What is subtracted is no bound but the ELBO itself, without bias.
        gap=log_likelihood - Estimate(elbo.value, elbo.standard_error, "unbiased"),
        amortisation_gap=refined,
        variances=variances,
        shares=shares,
        data_errors={name: _data_error(np.asarray(column)) for name, column in values.items()},
        num=num,
        num_samples=num_samples,
        num_refined=0 if refined is None else min(num_refined, num),
    )
    faults = faulty_rows(np.asarray(values["elbo"], float))
    # Of numbers that are not finite no collapse can be read.
    collapse, notes = [] if faults else _collapse(result), [*faults, *_unreliable(likelihood, num_samples)]
    for warning in collapse:
        warnings.warn(f"diagnose: {warning}", PosteriorCollapseWarning, stacklevel=2)
    return dataclasses.replace(result, warnings=(*collapse, *notes))


def _mean(values: Float[Array | np.ndarray, " n"], errors: Float[Array | np.ndarray, " n"], bound: Bound) -> Estimate:
    """Of numbers with independent errors."""
    return Estimate(jnp.mean(values), jnp.sqrt(jnp.sum(errors**2)) / len(values), bound)


def _data_error(values: Float[np.ndarray, " n"]) -> float:
    with np.errstate(invalid="ignore"):  # of values that are not finite it is NaN
        return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _collapse(result: LatentDiagnostics) -> list[str]:
    num_used, num_units, kl = result.num_used, result.shares.size, float(result.kl.value)
    information = float(result.mutual_information.value)
    advice = (
        "Try to raise the weight of the KL term from zero over the first epochs, free bits, a decoder that can do less "
        "without z, or a smaller learning rate"
    )
    if kl < _COLLAPSED:
        return [
            f"the posterior has collapsed to the prior: KL {kl:.3f} nats, {num_used} of {num_units} latent variables "
            f"in use, so the decoder ignores z. {advice}."
        ]
    if num_used == 0 and information < _COLLAPSED:
        return [
            f"z says next to nothing of x (mutual information {information:.3f} nats), though the posterior is not the "
            f"prior: KL {kl:.3f} nats, lost for every example. {advice}."
        ]
    if num_used < num_units / 2:
        return [
            f"only {num_used} of {num_units} latent variables are in use: the means of the others are the same for all "
            f"examples. {advice}; or do with fewer latent variables, at no loss."
        ]
    return []


def _unreliable(likelihood: Estimate, num_samples: int) -> list[str]:
    num = len(likelihood.value)
    bad = int(np.sum(likelihood.unreliable_rows()))
    if bad <= _UNRELIABLE_BY_CHANCE * num:
        return []
    return [
        f"IWAE-{num_samples}: {bad} of {num} examples have too few effective weights, so its error bar is too small. "
        "It is a lower bound still; more draws, or a wider posterior, make it tighter."
    ]


@eqx.filter_jit
def _draws(key, model, rows, num_samples: int, batch_size: int, dtype) -> dict[str, Any]:
    """Everything that is averaged over draws of each example's posterior, which is encoded once."""
    num_chunks = -(-num_samples // CHUNK)
    size = -(-num_samples // num_chunks)
    num_kept = min(size, max(1, -(-_NUM_MIXTURE_DRAWS // len(rows))))

    def one(inputs):
        key, x = inputs
        x = model.space.cast(x, dtype)
        posterior: AbstractDistribution = model.posterior(x)

        def chunk(key):
            z, log_q = posterior.sample_and_log_prob(key, (size,))
            log_likelihood = jax.vmap(lambda z: model.likelihood(z).log_prob(x))(z)
            divergence = log_q - jax.vmap(model.prior.log_prob)(z)
            real = z.astype(log_q.dtype)
            return log_likelihood, divergence, jnp.mean(real, 0), jnp.var(real, 0), z[:num_kept], log_q[:num_kept]

        log_likelihood, divergence, means, inner, z, log_q = jax.lax.map(chunk, jr.split(key, num_chunks))
        log_likelihood, divergence = log_likelihood.reshape(-1)[:num_samples], divergence.reshape(-1)[:num_samples]
        closed_form = closed_form_kl(posterior, model.prior)
        reconstruction = mean_and_error(log_likelihood)
        if closed_form is None:
            kl, elbo = mean_and_error(divergence), mean_and_error(log_likelihood - divergence)
        else:
            kl, elbo = (closed_form, jnp.zeros_like(closed_form)), (reconstruction[0] - closed_form, reconstruction[1])
        total = num_chunks * size
        spread = jnp.mean(inner, 0) + jnp.var(means, 0)  # of all draws of this example
        return {
            "likelihood": log_mean_exp(log_likelihood - divergence),
            "reconstruction": reconstruction,
            "kl": kl,
            "elbo": elbo,
            "closed_form": closed_form,
            "moments": (jnp.mean(means, 0), spread / (total - 1)),
            "inner": spread * (total / (total - 1)),
            "z": z[0],
            "log_q": log_q[0],
        }

    return jax.lax.map(one, (jr.split(key, len(rows)), rows), batch_size=batch_size)


def _variances(means: Float[Array, "n ..."], squared_errors: Float[Array, "n ..."]) -> Float[Array, "..."]:
    """`Var_x(E_q[z])` without the part that the noise of the means adds."""
    return jnp.maximum(jnp.var(means, axis=0, ddof=1) - jnp.mean(squared_errors, axis=0), 0)


@eqx.filter_jit
def _mutual_information(
    model, rows, z: Float[Array, "n draws ..."] | Array, log_q: Float[Array, "n draws"], dtype
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`E[log q(z | x) - log q(z)]` with `q(z) = (1/n) sum_j q(z | x_j)`, and its error: the spread of its terms."""
    num = len(rows)
    points = z.reshape(-1, *z.shape[2:])
    batch_size = max(1, min(num, _MIXTURE_NUMBERS // max(1, points.size)))
    padding = -num % batch_size
    padded = jnp.concatenate([rows, jnp.broadcast_to(rows[:1], (padding, *rows.shape[1:]))])
    is_real = (jnp.arange(num + padding) < num).reshape(-1, batch_size)

    def at_points(x):  # the example is encoded once for all points
        posterior = model.posterior(model.space.cast(x, dtype))
        return jax.vmap(posterior.log_prob)(points)

    def add(total, inputs):
        x, is_real = inputs
        log_density = jnp.where(is_real[:, None], jax.vmap(at_points)(x), -jnp.inf)
        return jnp.logaddexp(total, logsumexp(log_density, axis=0)), None

    start = jnp.full(len(points), -jnp.inf, log_q.dtype)
    total, _ = jax.lax.scan(add, start, (padded.reshape(-1, batch_size, *rows.shape[1:]), is_real))
    return mean_and_error(log_q.reshape(-1) - (total - math.log(num)))
