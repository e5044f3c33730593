"""Pieces of an HTML page. Only the templates produce markup, and they escape every string."""

import base64
import functools
import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure

from ..data import missing_extra

_LIGHT_INK, _DARK_INK = "#1c2430", "#dfe5ee"


@functools.cache
def pieces() -> Any:
    """The macros of `_pieces.html`, which return markup. Arguments are escaped unless another macro returned them."""
    try:
        import jinja2
    except ImportError as error:
        raise ImportError(missing_extra("A report")) from error
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lnz", "plots"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("_pieces.html").module


def number(value: float, form: str = ".3f") -> str:
    """A number with a true minus sign; `nan` and `inf` in words."""
    return f"{value:{form}}".replace("-", "−").replace("nan", "not a number").replace("inf", "infinite")


def joined(parts: Iterable[str]) -> str:
    """The concatenated pieces; plain strings among them are escaped."""
    return pieces().joined(list(parts))


def table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls if the page is too narrow for it; the first cell names the row."""
    return pieces().table(name, [(head, shortened(head, 13)) for head in heads], list(rows))


def shortened(name: str, size: int) -> str:
    return name if len(name) <= size else f"{name[: size - 1]}…"


def captioned(title: str, words: str, content: str, kind: str = "") -> str:
    """A figure with a caption; `content` consists of other pieces."""
    return pieces().figure(title, words, content, kind)


def drawing(title: str, words: str, draw: Callable[[str], Figure]) -> str:
    """A figure that contains text, drawn once for light and once for dark pages."""
    light, dark = (_address(_png(draw(ink))) for ink in (_LIGHT_INK, _DARK_INK))
    return captioned(title, words, pieces().picture(light, dark, f"{title}: {words}"))


def image(png: bytes, alt: str, kind: str = "") -> str:
    return pieces().image(_address(png), alt, kind)


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # such a glyph is drawn as a box
        figure.savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()
