from ..bijections import unbounded
from ..core import AbstractDistribution
from ..distributions import Normal, ProductDistribution, Uniform
from ..spaces import AbstractSpace, Product, Torus


def base_for(space: AbstractSpace) -> AbstractDistribution:
    """The natural base of a flow onto `space`: standard normal, uniform on circles, or the product of both.

    `lnz.Transformed(lnz.flows.base_for(space), lnz.flows.coupling_spline(space, key=key))` is a flow on `space`. Its
    base lives where the layers work, which is `R^n` for bounded and positive variables.

    **Arguments:**

    - `space`: `Euclidean`, `Interval`, `Positive`, `Torus`, or a `Product` of those.

    **Raises:** `TypeError` for another space.
    """
    inner = unbounded(space)
    parts = [_base(part) for part in (inner.spaces if isinstance(inner, Product) else (inner,))]
    return parts[0] if len(parts) == 1 else ProductDistribution(*parts)


def _base(part: AbstractSpace) -> AbstractDistribution:
    return Uniform(part) if isinstance(part, Torus) else Normal.standard(part.shape)
