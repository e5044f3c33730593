"""Cells of text tables: numbers, missing values, and the other things that stand where a number is needed."""

import re
from collections.abc import Sequence

MISSING = ("", "NaN", "nan", "NAN", "NA", "N/A", "n/a", "NULL", "null", "None")
NUMBER = re.compile(r"[+-]?(([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?|inf(inity)?)", re.IGNORECASE)
PLAIN = re.compile(r"[+-]?[0-9]+")
WHOLE = re.compile(r"[+-]?[0-9]+(\.0+)?")
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d+)?")  # 0,126 is a decimal
_BLANKS = re.compile(r"[+-]?[1-9]\d{0,2}([ \xa0\u202f]\d{3})+([.,]\d+)?")
_EITHER_COMMA = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")  # a decimal one, or one between thousands
_INVISIBLE = re.compile(r"[^\S \t]|[\xad\u200b-\u200f\u2060\ufeff]")  # other kinds of blanks, and zero-width characters
_UNIT = re.compile(r"[$€£¥]\s*[+-]?[\d.,]+|[+-]?[\d.,]+\s*[%‰€$£¥°]\w{0,2}")
_TRUTH = ("true", "false", "yes", "no")
_PATTERNS = (
    ("date", _DATE),
    ("comma", _EITHER_COMMA),
    ("thousands", _THOUSANDS),
    ("blanks", _BLANKS),
    ("decimal comma", DECIMAL_COMMA),
    ("unit", _UNIT),
)


def is_number(cell: str) -> bool:
    return NUMBER.fullmatch(cell) is not None


def kind_of_cell(cell: str) -> str:
    """The kind of content of a cell that is not a number."""
    text = cell.strip()
    if cell.removeprefix(" ") in MISSING:
        return "missing"
    if text.lower() in _TRUTH:
        return "truth"
    kind = next((kind for kind, pattern in _PATTERNS if pattern.fullmatch(text)), "text")
    return "invisible" if kind == "text" and is_number(_INVISIBLE.sub("", text)) else kind


def count_up(cells: Sequence[str], starts: tuple[int, ...] = (0, 1)) -> bool:
    """Whether cells are whole numbers that count up by ones from a start, as indices and column names do."""
    return any(list(cells) == [str(start + i) for i in range(len(cells))] for start in starts)
