"""Draws that a run shows in its report."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Examples:
    """Test rows for pictures: some of them, and those that the model finds least and most likely.

    `rows` are numbers of rows of the test split, `values` the rows, `[n, d]`. Of labelled data there is a kind `"map"`
    with rows from all over the split, whose labels are `labels`. `places` says what the file of the data calls the
    rows, such as "line 17".
    """

    image_shape: tuple[int, int] | None
    columns: tuple[str, ...] | None
    rows: dict[str, list[int]]
    values: dict[str, list[list[int | float]]]
    labels: list[int] | None = None
    places: dict[str, list[str]] | None = None
