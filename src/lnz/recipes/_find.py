"""Lookup of recipes by name."""

import sys
from pathlib import Path
from typing import Any

from ..modules import unknown_name
from ..runs import Recipe


def all_recipes() -> dict[str, Recipe[Any]]:
    """All recipes by name."""
    found = vars(sys.modules[__name__.rpartition(".")[0]]).values()
    return {recipe.name: recipe for recipe in found if isinstance(recipe, Recipe)}


def find_recipe(name: str) -> Recipe[Any]:
    """**Raises:** `ValueError` for an unknown name; the message suggests the nearest one."""
    known = all_recipes()
    if name not in known:
        if Path(name).exists():
            raise ValueError(
                f"{name!r} is a file or folder: data are given by `--data {name}`, after a recipe such as "
                "flow_tabular or rbm_digits; `lnz list` shows them."
            )
        raise ValueError(unknown_name("recipe", name, known))
    return known[name]
