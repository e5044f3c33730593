"""Examples that a run shows in its report."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Examples:
    """Test rows to show: the first ones (`"some"`), and those with the lowest and the highest likelihood.

    - `image_shape`: height and width, if the examples are pictures.
    - `columns`: the names of the columns, if the data have them.
    - `rows`: `{kind: row numbers in the test split}` for the kinds `"some"`, `"least"` and `"most"`. If the data have
      integer labels there is also a kind `"map"`, with rows from all over the split.
    - `values`: `{kind: rows [n, d]}`.
    - `labels`: the labels of the rows of `"map"`.
    - `places`: `{kind: names}` of the rows in the data file, such as "line 17".
    """

    image_shape: tuple[int, int] | None
    columns: tuple[str, ...] | None
    rows: dict[str, list[int]]
    values: dict[str, list[list[int | float]]]
    labels: list[int] | None = None
    places: dict[str, list[str]] | None = None
