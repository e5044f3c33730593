import types
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import need_key
from ..spaces import AbstractSpace, Euclidean, check_kind
from ._bijection import AbstractSelfMap

Adjoint = Literal["checkpoint", "backsolve", "forward"]


class Continuous(AbstractSelfMap):
    """`x(0) -> x(1)` along `dx/dt = v(t, x)`: the base at time 0, data at time 1.

    `log |det dx(1)/dx(0)| = int_0^1 tr(dv/dx) dt`, solved together with x by diffrax (`pip install "lnz[ode]"`). The
    inverse runs from time 1 to 0. Both directions cost as many evaluations of v as the tolerances need. The tolerances
    hold for each step; errors of a whole solve add up to more. So round trips and log-determinants are inexact;
    `lnz.evaluate` reports an error near the tolerance as an assumption.

    **Arguments:**

    - `space`: of vectors `[n]`.
    - `vector_field`: v, smooth, from a time `[]` and `[n]` to `[n]`, such as `lnz.nets.TimeMLP(n, key=key)`.
    - `divergence`: `"exact"` or `"hutchinson"`, which needs a key: see the field.
    - `rtol`, `atol`: relative and absolute tolerance of a step.
    - `solver`: `"tsit5"` (order 5), or `"dopri8"` (order 8) for tolerances below 1e-8.
    - `adjoint`: how derivatives are computed, `"checkpoint"`, `"backsolve"` or `"forward"`: see the field.
    - `max_steps`: needing more is a run-time error: v is too stiff, or the tolerance too tight for its precision.

    **Raises:** `ImportError` without diffrax; `ValueError` if `divergence="hutchinson"` gets no key.

    Source: Chen et al. (2018), theorem 1 (arXiv:1806.07366); Grathwohl et al. (2019), section 3; arXiv:1810.01367.
    """

    space: AbstractSpace = eqx.field(static=True)
    vector_field: Callable
    divergence: Literal["exact", "hutchinson"] = eqx.field(static=True, default="exact")
    """How the trace `tr(dv/dx)` is computed.

    - `"exact"`: from n products with the Jacobian.
    - `"hutchinson"`: `e' (dv/dx) e` with one vector e of random signs for the whole solve. It needs a key and is
      unbiased as a logarithm.
    """
    rtol: float = eqx.field(static=True, default=1e-5)
    atol: float = eqx.field(static=True, default=1e-5)
    solver: Literal["tsit5", "dopri8"] = eqx.field(static=True, default="tsit5")
    adjoint: Adjoint = eqx.field(static=True, default="checkpoint")
    """How derivatives are computed.

    - `"checkpoint"`: the exact gradient of the computed solution, in reverse mode.
    - `"backsolve"`: the adjoint equation solved backwards, in constant memory but with an error of its own (Chen et al.
      2018).
    - `"forward"`: forward mode only (`jax.jvp`, `jax.jacfwd`).
    """
    max_steps: int = eqx.field(static=True, default=4096)

    def __check_init__(self):
        if len(self.space.shape) != 1:
            raise ValueError(f"`Continuous(space)` needs vectors, such as `lnz.Euclidean(n)`; got {self.space}.")
        check_kind(self.space, Euclidean, "Continuous(space)")
        choices = {
            "divergence": ("exact", "hutchinson"),
            "solver": ("tsit5", "dopri8"),
            "adjoint": ("checkpoint", "backsolve", "forward"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                words = " or ".join(map(repr, allowed))
                raise ValueError(f"`Continuous({name}=...)` must be {words}; got {getattr(self, name)!r}.")
        for name in ("rtol", "atol", "max_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`Continuous({name}=...)` must be positive; got {getattr(self, name)}.")
        _diffrax()

    @property
    def stochastic(self) -> bool:
        return self.divergence == "hutchinson"

    def exact(self) -> "Continuous":
        return Continuous(
            self.space, self.vector_field, "exact", self.rtol, self.atol, self.solver, self.adjoint, self.max_steps
        )

    @property
    def assumptions(self) -> tuple[str, ...]:
        tolerance = f"{self.rtol:g}" if self.rtol == self.atol else f"{self.rtol:g} (relative) and {self.atol:g}"
        return (f"ODE error near the tolerance {tolerance}",)

    def velocity(self, t: Float[Array, ""], x: Array) -> Array:
        return _velocity(self.vector_field, t, x)

    def forward_and_log_det(self, x: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        return self._solve(self.space.check_example(x), key, 0.0, 1.0)

    def inverse_and_log_det(self, y: Array, *, key: PRNGKeyArray | None = None) -> tuple[Array, Float[Array, ""]]:
        return self._solve(self.space.check_example(y, "y"), key, 1.0, 0.0)

    def _solve(self, x, key, start, end):
        diffrax = _diffrax()
        probe = None
        if self.stochastic:
            key = need_key(key, "Continuous(divergence='hutchinson')")
            probe = jr.rademacher(key, x.shape, x.dtype)
        adjoints = {
            "checkpoint": diffrax.RecursiveCheckpointAdjoint,
            "backsolve": diffrax.BacksolveAdjoint,
            "forward": diffrax.ForwardMode,
        }
        solvers = {"tsit5": diffrax.Tsit5, "dopri8": diffrax.Dopri8}
        # diffrax mixes dtypes and ranks, which fails under JAX's strict promotion, if the user chose it. x and the
        # vector field keep their dtypes.
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            solution = diffrax.diffeqsolve(
                diffrax.ODETerm(_velocity_and_divergence),
                solvers[self.solver](),
                jnp.asarray(start, x.dtype),
                jnp.asarray(end, x.dtype),
                None,
                (x, jnp.zeros((), x.dtype)),
                (self.vector_field, probe),
                stepsize_controller=diffrax.PIDController(rtol=self.rtol, atol=self.atol),
                adjoint=adjoints[self.adjoint](),
                max_steps=self.max_steps,
            )
        x, log_det = solution.ys
        return x[0], log_det[0]


def _velocity(vector_field: Callable, t: Array, x: Array) -> Array:
    velocity = vector_field(t, x)
    if velocity.shape != x.shape:
        raise ValueError(f"`Continuous(vector_field=...)` must return the shape of x, {x.shape}; got {velocity.shape}.")
    return velocity


def _velocity_and_divergence(t, state, args):
    """`v` and `tr(dv/dx)`, or its estimate: the time derivatives of x and of the log-determinant."""
    vector_field, probe = args
    x, _ = state

    def v(x):
        return _velocity(vector_field, t, x)

    if probe is not None:
        velocity, pushed = jax.jvp(v, (x,), (probe,))
        return velocity, jnp.sum(probe * pushed)
    velocity, push = jax.linearize(v, x)
    return velocity, jnp.trace(jax.vmap(push)(jnp.eye(x.shape[0], dtype=x.dtype)))


def _diffrax() -> types.ModuleType:
    try:
        import diffrax
    except ImportError as error:
        raise ImportError(f'Continuous flows need `pip install "lnz[ode]"` ({error}).') from error
    return diffrax
