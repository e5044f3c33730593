from typing import Any

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ..core import AbstractDensity, AbstractSampler
from ..spaces import AbstractSpace, Record
from ._fitting import advice_on_sampler, moved_parts
from ._hmc import HMC
from ._metropolis import Metropolis


class InTurnState(eqx.Module):
    position: Array
    log_density: Float[Array, ""]


class InTurn(AbstractSampler):
    """Moves discrete variables given the continuous ones, then continuous variables given the discrete ones.

    The default on spaces with variables of both kinds, such as `Record(s=Binary(()), x=Euclidean(3))`. Each move leaves
    its conditional density invariant, so both together leave the density invariant. Their order is not reversible.

    `info["acceptance"]` is that of the continuous move, `info["discrete_acceptance"]` that of the discrete one.

    **Arguments:**

    - `discrete`: sampler of the discrete variables.
    - `continuous`: sampler of the continuous variables. A free step size of `HMC` is adapted as if it stood alone.

    Source: Tierney (1994), section 2.4, for moves in turn.
    """

    discrete: AbstractSampler = Metropolis()
    continuous: AbstractSampler = HMC()

    def __check_init__(self):
        for name in ("discrete", "continuous"):
            if not isinstance(getattr(self, name), AbstractSampler):
                raise TypeError(
                    f"`InTurn({name}=...)` must be a sampler such as `lnz.samplers.HMC()`; got {getattr(self, name)!r}."
                )

    def init(self, key: PRNGKeyArray, density: AbstractDensity, position: Array) -> InTurnState:
        if not all(moved_parts(density.space)):
            raise TypeError(
                f"`InTurn` needs a density of discrete and continuous variables; got {density.space}. "
                f"{advice_on_sampler(density.space)}"
            )
        return InTurnState(position, density.log_density(position))

    def refresh(self, density: AbstractDensity, state: InTurnState) -> InTurnState:
        return InTurnState(state.position, density.log_density(state.position))

    def step(
        self, key: PRNGKeyArray, density: AbstractDensity, state: InTurnState
    ) -> tuple[InTurnState, dict[str, Array]]:
        keys = jr.split(key, (2, 2))
        x, info = state.position, {}
        moves = zip(("discrete_acceptance", "acceptance"), (self.discrete, self.continuous), strict=True)
        for (key_init, key_step), (name, sampler), which in zip(keys, moves, moved_parts(density.space), strict=True):
            some = _Some(density, x, which)
            start = sampler.init(key_init, some, some.own)
            moved, found = sampler.step(key_step, some, start)
            x = some.whole(moved.position)
            info |= {name: found["acceptance"]} if "acceptance" in found else {}
        return InTurnState(x, density.log_density(x)), info


class _Some(AbstractDensity):
    """The parts `which` of a vector, given the others."""

    density: AbstractDensity
    position: Array
    which: tuple[int, ...] = eqx.field(static=True)

    @property
    def space(self) -> AbstractSpace:
        return Record(**{f"part_{i}": self.density.space.parts[i] for i in self.which})

    @property
    def own(self) -> Array:
        pieces = self.density.space.split(self.position)
        return self.space.cast(self.space.join([pieces[i] for i in self.which]), self.position.dtype)

    def whole(self, x: Array) -> Array:
        pieces: dict[int, Any] = dict(enumerate(self.density.space.split(self.position)))
        pieces.update(zip(self.which, self.space.split(x), strict=True))
        return self.density.space.join(list(pieces.values())).astype(self.position.dtype)

    def log_density(self, x: Array) -> Float[Array, ""]:
        return self.density.log_density(self.whole(x))
