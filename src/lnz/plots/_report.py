"""The report of runs: one HTML file that needs nothing else, readable in light and dark, on a desk and on a phone."""

import base64
import html
import importlib.resources
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax.random as jr
import numpy as np
from matplotlib.figure import Figure

from .. import data
from .._evaluate import sample
from .._run import Run, write_text
from .._table import Table, tabulate
from ..distributions import Bernoulli, Mixture
from ..energy import RBM
from ._figures import filters, image_grid, training_curves

_NUM_IMAGES = 36
_NUM_GIBBS_STEPS = 1000
_LIGHT_INK, _DARK_INK = "#1c2430", "#dfe5ee"

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header><p class="brand">lnz report</p><h1>{title}</h1><p class="lead">{lead}</p></header>
<main>
{body}
</main>
<footer>{footer}</footer>
</body>
</html>
"""


def write_report(path: str | os.PathLike, runs: Mapping[str, Run]) -> None:
    """Write the report of `runs` to one self-contained HTML file, whole or not at all.

    It holds the comparison in nats per example with what it means, training curves, model samples beside test
    examples (where the data are images), parameters as pictures, and every setting. Samples are drawn with fixed keys.

    **Arguments:**

    - `path`: the file; an existing one is replaced.
    - `runs`: `{name: run}`, evaluated on the same test examples.

    **Raises:** `ValueError` if the runs were not evaluated on the same examples.
    """
    table = tabulate(runs)
    splits = data.load(next(iter(runs.values())).data)
    # Best first here too; a run with two rows stands where its better one does.
    ordered = {name: runs[name] for name in dict.fromkeys(row["run"] for row in table.rows)}
    models = [_model(name, run, splits) for name, run in ordered.items()]
    page = _PAGE.format(
        title=_escape(f"{len(runs)} models of {splits.name}" if len(runs) > 1 else f"{next(iter(runs))}"),
        style=importlib.resources.files("lnz.plots").joinpath("_report.css").read_text("utf-8"),
        lead="Test log-likelihoods on one scale, with their errors and the direction in which each may err.",
        body="\n".join([_likelihoods(table), _samples(ordered, splits), *models]),
        footer=_environments(ordered),
    )
    write_text(Path(path), page)


def _likelihoods(table: Table) -> str:
    heads = ("Model", "Nats per example", "Bound", "Data s.e.", "MC s.e.", "Bits per dimension")
    heads += ("Difference to best", "Parameters", "Training")
    body = "".join(_likelihood_row(heads, row) for row in table.rows)
    head = "".join(f'<th scope="col">{head}</th>' for head in heads)
    checks = "".join(f"<p><b>{_escape(what)}:</b> {_escape(words)}</p>" for what, words in table.checks)
    warnings = "".join(
        f'<p class="warning">Warning: {_escape(warning)}. Its error bar is too small.</p>' for warning in table.warnings
    )
    return (
        f'<section><h2>Likelihood</h2>\n<table class="likelihoods"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>\n{checks}{warnings}"
        f'<div class="notes"><div><h3>How to read it</h3>{_definitions(table.notes)}</div>\n'
        f"<div><h3>Protocol</h3>{_definitions(table.protocols)}</div></div></section>"
    )


def _likelihood_row(heads: tuple[str, ...], row: dict[str, Any]) -> str:
    is_best = row["difference"] is None
    cells = (
        row["name"],
        f"{row['value']:.3f}",
        row["bound"],
        f"{row['data_error']:.3f}",
        "0" if row["bound"] == "exact" else f"{row['monte_carlo_error']:.2g}",
        f"{row['bits_per_dimension']:.3f}",
        "best" if is_best else f"{row['difference']:.3f} ± {row['difference_error']:.3f}",
        f"{row['num_parameters']:,}",
        f"{row['train_seconds']:.1f} s",
    )
    first, *rest = (_escape(cell.replace("-", "−") if i else cell) for i, cell in enumerate(cells))
    columns = "".join(
        f'<td data-head="{head}"{_bound_class(row, head)}>{cell}</td>'
        for head, cell in zip(heads[1:], rest, strict=True)
    )
    return f'<tr{" class=best" if is_best else ""}><th scope="row">{first}</th>{columns}</tr>\n'


def _bound_class(row: dict[str, Any], head: str) -> str:
    return f' class="bound {row["bound"]}"' if head == "Bound" else ""


def _samples(runs: Mapping[str, Run], splits: data.Splits) -> str:
    """Test examples, then samples of every model, all drawn alike."""
    if splits.image_shape is None or len(splits.image_shape) != 2:
        return ""
    shape: tuple[int, int] = splits.image_shape
    high = float(splits.train.max())
    tiles = [("Test examples", "what samples should be like", splits.test[:_NUM_IMAGES])]
    for name, run in runs.items():
        how = f"{_NUM_GIBBS_STEPS} Gibbs steps each" if isinstance(run.model, RBM) else "independent draws"
        images = sample(jr.key(0), run.model, _NUM_IMAGES, num_steps=_NUM_GIBBS_STEPS)
        tiles.append((name, how, np.asarray(images)))
    figures = "\n".join(
        _grid_figure(title, words, image_grid(images, shape, high=high)) for title, words, images in tiles
    )
    return f'<section><h2>Samples</h2><div class="tiles">{figures}</div></section>'


def _model(name: str, run: Run, splits: data.Splits) -> str:
    figures = []
    if len(run.history) > 1:
        figures.append(
            _figure(
                "Training",
                "valid is the mean of held-out examples",
                lambda ink: training_curves(run.history, ink=ink),
            )
        )
    figures += _parameters(run.model, splits)
    settings = [("recipe", run.recipe), *_flatten(run.settings), ("parameters", f"{run.num_parameters:,}")]
    settings += [(f"{what} seconds", f"{duration:.1f}") for what, duration in run.seconds.items()]
    return (
        f'<section class="model"><h2>{_escape(name)}</h2><p>{_escape(run.title)}</p>\n'
        f'<div class="panels">{"".join(figures)}<div class="settings"><h3>Settings</h3>'
        f"{_definitions(settings)}</div></div></section>"
    )


def _parameters(model: Any, splits: data.Splits) -> list[str]:
    """What the model has learned, where it can be seen."""
    if splits.image_shape is None or len(splits.image_shape) != 2:
        return []
    shape: tuple[int, int] = splits.image_shape
    if isinstance(model, RBM):
        words = f"the weights of each of the {model.W.shape[1]} hidden units"
        return [_figure("Filters", words, lambda ink: filters(model.W, shape, ink=ink))]
    if isinstance(model, Mixture) and isinstance(model.components, Bernoulli):
        means = np.asarray(model.components.probs)[np.argsort(-np.asarray(model.weights))]
        words = "the mean of each component, heaviest first"
        return [_grid_figure("Components", words, image_grid(means, shape))]
    if isinstance(model, Bernoulli):
        mean = np.asarray(model.probs)[None]
        return [_grid_figure("Mean image", "the probability of each pixel", image_grid(mean, shape), "small")]
    return []


def _figure(title: str, words: str, draw: Callable[[str], Figure]) -> str:
    """A figure that has text in it: drawn once for light and once for dark pages."""
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{_png(draw(_DARK_INK))}">'
    image = f'<img src="{_png(draw(_LIGHT_INK))}" alt="{_escape(f"{title}: {words}")}">'
    return _captioned(title, words, f"<picture>{dark}{image}</picture>")


def _grid_figure(title: str, words: str, figure: Figure, kind: str = "") -> str:
    """A grid of images, which looks the same on every page."""
    alt = _escape(f"{title}: {words}")
    return _captioned(title, words, f'<img class="{kind}" src="{_png(figure)}" alt="{alt}">')


def _captioned(title: str, words: str, image: str) -> str:
    return f"<figure><figcaption><b>{_escape(title)}</b> {_escape(words)}</figcaption>{image}</figure>\n"


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", transparent=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _environments(runs: Mapping[str, Run]) -> str:
    described = [", ".join(f"{name} {value}" for name, value in run.environment.items()) for run in runs.values()]
    return "".join(f"<p>Trained with {_escape(words)}</p>" for words in dict.fromkeys(described))


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs = []
    for name, value in settings.items():
        if isinstance(value, dict):
            pairs += _flatten(value, f"{prefix}{name}.")
        else:
            pairs.append((prefix + name, value if isinstance(value, str) else json.dumps(value)))
    return pairs


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Terms and what they mean."""
    items = "".join(f"<dt>{_escape(term)}</dt><dd>{_escape(words)}</dd>" for term, words in pairs)
    return f"<dl>{items}</dl>"


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
