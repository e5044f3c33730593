"""The part of a report about the latents of a run."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from ..core import AbstractLatentModel
from ..latent import Dequantised, decode, embed, interpolate, reconstruct
from ..modules import model_dtype
from ..runs import Run
from ._draws import as_rows
from ._html import drawing, joined, pieces
from ._latent import active_units, latent_map, reconstructions, strips
from ._pixels import paper_and_ink

_NUM_PAIRS, _NUM_STEPS = 4, 9
_NUM_TRAVERSED = 6
_REACH = 3.0
_LINE = 9  # reconstructions in a line


def has_latents(run: Run) -> bool:
    """Whether the model encodes examples in latents. Those of a dequantised flow are the pixels, and do not count."""
    model = run.model
    if not isinstance(model, AbstractLatentModel) or isinstance(model, Dequantised):
        return False
    row = model.space.cast(np.asarray(run.examples.values["some"][0]), model_dtype(model))
    return model.posterior(row.reshape(model.space.shape)) is not None


def activity(run: Run) -> str:
    """The active latent variables on the examples shown, and their map; empty for models without latents."""
    if not has_latents(run):
        return ""
    z = as_rows(embed(run.model, _some(run), key=jr.key(0)))
    words = f"of {len(z)} test rows; those above the line vary with the example"
    return joined([drawing("Active latents", words, lambda ink: active_units(z.var(axis=0), ink=ink)), _map(run)])


def _map(run: Run) -> str:
    """A map of the latents of examples, coloured by class; empty for data without labels."""
    labels = run.examples.labels
    if labels is None or len(labels) < 2:
        return ""
    rows = np.asarray(run.examples.values["map"]).reshape(-1, *run.model.space.shape)
    z = as_rows(embed(run.model, rows, key=jr.key(0)))
    words = f"posterior means of {len(z)} test rows, coloured by their label, which the model never saw"
    return drawing("Latent map", words, lambda ink: latent_map(z, labels, ink=ink))


def latents(run: Run) -> str:
    """Reconstructions, paths between examples and along single latents; empty without latents or pictures."""
    shape = run.examples.image_shape
    if shape is None or not has_latents(run):
        return ""
    rows, model = _some(run), run.model
    low, high = paper_and_ink(*run.examples.values.values())
    again = reconstruct(model, rows[: 4 * _LINE], key=jr.key(0))
    if again[0].size != shape[0] * shape[1]:
        return ""
    found = [
        drawing(
            "Reconstructions",
            "test rows, and below each the mean of p(x | z) for a draw z of its posterior",
            lambda ink: reconstructions(rows[: len(again)], again, shape, num_columns=_LINE, low=low, high=high),
        )
    ]
    num = min(_NUM_PAIRS, len(rows) // 2)
    if num:
        pairs = [(2 * i, 2 * i + 1) for i in range(num)]
        paths = [interpolate(model, rows[i], rows[j], _NUM_STEPS, key=jr.key(0)) for i, j in pairs]
        words = "from one test row to another, on a great circle through the means of their posteriors"
        found.append(
            drawing("Interpolations", words, lambda ink: strips(np.stack(paths), shape, ink=ink, low=low, high=high))
        )
    if model.prior.space.is_euclidean:
        found.append(_traversals(run, rows, shape, low, high))
    return pieces().box("", joined(found))


def _traversals(run: Run, rows: np.ndarray, shape: tuple[int, int], low: float, high: float) -> str:
    means = as_rows(embed(run.model, rows, key=jr.key(0)))
    most = np.argsort(-means.var(axis=0), kind="stable")[:_NUM_TRAVERSED]
    values = np.linspace(-_REACH, _REACH, _NUM_STEPS)
    z = np.zeros((len(most), len(values), means.shape[1]), means.dtype)
    for line, number in zip(z, most, strict=True):
        line[:, number] = values
    images = decode(run.model, jnp.asarray(z.reshape(-1, *run.model.prior.space.shape)), key=jr.key(0))
    images = images.reshape(*z.shape[:2], -1)
    names = [f"z{number}" for number in most]
    columns = [f"{value:+.2g}" if value else "0" for value in values]
    words = f"the {len(names)} latents that vary most, one in each line; the others are zero"
    return drawing(
        "Traversals", words, lambda ink: strips(images, shape, rows=names, columns=columns, ink=ink, low=low, high=high)
    )


def _some(run: Run) -> np.ndarray:
    rows = np.asarray(run.examples.values["some"]).reshape(-1, *run.model.space.shape)
    return rows.astype(np.int32) if run.model.space.kind == "int" else rows
