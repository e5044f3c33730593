"""Brackets: a lower and an upper estimate of one log normaliser."""

import equinox as eqx
import jax.numpy as jnp

from ._estimate import Estimate, _is_known
from ._student import student_quantile


class Bracket(eqx.Module):
    """A two-sided statement about a log integral in nats: `[lower - t s.e., upper + t s.e.]`.

    Without its errors the pair contains the truth only in a minority of draws, and less often the better the estimates
    get, because the bias of each side is small. So `interval` widens each side by t standard errors, with the quantile
    t of Student's distribution at the level of two standard deviations (2, and more for few draws). If the widened
    sides cross, the lower one above the upper one, `interval` is the hull of both sides' own intervals, and the
    bracket is not `reliable`.

    `assumes` joins the assumptions of both sides. `of` names the quantity in words, unless it is the log normaliser of
    a density chosen by the caller.
    """

    lower: Estimate
    upper: Estimate
    of: str = eqx.field(static=True, default="")

    def __check_init__(self):
        for side, allowed in (("lower", ("lower", "exact")), ("upper", ("upper", "exact", "estimate"))):
            estimate = getattr(self, side)
            if estimate.bound not in allowed:
                raise ValueError(
                    f"`Bracket({side}=...)` must have bound {' or '.join(allowed)}; got {estimate.bound!r}."
                )
        if self.upper.bound == "estimate" and not self.upper.assumes:
            raise ValueError(
                "`Bracket(upper=...)` with bound 'estimate' must say in `assumes` when it is an upper bound."
            )

    @property
    def interval(self) -> tuple[float, float]:
        (low, above), (below, high) = self.lower.interval(), self.upper.interval()
        return (min(low, below), max(above, high)) if low > high else (low, high)

    @property
    def width(self) -> float:
        low, high = self.interval
        return high - low

    @property
    def assumes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.lower.assumes + self.upper.assumes))

    @property
    def disagreement(self) -> str | None:
        """A sentence if the sides cross by more than their errors and rounding, else `None`."""
        gap = self.lower.interval()[0] - self.upper.interval()[1]
        eps = max(float(jnp.finfo(side.value.dtype).eps) for side in (self.lower, self.upper))
        rounding = 64 * eps * (1 + abs(float(self.upper.value)))
        if not gap > rounding:
            return None
        apart = float(self.lower.value) - float(self.upper.value)
        return f"the lower side lies {apart:.2g} nats above the upper one, more than their errors: one of them is wrong"

    @property
    def doubts(self) -> list[str]:
        """Reasons not to trust the bracket: the doubts of both sides and their `disagreement`. Empty if reliable."""
        crossed = self.disagreement
        return self.lower.doubts + self.upper.doubts + ([] if crossed is None else [crossed])

    @property
    def reliable(self) -> bool:
        """Whether both sides are reliable and agree with each other."""
        return not self.doubts

    def __str__(self) -> str:
        low, high = self.interval
        words = f"{self.of}: " if self.of else ""
        words += f"[{low:.4f}, {high:.4f}] nats (width {self.width:.2g}, {self.how}"
        words += "".join(f", assumes {what}" for what in self.assumes)
        return words + "".join(f", UNRELIABLE: {doubt}" for doubt in self.doubts) + ")"

    def __repr__(self) -> str:
        """The short form, for a notebook or a tuple; `print` shows more."""
        if not all(isinstance(side, Estimate) and _is_known(side) for side in (self.lower, self.upper)):
            return super().__repr__()
        low, high = self.interval
        return f"Bracket([{low:.4f}, {high:.4f}] nats{', UNRELIABLE' if self.doubts else ''})"

    @property
    def how(self) -> str:
        """How `interval` was computed from the two sides, in words."""
        if self.lower.interval()[0] > self.upper.interval()[1]:
            return "the hull of both sides, which cross"
        t = [f"{float(student_quantile(side.degrees_of_freedom)):.2g}" for side in (self.lower, self.upper)]
        return f"each side widened by {t[0]} s.e." if t[0] == t[1] else f"widened by {t[0]} and {t[1]} s.e."
