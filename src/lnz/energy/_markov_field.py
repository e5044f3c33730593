import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from .. import distributions
from ..core import (
    AbstractBlockDensity,
    AbstractDensity,
    AbstractDistribution,
    AbstractModel,
    AbstractPath,
    Known,
    cannot_hold,
    scale_ratio,
)
from ..modules import replace
from ..spaces import Categorical

# Whose connections are searched one by one.
_FEW_STATES = 2**16


class MarkovField(AbstractBlockDensity, AbstractModel):
    """Discrete Markov random field, `p(x) = exp(-E(x) / T) / Z`, `E(x) = sum_C potential_C(x_C)`.

    Sites of one colour of the clique graph are independent given the rest, so a Gibbs sweep takes one step for each
    colour, not for each site.

    **Arguments:**

    - `num_sites`, `num_categories`: examples are integers in `{0, ..., num_categories - 1}^num_sites`.
    - `cliques`: tuples of distinct sites. The empty tuple is a constant energy.
    - `potentials`: for each clique, a table of energies with one axis of length `num_categories` for each site;
      infinity marks impossible states. Where float32 would cut the differences within a float64 table, the lowest
      energy of the table moves into an additional clique without sites.
    - `temperature`: T, fixed.

    **Raises:** `ValueError` if a table does not fit its clique.

    Source: Geman and Geman (1984), section 4.
    """

    space: Categorical = eqx.field(static=True)
    cliques: tuple[tuple[int, ...], ...] = eqx.field(static=True)
    potentials: tuple[Float[Array, "..."], ...]
    temperature: float = eqx.field(static=True)

    def __init__(
        self,
        num_sites: int,
        num_categories: int,
        cliques: Sequence[tuple[int, ...]],
        potentials: Sequence,
        temperature: float = 1.0,
    ):
        self.space = Categorical(num_sites, num_categories)
        tables, constant = _without_offsets(potentials)
        constants = () if constant == 0 else (constant,)
        self.cliques = (*(tuple(int(site) for site in clique) for clique in cliques), *((),) * len(constants))
        self.potentials = tuple(jnp.asarray(table, jnp.result_type(float)) for table in (*tables, *constants))
        self.temperature = float(temperature)

    def __check_init__(self):
        (num_sites,), num_categories = self.space.shape, self.space.num_categories
        if not self.temperature > 0:
            raise ValueError(f"`MarkovField(temperature=...)` must be positive; got {self.temperature}.")
        if len(self.cliques) != len(self.potentials):
            raise ValueError(
                f"`MarkovField(cliques, potentials)` needs one table a clique; got {len(self.cliques)} cliques and "
                f"{len(self.potentials)} tables."
            )
        for clique, table in zip(self.cliques, self.potentials, strict=True):
            if len(set(clique)) != len(clique) or not all(0 <= site < num_sites for site in clique):
                raise ValueError(
                    f"`MarkovField(cliques=...)`: {clique} must name distinct sites from 0 to {num_sites - 1}."
                )
            if table.shape != (num_categories,) * len(clique):
                raise ValueError(
                    f"`MarkovField(potentials=...)`: the table of clique {clique} must have shape "
                    f"{(num_categories,) * len(clique)}; got {table.shape}."
                )

    def energy(self, x: Array) -> Float[Array, ""]:
        """`E(x) = sum_C potential_C(x_C)` of ONE example."""
        x = self.space.check_example(x).astype(jnp.int32)
        terms = [table[tuple(x[site] for site in clique)] for clique, table in self._terms()]
        return jnp.sum(jnp.stack(terms)) if terms else jnp.zeros(())

    def log_density(self, x: Array) -> Float[Array, ""]:
        return -self.energy(x) / self.temperature

    def numerator(self, x: Array, observed: Array | None = None) -> AbstractDensity:
        """`-E(x) / T`, with energies relative to the lowest, as in `denominator`."""
        if observed is not None:
            raise cannot_hold(self)
        return Known(self.denominator().log_density(x))

    def denominator(self) -> "MarkovField":
        """The field with the lowest energy of every table set to 0: in float32, a large energy would swallow digits."""
        lowest = [jnp.min(table, initial=jnp.inf, where=jnp.isfinite(table)) for table in self.potentials]
        lowest = [jax.lax.stop_gradient(jnp.where(jnp.isfinite(one), one, 0)) for one in lowest]
        tables = tuple(table - one for table, one in zip(self.potentials, lowest, strict=True))
        return replace(self, potentials=tables)

    def _terms(self):
        return zip(self.cliques, self.potentials, strict=True)

    @property
    def colours(self) -> tuple[tuple[int, ...], ...]:
        """Sites in groups that share no clique, found greedily."""
        (num_sites,) = self.space.shape
        neighbours = [set() for _ in range(num_sites)]
        for clique in self.cliques:
            for site in clique:
                neighbours[site].update(set(clique) - {site})
        colour_of: dict[int, int] = {}
        for site in range(num_sites):
            taken = {colour_of[other] for other in neighbours[site] if other in colour_of}
            colour_of[site] = next(colour for colour in range(num_sites) if colour not in taken)
        num_colours = max(colour_of.values()) + 1
        return tuple(
            tuple(site for site in range(num_sites) if colour_of[site] == colour) for colour in range(num_colours)
        )

    @property
    def num_blocks(self) -> int:
        return len(self.colours)

    def split(self, x: Array) -> tuple[Array, ...]:
        return tuple(x[np.array(sites)] for sites in self.colours)

    def join(self, blocks: tuple[Array, ...]) -> Array:
        order = np.argsort(np.concatenate([np.array(sites) for sites in self.colours]))
        return jnp.concatenate(blocks)[order]

    def conditional(self, index: int, blocks: tuple[Array, ...]) -> AbstractDistribution:
        x = self.join(blocks)
        energies = [jnp.zeros(self.space.num_categories, jnp.result_type(float)) for _ in self.colours[index]]
        place = {site: i for i, site in enumerate(self.colours[index])}
        for clique, table in self._terms():
            for site in set(clique) & set(place):
                others = tuple(slice(None) if other == site else x[other] for other in clique)
                energies[place[site]] = energies[place[site]] + table[others]
        logits = -jnp.stack(energies) / self.temperature
        # Where the others leave a site no possible value, allow any: a chain that starts at an impossible state can
        # then leave it.
        is_stuck = jnp.all(logits == -jnp.inf, axis=-1, keepdims=True)
        return distributions.Categorical(jnp.where(is_stuck, 0, logits))

    def not_connected(self) -> str | None:
        """In words, why changes of single sites may not lead from every possible state to every other.

        They do where each site has a value that is possible beside all others, for all sites can move there in turn. Of
        at most 2^16 states, those that are reached from one are counted. `None` also where tables are not known yet.
        """
        if any(isinstance(table, Tracer) for table in self.potentials):
            return None
        (num_sites,), num_categories = self.space.shape, self.space.num_categories
        tables = [(sites, np.asarray(table) < np.inf) for sites, table in self._terms() if sites]
        if num_categories == 1 or all(_has_free_value(site, tables) for site in range(num_sites)):
            return None
        if num_categories**num_sites > _FEW_STATES:
            return (
                "some sites have no value that is possible beside all values of the others, and there are too many "
                f"states to see whether changes of one site at a time lead from each to each ({type(self).__name__})"
            )
        possible = np.ones((num_categories,) * num_sites, bool)
        for sites, table in tables:
            shape = [num_categories if site in sites else 1 for site in range(num_sites)]
            possible &= table.transpose(np.argsort(sites)).reshape(shape)
        reached = np.zeros_like(possible)
        reached.flat[np.argmax(possible)] = possible.any()
        num = 0
        while num < (num := int(reached.sum())):
            for site in range(num_sites):
                reached |= possible & reached.any(axis=site, keepdims=True)
        if num == possible.sum():
            return None
        return (
            f"of {possible.sum()} possible states, changes of one site at a time lead from one to only {num}, "
            f"because of infinite energies ({type(self).__name__})"
        )

    def own_path(self) -> AbstractPath:
        return MarkovFieldPath(self)


def _has_free_value(site: int, tables: list[tuple[tuple[int, ...], Any]]) -> bool:
    """Whether a site has a value that is possible beside all values of the other sites."""
    free = [
        table.all(axis=tuple(axis for axis, other in enumerate(sites) if other != site))
        for sites, table in tables
        if site in sites
    ]
    return not free or bool(np.any(np.all(free, axis=0)))


def _without_offsets(potentials: Sequence) -> tuple[list[Any], float]:
    """The tables, less their lowest energy where digits would be cut, and the sum of the energies taken out."""
    dtype, tables, constant = jnp.result_type(float), [], 0.0
    for table in potentials:
        if not isinstance(table, jax.Array):
            table = np.asarray(table, np.float64)
            known = table[np.isfinite(table)]
            lowest = known.min(initial=np.inf)
            cut = np.max(np.abs(known.astype(dtype) - known), initial=0)
            if cut > float(jnp.finfo(dtype).eps) * np.max(known - lowest, initial=0) > 0:
                table, constant = table - lowest, constant + float(lowest)
        tables.append(table)
    return tables, constant


class MarkovFieldPath(AbstractPath):
    """From uniform (infinite temperature) to `target`, all energies multiplied by beta.

    Infinite energies apply from the first beta above 0: chains that start at impossible states have weight zero.
    """

    target: MarkovField

    @property
    def start(self) -> AbstractDistribution:
        space = self.target.space
        return distributions.Categorical(jnp.zeros((*space.shape, space.num_categories)))

    def _log_num_points(self) -> float:
        space = self.target.space
        return space.size * math.log(space.num_categories)  # 2**64 points overflow NumPy's integers

    def at(self, beta: Float[Array, ""] | float) -> MarkovField:
        target = self.target
        # A clique of no sites is the constant that makes at(0) normalised.
        constant = jnp.asarray((1 - beta) * self._log_num_points() * target.temperature, jnp.result_type(float))
        return MarkovField(
            target.space.shape[0],
            target.space.num_categories,
            (*target.cliques, ()),
            (*(scale_ratio(beta, table) for table in target.potentials), constant),  # also for infinite energies
            target.temperature,
        )

    def log_ratio(self, beta0: Float[Array, ""] | float, beta1: Float[Array, ""] | float, x: Array) -> Float[Array, ""]:
        return scale_ratio(beta1 - beta0, self.target.log_density(x) + self._log_num_points())
