import time
from pathlib import Path

from ..files import short_path
from ..recipes import find_recipe
from ..runs import TrainOptions
from ._compare import write_html
from ._console import console
from ._table import print_comparison
from ._train import parse_changes, train_into

_RECIPES = ("independent_digits", "mixture_digits", "flow_digits", "vae_digits", "rbm_digits_exact", "rbm_digits")


def demo(out: Path, changes: list[str]) -> None:
    """The command `lnz demo`."""
    started = time.perf_counter()
    settings = parse_changes(changes)
    console().print(f"Six models of handwritten digits, one after another, into {short_path(out)}/", soft_wrap=True)
    recipes = [find_recipe(name) for name in _RECIPES]
    resolved = {recipe.name: recipe.resolve(settings) for recipe in recipes}  # mistakes show before the first run
    options = TrainOptions(overwrite=True)
    runs = {recipe.name: train_into(out / recipe.name, recipe, resolved[recipe.name], options) for recipe in recipes}
    print_comparison(console(), runs)
    write_html(out / "report.html", runs)
    console().print(f"Total {time.perf_counter() - started:.0f} s")
