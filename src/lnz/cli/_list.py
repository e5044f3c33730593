from rich import box
from rich.table import Table

from ..data import describe, names
from ._console import console
from ._train import recipes


def print_lists() -> None:
    """The recipes and the named data sets, as two tables."""
    table = Table(title="Recipes: `lnz train RECIPE --out runs/NAME`", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it is")
    table.add_column("data", no_wrap=True)
    table.add_column("needs", no_wrap=True)
    for recipe in recipes().values():
        table.add_row(recipe.name, recipe.title, recipe.data, recipe.space.__name__)
    console().print(table)

    table = Table(title="Data sets: `--data NAME`, or a file", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("data set", no_wrap=True)
    table.add_column("what it is")
    for name in names():
        table.add_row(name, describe(name))
    console().print(table)
