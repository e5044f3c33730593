"""Diagnostics of latent-variable models: the losses in the bound, and the use of the latents."""

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
_USED = 0.01  # this variance as a share of the variance of all codes, independent of the unit of the latents
_COLLAPSED = 0.1  # nats of KL divergence, or of mutual information
_NUM_MIXTURE_DRAWS = 4096  # draws over all examples for the mutual information, at least
_MIXTURE_NUMBERS = 2**22  # numbers held in memory for the mutual information
_UNRELIABLE_BY_CHANCE = 0.05


class PosteriorCollapseWarning(UserWarning):
    """The approximate posterior carries little or no information on the examples: the decoder ignores the latents."""


@dataclasses.dataclass(frozen=True)
class LatentDiagnostics:
    """The bound of a latent-variable model in parts, in nats per example. See `docs/vae.md`.

    - `log_likelihood`: the importance-weighted bound (IWAE-K, K = `num_samples`), a lower bound on log p(x).
    - `elbo`: `reconstruction - kl`, also a lower bound.
    - `reconstruction`: `E_q[log p(x | z)]`.
    - `kl`: `KL(q(z | x) || p(z))`, the sum of the next two. Exact if it has a closed form.
    - `mutual_information`: `I_q(x; z)`; a lower bound for the population, at most log n.
    - `marginal_kl`: `KL(q(z) || p(z))` of the aggregate posterior; an upper bound for the population.
    - `gap`: `log_likelihood - elbo`, a lower bound on the inference gap `KL(q(z | x) || p(z | x))`.
    - `amortisation_gap`: the part of it that posteriors fitted to each of `num_refined` examples would close; a lower
      bound, or `None`.
    - `variances`: `Var_x(E_q[z])` per latent; `num_active` are above 0.01, for latents of unit variance.
    - `shares`: `Var_x(E_q[z]) / (Var_x(E_q[z]) + E_x Var_q[z])`, free of units; `num_used` are above 0.01. Warnings of
      collapse use these.
    - `data_errors`: standard errors from the choice of examples, by field. `standard_error` of a field is the Monte
      Carlo error alone.
    - `num`, `num_samples`: examples, and draws per example.
    - `warnings`: sentences.
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
    """Measures the losses in the bound of a latent-variable model, and whether its latents are used.

    Reports the ELBO and the importance-weighted bound. Splits the gap between the ELBO and `log p(x)`, which is
    `KL(q(z | x) || p(z | x))`, and the KL divergence from the prior into parts, which `docs/vae.md` explains.

    **Arguments:**

    - `data`: examples `[n, *model.space.shape]`, n at least 2. The mutual information takes n^2 posterior densities.
    - `num_samples`: draws per example, the K of IWAE-K.
    - `refine_steps`: steps of Adam that fit the posterior of one example, starting from the encoder's output. 0 leaves
      out the amortisation gap.
    - `num_refined`: the most examples to refine, drawn from all.
    - `batch_size`: examples processed at a time, with 128 draws each.

    **Returns:** a `LatentDiagnostics`; print it.

    **Raises:** `TypeError` for other models, or a prior known only up to a constant; `ValueError` for a model without
    an encoder.

    Source: Burda, Grosse and Salakhutdinov (2016), equation 8 and section 5.2 (active units); arXiv:1509.00519. Hoffman
    and Johnson (2016) for the two parts of the KL divergence, Poole et al. (2019) for the direction of the mutual
    information (arXiv:1905.06922), Cremer, Li and Duvenaud (2018) for the gaps (arXiv:1801.03558).
    """
    key_draws, key_subset, key_refine = jr.split(check_key(key), 3)
    if not isinstance(model, AbstractLatentModel):
        raise TypeError(f"`model` must have latent variables, such as a VAE; got {type(model).__name__}.")
    if not isinstance(model.prior, AbstractDistribution):
        raise TypeError(
            f"`model.prior` must be a distribution that can be sampled exactly and has a log-density; got "
            f"{type(model.prior).__name__}. Its log Z is unknown, and so is every bound. Use `lnz.evaluate(key, "
            "model, data, partition=..., hidden=...)`."
        )
    if check_positive(num_samples, "num_samples") < 2:
        raise ValueError("`num_samples` must be at least 2 for an error bar; got 1.")
    check_positive(num_refined, "num_refined")
    check_positive(batch_size, "batch_size")
    if refine_steps != 0:
        check_positive(refine_steps, "refine_steps")
    there = local(model)
    rows = jnp.asarray(there.check_and_move(data))
    if len(rows) < 2:
        raise ValueError("`data` must have at least 2 examples, to measure variances over examples; got 1.")
    model, dtype = there.model, model_dtype(model)
    posterior = model.posterior(model.space.cast(rows[0], dtype))
    if posterior is None:
        raise ValueError(f"`diagnose` needs an approximate posterior (an encoder); {type(model).__name__} has none.")

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
    with np.errstate(invalid="ignore"):  # infinity over infinity: rows that are not finite are reported below
        shares = variances / np.maximum(variances + np.asarray(jnp.mean(parts["inner"], axis=0)), tiny)
    result = LatentDiagnostics(
        log_likelihood=log_likelihood,
        elbo=elbo,
        reconstruction=_mean(*parts["reconstruction"], bound="unbiased"),
        kl=kl,
        mutual_information=mutual_information,
        marginal_kl=kl - mutual_information,
        # The subtrahend is an unbiased estimate of the ELBO, not a bound.
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
    # Collapse cannot be judged by numbers that are not finite.
    collapse, notes = [] if faults else _collapse(result), [*faults, *_unreliable(likelihood, num_samples)]
    for warning in collapse:
        warnings.warn(f"diagnose: {warning}", PosteriorCollapseWarning, stacklevel=2)
    return dataclasses.replace(result, warnings=(*collapse, *notes))


def _mean(values: Float[Array | np.ndarray, " n"], errors: Float[Array | np.ndarray, " n"], bound: Bound) -> Estimate:
    """The mean of numbers with independent errors."""
    return Estimate(jnp.mean(values), jnp.sqrt(jnp.sum(errors**2)) / len(values), bound)


def _data_error(values: Float[np.ndarray, " n"]) -> float:
    with np.errstate(invalid="ignore"):  # NaN for values that are not finite
        return float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def _collapse(result: LatentDiagnostics) -> list[str]:
    num_used, num_units, kl = result.num_used, result.shares.size, float(result.kl.value)
    information = float(result.mutual_information.value)
    advice = (
        "Try a KL weight that rises from zero over the first epochs, free bits, a decoder that is weaker without z, or "
        "a smaller learning rate"
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
            f"examples. {advice}; or use fewer latent variables, at no loss."
        ]
    return []


def _unreliable(likelihood: Estimate, num_samples: int) -> list[str]:
    num = len(likelihood.value)
    bad = int(np.sum(likelihood.unreliable_rows()))
    if bad <= _UNRELIABLE_BY_CHANCE * num:
        return []
    return [
        f"IWAE-{num_samples}: {bad} of {num} examples have too few effective weights, so its error bar is too small. "
        "It is still a lower bound; more draws, or a wider posterior, make it tighter."
    ]


@eqx.filter_jit
def _draws(key, model, rows, num_samples: int, batch_size: int, dtype) -> dict[str, Any]:
    """All averages over draws of each example's posterior; each example is encoded once."""
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
    """`Var_x(E_q[z])`, less the variance that the noise of the means adds."""
    return jnp.maximum(jnp.var(means, axis=0, ddof=1) - jnp.mean(squared_errors, axis=0), 0)


@eqx.filter_jit
def _mutual_information(
    model, rows, z: Float[Array, "n draws ..."] | Array, log_q: Float[Array, "n draws"], dtype
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """`E[log q(z | x) - log q(z)]` with `q(z) = (1/n) sum_j q(z | x_j)`, and its error from the spread of its terms."""
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
