"""References for models and methods."""

import functools
import importlib.resources
import inspect
import re
from typing import Any

import equinox as eqx
import jax


def cite(obj: Any) -> str:
    """BibTeX entries of the papers behind a model, a method or a normaliser, and behind its parts.

    The docstrings name the papers: `lnz.cite(lnz.normalizers.AIS())` gives Neal (2001) and Salakhutdinov and Murray
    (2008).

    **Arguments:**

    - `obj`: a module, a class or function of lnz, or any tree of these.

    **Returns:** entries sorted by key, joined by blank lines; empty if no part has a source.

    **Raises:** `TypeError` for a string.
    """
    if isinstance(obj, str):
        raise TypeError(f"`cite(obj)` needs a model, a class or a function itself, not its name; got {obj!r}.")
    entries = _entries()
    text = " ".join(_docstrings(obj))
    text = re.sub(r"\s+", " ", text)
    found = {key: entry for key, (pattern, entry) in entries.items() if pattern.search(text)}
    return "\n\n".join(found[key] for key in sorted(found))


def _docstrings(obj: Any) -> list[str]:
    if inspect.isclass(obj) or inspect.isfunction(obj):
        return [inspect.getdoc(obj) or ""]
    seen: list[str] = []

    def visit(node):
        if isinstance(node, eqx.Module):
            seen.append(inspect.getdoc(type(node)) or "")
            for child in vars(node).values():
                visit(child)
        elif isinstance(node, dict):
            visit(list(node.values()))
        elif isinstance(node, list | tuple):
            for child in node:
                visit(child)
        elif inspect.isfunction(node):
            seen.append(inspect.getdoc(node) or "")

    visit(obj if isinstance(obj, eqx.Module) else jax.tree.leaves(obj, is_leaf=lambda n: isinstance(n, eqx.Module)))
    return seen


@functools.cache
def _entries() -> dict[str, tuple[re.Pattern, str]]:
    """Each entry, with the pattern (authors and year) that finds its citation in a docstring."""
    text = importlib.resources.files("lnz").joinpath("references.bib").read_text("utf-8")
    entries = {}
    for entry in re.split(r"\n(?=@)", text):
        match = re.match(r"@\w+\{([^,]+),", entry.strip())
        if match is None:
            continue
        authors = re.search(r"author\s*=\s*\{([^}]+)\}", entry)
        year = re.search(r"year\s*=\s*\{(\d+)", entry)
        if authors is None or year is None:
            raise ValueError(f"references.bib: the entry {match[1]!r} needs an author and a year.")
        entries[match[1]] = (_citation(authors[1], year[1]), entry.strip())
    return entries


def _citation(authors: str, year: str) -> re.Pattern:
    """Match `A (2001)`, `A and B (2001)`, `A, B and C (2001)` or `A et al. (2001)`, but not within a longer list."""
    first, *others = [author.split(",")[0].strip() for author in authors.split(" and ")]
    forms = [f"{', '.join([first, *others[:-1]])} and {others[-1]}"] if others else [first]
    forms += [f"{first} et al."] if len(others) > 1 else []
    # After a comma, only if the word before it is not a name: `chains, A and B (2001)`.
    no_list = r"(?:(?<!and )(?<!, )|(?<=\W, )|\b[a-z0-9][\w-]*, )"
    return re.compile(rf"{no_list}(?:{'|'.join(map(re.escape, forms))}) \({year}\)")
