from ..bijections import unbounded
from ..core import AbstractDistribution
from ..distributions import Normal, ProductDistribution, Uniform
from ..spaces import AbstractSpace


def base_for(space: AbstractSpace) -> AbstractDistribution:
    """The natural base of a flow onto `space`: standard normal, uniform on circles, or the product of both.

    `lnz.Transformed(lnz.flows.base_for(space), lnz.flows.coupling_spline(space, key=key))` is a flow on `space`. The
    base lives where the layers work: on `R^n` for bounded and positive variables.

    **Arguments:**

    - `space`: a space with unbounded coordinates, such as `Euclidean`, `Interval`, `Positive`, `Torus` or a `Product`.

    **Raises:** `TypeError` for another space.
    """
    inner = unbounded(space)
    parts = [_base(part) for part in inner.parts]
    return parts[0] if len(parts) == 1 else ProductDistribution(*parts)


def _base(part: AbstractSpace) -> AbstractDistribution:
    return Uniform(part) if part.periodic else Normal.standard(part.shape)
