"""Pieces of a page. Every string that comes from outside passes through `escape`."""

import base64
import html
import io
import warnings
from collections.abc import Callable, Iterable, Sequence

from matplotlib.figure import Figure

_LIGHT_INK, _DARK_INK = "#1c2430", "#dfe5ee"


def escape(text: str) -> str:
    return html.escape(text, quote=True)


def number(value: float, form: str = ".3f") -> str:
    """A number with a real minus sign; `nan` and `inf` in words."""
    return f"{value:{form}}".replace("-", "−").replace("nan", "not a number").replace("inf", "infinite")


def definitions(pairs: Iterable[tuple[str, str]]) -> str:
    """Terms and what they mean."""
    items = "".join(f"<div><dt>{escape(term)}</dt><dd>{escape(words)}</dd></div>" for term, words in pairs)
    return f"<dl>{items}</dl>"


def table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself where the page is too narrow for it; the first cell names the row."""
    head = "".join(f'<th scope="col" title="{escape(cell)}">{escape(shortened(cell, 13))}</th>' for cell in heads)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>\n'
        for first, *rest in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}"><table class="plain">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>\n"
    )


def shortened(name: str, size: int) -> str:
    return name if len(name) <= size else f"{name[: size - 1]}…"


def captioned(title: str, words: str, content: str, kind: str = "") -> str:
    """A figure; `content` is HTML."""
    name = f' class="{kind}"' if kind else ""
    return f"<figure{name}><figcaption><b>{escape(title)}</b> {escape(words)}</figcaption>{content}</figure>\n"


def drawing(title: str, words: str, draw: Callable[[str], Figure]) -> str:
    """A figure that has text in it: drawn once for light and once for dark pages."""
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{_address(_png(draw(_DARK_INK)))}">'
    return captioned(title, words, f"<picture>{dark}{image(_png(draw(_LIGHT_INK)), f'{title}: {words}')}</picture>")


def image(png: bytes, alt: str, kind: str = "") -> str:
    name = f' class="{kind}"' if kind else ""
    return f'<img{name} src="{_address(png)}" alt="{escape(alt)}">'


def _address(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # drawn as a box
        figure.savefig(buffer, format="png", transparent=True)
    return buffer.getvalue()
