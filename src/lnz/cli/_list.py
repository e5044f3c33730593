import json

from rich import box
from rich.table import Table
from rich.text import Text

from ..data import describe, names
from ..recipes import all_recipes, find_recipe
from ..runs import list_settings
from ._console import console


def print_lists(recipe: str | None, as_json: bool) -> None:
    """The command `lnz list`: the recipes and the data sets, or the settings of one recipe."""
    if as_json:
        found = all_recipes() if recipe is None else {recipe: find_recipe(recipe)}
        schemas = {name: one.schema() for name, one in found.items()}
        print(json.dumps(schemas if recipe is None else schemas[recipe], indent=2))
    elif recipe is None:
        _print_lists()
    else:
        _print_settings(recipe)


def _print_lists() -> None:
    table = _table("Recipes: `lnz train RECIPE --out runs/NAME`; settings: `lnz list RECIPE`")
    table.add_column("recipe", no_wrap=True)
    table.add_column("description")
    table.add_column("data", no_wrap=True)
    table.add_column("needs", no_wrap=True)
    for recipe in all_recipes().values():
        table.add_row(recipe.name, recipe.title, recipe.settings.data.source, recipe.space.__name__)
    console().print(table)

    table = _table("Data sets: `--data NAME`, or your file")
    table.add_column("data set", no_wrap=True)
    table.add_column("description")
    for name in names():
        table.add_row(name, describe(name))
    console().print(table)


def _print_settings(name: str) -> None:
    recipe = find_recipe(name)
    print_ = console().print
    print_(Text(f"{recipe.name}: {recipe.title}"), soft_wrap=True)
    print_(Text(f"Change a setting with `lnz train {recipe.name} --set NAME=VALUE`. Default values are shown."))
    for setting in list_settings(recipe.settings):
        where = f"  with {' or '.join(setting.belongs)}" if setting.belongs else ""
        print_(Text.assemble((setting.name, "bold"), f"={setting.default}", (where, "dim")), soft_wrap=True)
        print_(Text(f"    {setting.meaning.rstrip('.')}: {setting.allowed}."), soft_wrap=True)
        for choice, line in setting.choices:
            print_(Text(f"      {choice}: {line}"), soft_wrap=True)


def _table(title: str) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
