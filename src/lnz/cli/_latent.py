"""Commands on the latents of a trained run: embed, interpolate and manipulate."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import jax.random as jr
import numpy as np

import lnz

from ..core import AbstractLatentModel
from ..data import Cells, Splits
from ..files import short_path, write_atomically
from ..latent import attribute_quality, attribute_vector, embed, interpolate, manipulate
from ..modules import unknown_name
from ..recipes import find_recipe
from ..runs import Run, Settings, read_settings, rows_for, settings_now, splits_of
from ._console import console
from ._files import TABLES, check_ending, write_table
from ._train import parse_changes

_MOST_SHOWN = 6
_PART_LEARNT = 0.7


def embed_run(folder: Path, data: str | None, changes: list[str], out: Path, seed: int) -> None:
    """The command `lnz embed`."""
    check_ending(out, (".npz", *TABLES))
    run = _read(folder, "embed")
    rows, labels, cells = _rows(folder, run, data, changes)
    z = embed(run.model, rows, key=_key(seed)).reshape(len(rows), -1)
    names = cells.names_of(np.arange(len(z)))
    if out.suffix == ".npz":
        write_atomically(out, _npz(z=z, names=names, **({} if labels is None else {"labels": labels})))
    else:
        columns = {f"z{i}": z[:, i] for i in range(z.shape[1])}
        write_table(out, {cells.kind: names, **({} if labels is None else {"label": labels}), **columns})
    what = "the test split" if data is None else data
    console().print(
        f"Wrote the posterior means of {len(z)} rows of {what}, {z.shape[1]} latents each, to {short_path(out)}",
        soft_wrap=True,
    )


def interpolate_run(
    folder: Path,
    pairs: list[str],
    num: int,
    method: str,
    data: str | None,
    changes: list[str],
    out: Path | None,
    seed: int,
) -> None:
    """The command `lnz interpolate`."""
    run = _read(folder, "interpolate")
    out = _picture_or_numbers(run, folder, out, "interpolation")
    rows, *_ = _rows(folder, run, data, changes)
    chosen = [_pair(pair, len(rows)) for pair in pairs or ["0,1"]]
    key, chosen_method = _key(seed), cast(Any, method)  # checked by `interpolate`
    paths = np.stack([interpolate(run.model, rows[i], rows[j], num, method=chosen_method, key=key) for i, j in chosen])
    _write(run, out, paths, [f"{i} to {j}" for i, j in chosen], None, "", {"rows": np.asarray(chosen)})
    console().print(
        f"Wrote {len(paths)} path{'s' if len(paths) > 1 else ''} of {num} steps ({method}) to {short_path(out)}",
        soft_wrap=True,
    )


def manipulate_run(
    folder: Path,
    attribute: str | None,
    labels: str | None,
    other: str | None,
    method: str,
    strengths: str,
    rows: str | None,
    data: str | None,
    changes: list[str],
    out: Path | None,
    seed: int,
) -> None:
    """The command `lnz manipulate`."""
    run = _read(folder, "manipulate")
    out = _picture_or_numbers(run, folder, out, "manipulation")
    steps = _numbers(strengths, "--strengths")
    settings = _settings(run, changes, data)
    if labels is None:
        learn, whole, judged, name, found = _from_classes(folder, run, attribute, other)
        parts = "training split", "test split"
    else:
        learn, whole, judged, name, found = _from_file(run, attribute, labels, data, settings, seed)
        parts = f"of {data}, by {labels}", "of the same file"
    judge = whole[judged]
    balance = None if other is None else _other(found, other, name)
    key, chosen = _key(seed), cast(Any, method)  # checked by `attribute_vector`
    z = embed(run.model, learn, key=key)
    has_learnt, has_judged = found[name]
    vector = attribute_vector(z, has_learnt, method=chosen, other=balance)
    quality = attribute_quality(
        run.model,
        vector,
        judge,
        has_judged,
        train=(learn, has_learnt),
        others={other_name: (learn, pair[0]) for other_name, pair in found.items() if other_name != name},
        key=key,
    )
    shown = _shown(rows, judged, has_judged, len(whole))
    images = manipulate(run.model, whole[shown], vector, steps, key=key)
    title = f"{name}, strength from left to right\n(rows of the {'file' if labels else 'test split'}, from 0)"
    columns = [f"{step:+g}" if step else "0" for step in steps]
    _write(run, out, images, [str(i) for i in shown], columns, title, {"rows": shown, "vector": vector})
    words = f"{len(learn)} rows ({parts[0]}) and measured on {len(judge)} others ({parts[1]}):"
    console().print(f"{name} ({method}), vector and classifiers learnt from {words}", soft_wrap=True)
    console().print(str(quality), soft_wrap=True)
    console().print(f"Wrote {len(shown)} rows at {len(steps)} strengths to {short_path(out)}", soft_wrap=True)


def _read(folder: Path, command: str) -> Run:
    run = Run.read(folder)
    if not isinstance(run.model, AbstractLatentModel):
        raise ValueError(
            f"`lnz {command} {folder}`: the model of this run ({type(run.model).__name__}) has no latents to encode "
            "examples in. It needs a variational autoencoder; `lnz list` shows the recipes."
        )
    return run


def _settings(run: Run, changes: list[str], data: str | None) -> Settings:
    """The settings of the run, with changes of how other data are read. Missing entries cannot be encoded."""
    changed = parse_changes(changes)
    return settings_now(run, find_recipe(run.recipe), changed, data, evaluates=False, takes_missing=False)


def _splits(folder: Path, run: Run) -> Splits:
    recipe = find_recipe(run.recipe)
    return splits_of(folder, run, recipe, read_settings(recipe, run.settings))


def _rows(folder: Path, run: Run, data: str | None, changes: list[str]) -> tuple[np.ndarray, np.ndarray | None, Cells]:
    """Rows of other data, or of the test split with their labels; and the names of rows and columns in their file."""
    settings = _settings(run, changes, data)
    if data is not None:
        given = rows_for(run, find_recipe(run.recipe), settings, data)
        return given.array, None, given.cells
    splits = _splits(folder, run)
    return np.asarray(splits.test), splits.labels and splits.labels[2], splits.cells


def _from_classes(folder: Path, run: Run, attribute: str | None, other: str | None):
    """Use a class of the data as attribute: learn from the training split, and judge on all rows of the test split."""
    if attribute is None:
        raise ValueError("`lnz manipulate` needs `--attribute NAME`, a class of the data, or `--labels FILE`.")
    if other is not None:
        raise ValueError("`--other` names a column of `--labels FILE`; the classes of a data set exclude one another.")
    splits = _splits(folder, run)
    if splits.labels is None:
        raise ValueError(
            f"`--attribute {attribute}`: {splits.name} has no labels. Give them with `--data FILE --labels FILE`, a "
            "table with a line for each row and a column of 0 and 1 for each attribute."
        )
    classes = np.unique(np.concatenate(splits.labels))
    names = splits.label_names or tuple(str(value) for value in range(int(classes.max()) + 1))
    if attribute not in names:
        raise ValueError(unknown_name("class", attribute, names))
    number = names.index(attribute)
    has = splits.labels[0] == number, splits.labels[2] == number
    test = np.asarray(splits.test)
    return np.asarray(splits.train), test, np.arange(len(test)), attribute, {attribute: has}


def _from_file(run: Run, attribute: str | None, labels: str, data: str | None, settings: Settings, seed: int):
    """Use the attributes in a table: learn from most rows of a file, and judge on the others."""
    if data is None:
        raise ValueError("`--labels FILE` labels the rows of a file, in its order: give that file with `--data FILE`.")
    rows = rows_for(run, find_recipe(run.recipe), settings, data).array
    table = lnz.data.read_rows(labels, header=settings.data.header)
    if len(table.array) != len(rows):
        raise ValueError(f"`--labels {labels}` has {len(table.array)} lines, but `--data {data}` has {len(rows)} rows.")
    names: tuple[str, ...] = table.columns or tuple(map(str, range(table.array.shape[1])))
    if attribute is None and len(names) > 1:
        raise ValueError(f"`--attribute` must name one of the {len(names)} columns of {labels}: {', '.join(names)}.")
    name = next(iter(names)) if attribute is None else attribute
    if name not in names:
        raise ValueError(unknown_name("column", name, names))
    order = np.random.default_rng(seed).permutation(len(rows))
    learn, judge = np.split(order, [round(_PART_LEARNT * len(rows))])
    found = {column: (values[learn], values[judge]) for column, values in zip(names, table.array.T, strict=True)}
    usable = {column: pair for column, pair in found.items() if column == name or _is_attribute(pair)}
    return rows[learn], rows, judge, name, usable


def _is_attribute(pair: tuple[np.ndarray, np.ndarray]) -> bool:
    return bool(np.isin(np.concatenate(pair), (0, 1)).all()) and len(np.unique(pair[0])) == 2


def _other(found: dict[str, tuple[np.ndarray, np.ndarray]], other: str, name: str) -> np.ndarray:
    if other not in found or other == name:
        raise ValueError(unknown_name("other attribute", other, [column for column in found if column != name]))
    return found[other][0]


def _shown(rows: str | None, judged: np.ndarray, has: np.ndarray, num: int) -> np.ndarray:
    """The row numbers in `rows`; by default, some judged rows without the attribute and some with it."""
    if rows is None:
        half = _MOST_SHOWN // 2
        has = has.astype(bool)
        return np.concatenate([judged[~has][:half], judged[has][:half]])
    return np.asarray([_row(word, num, rows) for word in rows.split(",")])


def _pair(words: str, num: int) -> tuple[int, int]:
    parts = words.split(",")
    if len(parts) != 2:
        raise ValueError(f"`--rows {words}` must be two row numbers, such as 0,1.")
    first, second = (_row(part, num, words) for part in parts)
    return first, second


def _row(word: str, num: int, given: str) -> int:
    if not word.strip().isdecimal() or int(word) >= num:
        raise ValueError(f"`--rows {given}`: {word.strip()!r} is not a row number; rows go from 0 to {num - 1}.")
    return int(word)


def _numbers(words: str, option: str) -> list[float]:
    try:
        found = [float(word) for word in words.split(",")]
    except ValueError:
        found = []
    if not found or not np.isfinite(found).all():
        raise ValueError(f"`{option} {words}` must be numbers with commas between them, such as -1,0,1.") from None
    return found


def _key(seed: int):
    if not 0 <= seed < 2**63:
        raise ValueError(f"`--seed` must be a whole number from 0 to 2**63 - 1; got {seed}.")
    return jr.key(seed)


def _picture_or_numbers(run: Run, folder: Path, out: Path | None, name: str) -> Path:
    is_picture = run.examples.image_shape is not None
    if out is None:
        return folder / f"{name}{'.png' if is_picture else '.npz'}"
    check_ending(out, (".png", ".npz"))
    if out.suffix == ".png" and not is_picture:
        raise ValueError(f"`--out {out}`: the examples of {str(folder)!r} are not pictures; try .npz.")
    return out


def _write(
    run: Run,
    out: Path,
    images: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str] | None,
    title: str,
    more: dict[str, np.ndarray],
) -> None:
    if out.suffix == ".npz":
        write_atomically(out, _npz(images=images, **more))
        return
    from ..plots import paper_and_ink, strips

    assert run.examples.image_shape is not None
    buffer = io.BytesIO()
    low, high = paper_and_ink(*run.examples.values.values())
    shape = run.examples.image_shape
    figure = strips(images, shape, rows=rows, columns=columns, title=title, low=low, high=high)
    figure.savefig(buffer, format="png")
    write_atomically(out, buffer.getvalue())


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()
