"""Which sampler moves which variables."""

from ..spaces import AbstractSpace


def moved_parts(space: AbstractSpace) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of the parts of `space` with proposals, and of those with unconstrained coordinates."""
    parts = [(i, part) for i, part in enumerate(space.parts) if part.size > 0]
    discrete = tuple(i for i, part in parts if part.propose is not None)
    continuous = tuple(i for i, part in parts if part.propose is None and part.unbounded is not None)
    return discrete, continuous


def fitting_sampler(space: AbstractSpace) -> str | None:
    """The name of the sampler that moves all variables of `space`; `None` if there is none."""
    if space.propose is not None and space.size > 0:  # without variables nothing can move
        return "Metropolis"
    if space.unbounded is not None:
        return "HMC"
    discrete, continuous = moved_parts(space)
    are_all = len(discrete) + len(continuous) == sum(part.size > 0 for part in space.parts)
    return "InTurn" if discrete and continuous and are_all else None


def advice_on_sampler(space: AbstractSpace) -> str:
    """Which sampler to try on `space`, or how to do without."""
    name = fitting_sampler(space)
    if name is not None:
        return f"Try `lnz.samplers.{name}()`."
    return (
        f"No sampler fits the variables of {space}: pass a `sampler` of your own. `lnz.log_normalizer` needs none "
        "with `lnz.normalizers.Importance()`."
    )
