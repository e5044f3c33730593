from rich import box
from rich.table import Table

from ..data import load, names
from ._console import console
from ._train import recipes


def print_lists() -> None:
    """The recipes and the named data sets, as two tables."""
    table = Table(title="Recipes: `lnz train RECIPE --out runs/NAME`", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("recipe", no_wrap=True)
    table.add_column("what it is")
    table.add_column("data set", no_wrap=True)
    for recipe in recipes().values():
        table.add_row(recipe.name, recipe.title, recipe.data)
    console().print(table)

    table = Table(title="Data sets: `lnz.data.load(NAME)`", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("data set", no_wrap=True)
    table.add_column("dimensions", justify="right")
    table.add_column("what it is")
    for name in names():
        try:
            splits = load(name)
        except ImportError as error:  # a missing extra is no reason to hide the others
            table.add_row(name, "", str(error))
        else:
            table.add_row(name, str(splits.space.num_dimensions), splits.protocol)
    console().print(table)
