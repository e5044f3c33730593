"""Rows for a trained model: the test split of its run, or those of another file, made as its training data were."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core import LogLikelihood, faulty_rows, least_likely_first, unknown_rows, useless_rows
from ..data import Cells, Rows, Splits, blocks, names, read_rows, tidy
from ._recipe import Recipe
from ._run import Run
from ._settings import Settings
from ._table import as_sentence
from ._train import check_same_data, load_data, read_settings

_READING = ("data.binarize", "data.header", "data.missing")  # how other data are read, where they are not as the run's


@dataclasses.dataclass(frozen=True)
class Given:
    """Rows that a model is asked about.

    - `array`: `[n, ...]`.
    - `observed`: which entries are known, of that shape, or `None` for all.
    - `made`: where they are from and how they were made, in words.
    - `cells`: what their file calls its rows and columns.
    """

    array: np.ndarray
    observed: np.ndarray | None
    made: str
    cells: Cells

    def __len__(self) -> int:
        return len(self.array)

    @property
    def num_known(self) -> np.ndarray | None:
        """Known entries of each row, `[n]`, if some are missing."""
        return None if self.observed is None else self.observed.reshape(len(self), -1).sum(axis=1)

    def some(self, num: int) -> "Given":
        """`num` rows from all over, for neighbours may be alike."""
        if not 1 <= num <= len(self):
            raise ValueError(f"`--num-rows` must be from 1 to {len(self)}, as many as there are; got {num}.")
        if num == len(self):
            return self
        index = np.arange(num) * len(self) // num
        observed = None if self.observed is None else self.observed[index]
        made = f"{num} rows, evenly spaced, of: {self.made}"
        return dataclasses.replace(self, array=self.array[index], observed=observed, made=made)


def settings_now(
    run: Run,
    recipe: Recipe[Any],
    changes: Mapping[str, str],
    data: str | None,
    *,
    evaluates: bool = True,
    takes_missing: bool = True,
) -> Settings:
    """Settings of the run, with `changes` of its evaluation and of how other `data` are read.

    **Raises:** `ValueError` for a change of anything else: the model is trained.
    """
    reading = tuple(name for name in _READING if takes_missing or name != "data.missing")
    for name in changes:
        if evaluates and name.startswith("evaluate."):
            continue
        if name not in reading:
            how = f"how `--data FILE` is read ({', '.join(reading)})"
            may = f"settings of `evaluate` can be changed now, and {how}" if evaluates else f"{how} can be changed now"
            raise ValueError(f"`--set {name}`: the model is trained; only {may}.")
        if data is None:
            raise ValueError(f"`--set {name}` says how other data are read: give them by `--data FILE`.")
    return recipe.resolve(changes, read_settings(recipe, run.settings))


def splits_of(folder: Path, run: Run, recipe: Recipe[Any], settings: Settings) -> Splits:
    """The data of the run in `folder`.

    **Raises:** `ValueError` if they are not what they were.
    """
    splits = load_data(recipe, settings, run.cwd)
    check_same_data(folder, splits)
    return splits


def test_rows(splits: Splits) -> Given:
    """The test split."""
    made = f"test part of {splits.name}: {splits.protocol}"
    return Given(splits.test, splits.observed and splits.observed[2], made, splits.cells)


def rows_for(run: Run, recipe: Recipe[Any], settings: Settings, data: str) -> Given:
    """All rows of a file, or the test split of a named set, made as the run's training data were.

    **Raises:** `ValueError`, with what to do, for rows that may mean something else than those of the training.
    """
    chosen = settings.data
    if data in names():
        splits = recipe.load(recipe.resolve({"data.source": data}, settings))
        return dataclasses.replace(test_rows(splits), observed=None, cells=Cells(splits.columns))
    rows = read_rows(
        data,
        columns=run.examples.columns,
        binarize=chosen.binarize,
        threshold=chosen.threshold,
        seed=chosen.seed,
        missing=chosen.missing,
        header=chosen.header,
    )
    made = ", ".join([f"all rows of {Path(data).name}", *rows.notes])
    if rows.left_out:
        more = f" and {len(rows.left_out) - 5} more" if len(rows.left_out) > 5 else ""
        made += f", without the columns {', '.join(map(tidy, rows.left_out[:5]))}{more}, which the model does not know"
    trained = run.examples.image_shape
    _check_scale(run.model.space, trained is not None, rows, data)
    _check_within(run.model.space, rows, data)
    if rows.image_shape is not None and trained is not None and tuple(rows.image_shape) != tuple(trained):
        raise ValueError(
            f"`{data}` has pictures of {' x '.join(map(str, rows.image_shape))} pixels (height x width), but the model "
            f"was trained on {' x '.join(map(str, trained))}: their pixels mean other places. Resize or turn them."
        )
    if not isinstance(rows.array, np.memmap):  # which is checked as it is read
        run.model.space.check_data(rows.array, str(data))
    return Given(rows.array, rows.observed, made, rows.cells)


def score_rows(run: Run, recipe: Recipe[Any], settings: Settings, given: Given) -> LogLikelihood:
    """The likelihood of every row, with warnings that call rows as their file does.

    **Raises:** `ValueError` if no row has one.
    """
    result = _placed(recipe.score(run.model, given.array, settings, given.observed), given.cells, given.observed)
    result = result.with_warnings(run.warnings)
    if given.num_known is not None:
        result = result.with_warnings(_uneven_rows(given.num_known))
    if not np.any(result.per_example < np.inf):
        raise ValueError(
            "No row has a log-probability under the model: all are NaN or infinite. Look for such numbers among its "
            "parameters."
        )
    return result


def score_order(result: LogLikelihood, given: Given) -> np.ndarray:
    """Numbers of the rows, the least likely first; a row of which nothing is known is not anomalous."""
    order, known = least_likely_first(result.per_example), given.num_known
    return order if known is None else np.concatenate([order[known[order] > 0], order[known[order] == 0]])


def score_table(result: LogLikelihood, given: Given, order: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of a table of scores: the name of a row, log p and its bound, its Monte Carlo error, what is doubted."""
    columns = {
        given.cells.kind: given.cells.names_of(order),
        "log_prob": result.per_example[order],
        "bound": np.broadcast_to(np.array(result.bound), len(order)),
        "standard_error": result.per_example_error[order],
    }
    if given.num_known is not None:
        columns["known_entries"] = given.num_known[order]
    if result.numerators.weights.are_judged:
        columns["reliable"] = ~result.unreliable_rows[order]
    if result.warnings:
        words = " ".join(map(as_sentence, result.warnings))
        columns["warning"] = np.broadcast_to(np.array(words), len(order))
    return columns


def _check_scale(space: Any, are_pictures: bool, rows: Rows, data: str) -> None:
    """Refuses numbers whose meaning may be another than that of the training data, though they lie within the space.

    **Raises:** `ValueError`, with how to save them.
    """
    kind = rows.stored_as.kind
    if (space.num_values or 0) > 2:
        top = space.num_values - 1
        if kind in "bf" and _all(rows, lambda x: (x == 0) | (x == 1)) and rows.array.any():
            found = "true and false" if kind == "b" else "floats of 0 and 1 alone"
            found += f", but the model was trained on whole numbers from 0 to {top}, and 1 may mean 1 or {top} of them"
        elif rows.are_pixels and top != 255:
            found = f"pixels from 0 to 255, but the model was trained on whole numbers from 0 to {top}"
        else:
            return
        raise ValueError(f"`{data}` has {found}: save them as an .npy of uint8 on the scale of the training data.")
    if space.num_values == 2 or not are_pictures:
        return
    is_grey = kind in "iu" and rows.array.any()
    if is_grey or (kind == "f" and not _all(rows, lambda x: x <= 1) and _all(rows, lambda x: x % 1 == 0)):
        raise ValueError(
            f"`{data}` has whole numbers up to {rows.array.max():g}, but the model was trained on pictures of floats "
            "from 0 to 1: save them as an .npy of floats, divided by the full scale, which is 255 for bytes."
        )


def _all(rows: Rows, test: Callable[[np.ndarray], np.ndarray]) -> bool:
    return all(test(block).all() for _, block in blocks(rows.array))


def _check_within(space: Any, rows: Rows, data: str) -> None:
    """**Raises:** `ValueError` for a value outside the space, at its place as the file counts."""
    if rows.array.shape[1:] != space.shape:
        return  # which is told elsewhere
    for start, block in blocks(rows.array):
        bad = ~np.asarray(space.elements_within(block))
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            place = rows.cells.place(start + row, column)
            raise ValueError(f"`{data}` has the value {block[row, column]} at {place}, outside {space}. {space.advice}")


def _uneven_rows(num_known: np.ndarray) -> list[str]:
    """In words, that rows cannot be ranked, if they cannot."""
    fewest, most = num_known.min(), num_known.max()
    if fewest == most:
        return []
    return [
        f"Rows have from {fewest} to {most} known entries: compare log p only between rows with the same number, for "
        "each entry adds to it or takes from it"
    ]


def _placed(result: LogLikelihood, cells: Cells, observed: np.ndarray | None) -> LogLikelihood:
    """The same, with warnings that call rows as the file does."""
    told, placed = (
        faulty_rows(result.per_example, name_of)
        + useless_rows(result.num, result.numerators.weights, name_of)
        + ([] if observed is None else unknown_rows(observed, name_of))
        for name_of in ("row {}".format, cells.row)
    )
    in_file = dict(zip(told, placed, strict=True))
    return dataclasses.replace(result, warnings=tuple(in_file.get(warning, warning) for warning in result.warnings))
