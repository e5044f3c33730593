"""Rows for a trained model: its run's test split, or another file processed like the training data."""

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

_READING = ("data.binarize", "data.header", "data.missing")  # may differ between the run's data and other data


@dataclasses.dataclass(frozen=True)
class Given:
    """Rows to evaluate with a model.

    - `array`: the rows, `[n, ...]`.
    - `observed`: which entries are known, of the same shape; `None` if all are.
    - `made`: where the rows come from and how they were processed, in words.
    - `cells`: the names of rows and columns in their file.
    """

    array: np.ndarray
    observed: np.ndarray | None
    made: str
    cells: Cells

    def __len__(self) -> int:
        return len(self.array)

    @property
    def num_known(self) -> np.ndarray | None:
        """The number of known entries of each row, `[n]`, or `None` if none are missing."""
        return None if self.observed is None else self.observed.reshape(len(self), -1).sum(axis=1)

    def some(self, num: int) -> "Given":
        """Select `num` evenly spaced rows, because neighbours may be alike.

        **Raises:** `ValueError` if `num` is not from 1 to the number of rows.
        """
        if not 1 <= num <= len(self):
            raise ValueError(f"`--num-rows` must be from 1 to {len(self)}, the number of rows; got {num}.")
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
    """The settings of the run, with `changes` of its evaluation and of how other `data` are read.

    **Raises:** `ValueError` for a change of any other setting, because the model is already trained.
    """
    reading = tuple(name for name in _READING if takes_missing or name != "data.missing")
    for name in changes:
        if evaluates and name.startswith("evaluate."):
            continue
        if name not in reading:
            how = f"how `--data FILE` is read ({', '.join(reading)})"
            may = f"settings of `evaluate` can be changed now, and {how}" if evaluates else f"{how} can be changed now"
            raise ValueError(f"`--set {name}`: the model is already trained; only {may}.")
        if data is None:
            raise ValueError(f"`--set {name}` changes how other data are read: give them with `--data FILE`.")
    return recipe.resolve(changes, read_settings(recipe, run.settings))


def splits_of(folder: Path, run: Run, recipe: Recipe[Any], settings: Settings) -> Splits:
    """Load the data of the run in `folder`.

    **Raises:** `ValueError` if the data have changed since the training.
    """
    splits = load_data(recipe, settings, run.cwd)
    check_same_data(folder, run.digest, splits)
    return splits


def test_rows(splits: Splits) -> Given:
    """The test split."""
    made = f"test part of {splits.name}: {splits.protocol}"
    return Given(splits.test, splits.observed and splits.observed[2], made, splits.cells)


def rows_for(run: Run, recipe: Recipe[Any], settings: Settings, data: str) -> Given:
    """Read all rows of a file, or the test split of a named data set, and process them like the run's training data.

    **Raises:** `ValueError`, with advice, for rows whose numbers may mean something else than the training data's.
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
    if not isinstance(rows.array, np.memmap):  # arrays on disk are checked while they are read
        run.model.space.check_data(rows.array, str(data))
    return Given(rows.array, rows.observed, made, rows.cells)


def score_rows(run: Run, recipe: Recipe[Any], settings: Settings, given: Given) -> LogLikelihood:
    """Evaluate the likelihood of every row. Warnings name rows as their file does.

    **Raises:** `ValueError` if no row has a log-probability: all are NaN or plus infinity.
    """
    result = _placed(recipe.score(run.model, given.array, settings, given.observed), given.cells, given.observed)
    result = result.with_warnings(run.warnings)
    if given.num_known is not None:
        result = result.with_warnings(_uneven_rows(given.num_known))
    if not np.any(result.per_example < np.inf):
        raise ValueError(
            "No row has a log-probability under the model: all are NaN or infinite. Look for such numbers among the "
            "model's parameters."
        )
    return result


def score_order(result: LogLikelihood, given: Given) -> np.ndarray:
    """Row numbers, the least likely first. Rows without known entries come last, since they are not anomalous."""
    order, known = least_likely_first(result.per_example), given.num_known
    return order if known is None else np.concatenate([order[known[order] > 0], order[known[order] == 0]])


def score_table(result: LogLikelihood, given: Given, order: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of a table of scores: row names, log p, its bound and its Monte Carlo error, and any doubts."""
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
    """Refuse numbers that lie within the space but may be on another scale than the training data.

    **Raises:** `ValueError`, with advice on how to save them.
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
    """**Raises:** `ValueError` for a value outside the space, with its place in the file."""
    if rows.array.shape[1:] != space.shape:
        return  # another check reports it
    for start, block in blocks(rows.array):
        bad = ~np.asarray(space.elements_within(block))
        if bad.any():
            row, column = np.argwhere(bad)[0].tolist()
            place = rows.cells.place(start + row, column)
            raise ValueError(f"`{data}` has the value {block[row, column]} at {place}, outside {space}. {space.advice}")


def _uneven_rows(num_known: np.ndarray) -> list[str]:
    """A warning that rows cannot be ranked, if their numbers of known entries differ."""
    fewest, most = num_known.min(), num_known.max()
    if fewest == most:
        return []
    return [
        f"Rows have from {fewest} to {most} known entries: compare log p only between rows with the same number, for "
        "each entry adds to it or takes from it"
    ]


def _placed(result: LogLikelihood, cells: Cells, observed: np.ndarray | None) -> LogLikelihood:
    """Replace "row 3" in the warnings of a result by the row's name in its file."""
    told, placed = (
        faulty_rows(result.per_example, name_of)
        + useless_rows(result.num, result.numerators.weights, name_of)
        + ([] if observed is None else unknown_rows(observed, name_of))
        for name_of in ("row {}".format, cells.row)
    )
    in_file = dict(zip(told, placed, strict=True))
    return dataclasses.replace(result, warnings=tuple(in_file.get(warning, warning) for warning in result.warnings))
