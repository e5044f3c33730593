"""Attribute vectors: directions of a latent space along which one attribute of the examples changes."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray

from ..core import AbstractLatentModel
from ..modules import as_numbers
from ._logistic import LogisticRegression
from ._tools import decode, embed

Judge = Callable[[np.ndarray], Any]

Method = Literal["mean_difference", "balanced", "linear_classifier"]


def attribute_vector(
    z: Any, labels: Any, *, method: Method = "mean_difference", other: Any = None, penalty: float = 1e-3
) -> Float[np.ndarray, "..."]:
    """The latent direction in which an attribute grows, `[*latent]`: a step from latents without it to latents with it.

    - `"mean_difference"`: the mean latent with the attribute minus the mean latent without. It includes whatever goes
      with the attribute in the data.
    - `"balanced"`: the average of such differences within each class of another attribute `other`, all classes counted
      equally, so that anything the two attributes share in the data is left out. Classes with one value are skipped.
    - `"linear_classifier"`: the normal of the hyperplane that best separates the two groups, by penalised logistic
      regression on standardised latents. Its length is the difference of means along it, so it is shorter.

    **Arguments:**

    - `z`: latents `[n, ...]`, as from `embed`.
    - `labels`: whether each has the attribute, `[n]`, true and false or 1 and 0.
    - `other`: classes of another attribute `[n]`, for `"balanced"`.
    - `penalty`: for `"linear_classifier"`; `penalty / 2 |w|^2`, w the standardised weights, is added to the mean
      negative log-likelihood in nats.

    **Raises:** `ValueError` if all or none have the attribute, no class of `other` has both, or a latent is not finite.

    Source: Larsen et al. (2016), arXiv:1512.09300. White (2016), arXiv:1609.04468, balances by replicating data.
    """
    z = np.asarray(as_numbers(z, "z"))
    shape, dtype = z.shape[1:], z.dtype if z.dtype.kind == "f" else np.dtype(np.float32)
    flat = z.reshape(len(z), -1).astype(np.float64)
    if not np.isfinite(flat).all():
        raise ValueError("`z` must be finite; some latents are not.")
    has = _as_bits(labels, len(flat), "labels")
    if (other is None) == (method == "balanced"):
        raise ValueError(
            f"`other=...` is for `method='balanced'`, which needs it; got method={method!r} and "
            f"{'no other attribute' if other is None else 'another attribute'}."
        )
    if method == "mean_difference":
        vector = _difference(flat, has)
    elif method == "balanced":
        classes = np.asarray(other)
        if classes.shape != has.shape:
            raise ValueError(f"`other` must have a class for each of the {len(flat)} rows; got shape {classes.shape}.")
        groups = [classes == value for value in np.unique(classes)]
        both = [rows for rows in groups if 0 < has[rows].sum() < rows.sum()]
        if not both:
            raise ValueError("`other`: no class has rows both with and without the attribute, so nothing is balanced.")
        vector = np.mean([_difference(flat[rows], has[rows]) for rows in both], axis=0)
    elif method == "linear_classifier":
        # In units of each latent's spread: otherwise a latent that hardly varies, and that the decoder hardly uses,
        # could separate the classes as well as any other, with a large weight.
        scale = flat.std(axis=0)
        standard = (flat - flat.mean(axis=0)) / np.where(scale > 0, scale, 1)
        weights = LogisticRegression.fit(standard, has, penalty).weights
        normal = weights / max(float(np.linalg.norm(weights)), np.finfo(float).tiny)
        vector = scale * normal * float(normal @ _difference(standard, has))
    else:
        raise ValueError(f"`method` must be 'mean_difference', 'balanced' or 'linear_classifier'; got {method!r}.")
    return vector.reshape(shape).astype(dtype)


def manipulate(
    model: AbstractLatentModel, data: Any, vector: Any, strengths: Any, *, key: PRNGKeyArray | None = None
) -> Float[np.ndarray, "n num ..."]:
    """Each example with more or less of an attribute, `[n, num, *model.space.shape]`.

    The images are means of `p(x | z + strength * vector)`.

    **Arguments:**

    - `data`: examples `[n, *model.space.shape]`; z is the posterior mean of each.
    - `vector`: `[*latent]`, from `attribute_vector`. Strength 1 turns an average example without the attribute into one
      with it, -1 does the opposite, and 0 gives the reconstruction.
    - `strengths`: `[num]`.
    - `key`: as for `embed`.
    """
    z = embed(model, data, key=key)
    vector, strengths = np.asarray(vector, z.dtype), np.asarray(strengths, z.dtype)
    if vector.shape != z.shape[1:]:
        raise ValueError(f"`vector` must be a latent, of shape {z.shape[1:]}; got {vector.shape}.")
    if strengths.ndim != 1 or len(strengths) == 0:
        raise ValueError(f"`strengths` must be a list of numbers, such as [-1, 0, 1]; got shape {strengths.shape}.")
    moved = z[:, None] + strengths.reshape(-1, *(1,) * vector.ndim) * vector
    images = decode(model, moved.reshape(-1, *vector.shape), key=key)
    return images.reshape(len(z), len(strengths), *images.shape[1:])


@dataclasses.dataclass(frozen=True)
class AttributeQuality:
    """Quality of an attribute vector at one strength. Printed, it shows binomial standard errors.

    - `flip_rate`: among examples whose reconstruction is classified as their label says, the share classified as the
      opposite once moved: 1 is best. Examples with the attribute are moved backwards.
    - `leakage`: for every other attribute, the share of the examples that change their class: 0 is best.
    - `identity`: the share of moved images whose nearest reconstruction is their own: 1 is best.
    - `distance`: mean distance of a moved image from its reconstruction, relative to the mean distance between the
      reconstructions of two examples.
    - `accuracy`: accuracy of the judging classifier on these examples as they are, not reconstructed. If it is low,
      flips say little.
    - `num`, `num_judged`: number of examples, and of those that `flip_rate` counts.
    """

    flip_rate: float
    leakage: dict[str, float]
    identity: float
    distance: float
    accuracy: float
    strength: float
    num: int
    num_judged: int

    def __str__(self) -> str:
        lines = [
            f"strength {self.strength:g}, {self.num} examples; those with the attribute are moved backwards",
            f"flip rate       {self._rate(self.flip_rate, self.num_judged)} of the {self.num_judged} reconstructions "
            f"that were classified correctly (by pixels; accuracy {self.accuracy:.3f} on the examples themselves)",
        ]
        for name, rate in self.leakage.items():
            words = f"of all {self.num} reconstructions change their class in {name}"
            lines.append(f"leakage         {self._rate(rate, self.num)} {words}")
        if not self.leakage:
            lines.append("leakage         not measured: no other attributes were given")
        words = f"of the {self.num} moved images are nearest to their own reconstruction"
        lines.append(f"identity kept   {self._rate(self.identity, self.num)} {words}")
        lines.append(f"distance moved  {self.distance:.3f} of the distance between reconstructions of two examples")
        return "\n".join(lines)

    @staticmethod
    def _rate(rate: float, num: int) -> str:
        return f"{rate:.3f} ± {_binomial_error(rate, num):.3f}"


def attribute_quality(
    model: AbstractLatentModel,
    vector: Any,
    data: Any,
    labels: Any,
    *,
    train: tuple[Any, Any] | Judge,
    others: Mapping[str, tuple[Any, Any] | Judge] | None = None,
    strength: float = 1.0,
    penalty: float = 1e-2,
    key: PRNGKeyArray | None = None,
) -> AttributeQuality:
    """Measure an attribute vector by classifiers that never saw a latent, such as logistic regression on the pixels.

    **Arguments:**

    - `vector`: from `attribute_vector`, made from examples other than `data`.
    - `data`, `labels`: examples `[n, ...]` to move, and whether each has the attribute, `[n]`.
    - `train`: examples and labels that the classifier learns from, `([m, ...], [m])`; or your own classifier, a
      function from examples `[n, d]`, flat and as they are decoded, to whether each has the attribute, `[n]`.
    - `others`: other attributes to look for leakage into, by name, each given as for `train`.
    - `strength`: how far examples without the attribute move; those with it move as far backwards.
    - `penalty`: penalty of the classifiers, as for `attribute_vector`.
    - `key`: as for `embed`.

    **Returns:** an `AttributeQuality`.
    """
    rows = np.asarray(model.space.check_data(data, "data"))
    has = _as_bits(labels, len(rows), "labels")
    judge = _classifier(model, train, penalty, "train")
    judges = {name: _classifier(model, pair, penalty, f"others[{name!r}]") for name, pair in (others or {}).items()}
    z = embed(model, rows, key=key)
    vector = np.asarray(vector, z.dtype)
    sign = np.where(has, -1, 1).astype(z.dtype).reshape(-1, *(1,) * vector.ndim)
    kept = _flat(decode(model, z, key=key))
    moved = _flat(decode(model, z + sign * np.asarray(strength, z.dtype) * vector, key=key))
    is_right = judge(kept) == has
    flipped = judge(moved)[is_right] != has[is_right]
    num_judged = int(is_right.sum())
    return AttributeQuality(
        flip_rate=float(flipped.mean()) if num_judged else float("nan"),
        leakage={name: float(np.mean(other(kept) != other(moved))) for name, other in judges.items()},
        identity=float(np.mean(_nearest(moved, kept) == np.arange(len(kept)))),
        distance=_relative_distance(moved, kept),
        accuracy=float(np.mean(judge(_flat(rows)) == has)),
        strength=float(strength),
        num=len(rows),
        num_judged=num_judged,
    )


def _classifier(
    model: AbstractLatentModel, given: tuple[Any, Any] | Judge, penalty: float, argument: str
) -> Callable[[np.ndarray], Bool[np.ndarray, " n"]]:
    if callable(given):
        return lambda rows: _as_bits(given(rows), len(rows), f"{argument}(rows)", of_both_kinds=False)
    rows, labels = given
    rows = np.asarray(model.space.check_data(rows, argument))
    return LogisticRegression.fit(_flat(rows), _as_bits(labels, len(rows), argument), penalty).predict


def _flat(rows: np.ndarray) -> Float[np.ndarray, "n d"]:
    return rows.reshape(len(rows), -1).astype(np.float64)


def _as_bits(labels: Any, num: int, argument: str, of_both_kinds: bool = True) -> Bool[np.ndarray, " n"]:
    labels = np.asarray(as_numbers(labels, argument))
    if labels.shape != (num,) or not np.isin(labels, (0, 1)).all():
        got = f"an array of shape {labels.shape}"
        if labels.shape == (num,):
            got = f"the value {labels[~np.isin(labels, (0, 1))][0]}"
        raise ValueError(
            f"`{argument}` must say for each of the {num} rows whether it has the attribute, true or false; got {got}. "
            "For one class of several, try `labels == 3`."
        )
    has = labels.astype(bool)
    if of_both_kinds and (has.all() or not has.any()):
        raise ValueError(f"`{argument}` must have rows with the attribute and rows without; all are {bool(has[0])}.")
    return has


def _difference(z: Float[np.ndarray, "n d"], has: Bool[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
    return z[has].mean(axis=0) - z[~has].mean(axis=0)


def _nearest(rows: Float[np.ndarray, "n d"], among: Float[np.ndarray, "m d"]) -> np.ndarray:
    squares = np.sum(among**2, axis=1)
    parts = np.array_split(rows, max(1, len(rows) // 512))
    return np.concatenate([np.argmin(squares - 2 * part @ among.T, axis=1) for part in parts])


def _relative_distance(moved: Float[np.ndarray, "n d"], kept: Float[np.ndarray, "n d"]) -> float:
    between = np.linalg.norm(kept - np.roll(kept, 1, axis=0), axis=1).mean()
    return float(np.linalg.norm(moved - kept, axis=1).mean() / max(between, np.finfo(float).tiny))


def _binomial_error(rate: float, num: int) -> float:
    """The posterior standard deviation of the true rate under a uniform prior: positive even for a rate of 0 or 1."""
    a, b = 1 + num * rate, 1 + num * (1 - rate)
    return math.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
