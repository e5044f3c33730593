"""Settings of recipes: their numbers, how they are changed and read, and what is said of a mistake."""

import json
import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from lnz import recipes
from lnz.runs import Choice, Group, Recipe, flatten, list_settings

RECIPES = {recipe.name: recipe for recipe in vars(recipes).values() if isinstance(recipe, Recipe)}
PINNED = json.loads((Path(__file__).parent / "settings_of_recipes.json").read_text())


def flat(settings):
    return dict(flatten(settings.model_dump()))


def test_every_recipe_has_the_numbers_that_were_chosen():
    """Each of them was found by experiments, whose results the documentation quotes."""
    assert RECIPES.keys() == PINNED.keys()
    for name, recipe in RECIPES.items():
        assert flat(recipe.settings) == PINNED[name], name


@pytest.mark.parametrize("name", RECIPES)
def test_settings_are_read_changed_and_described(name):
    recipe = RECIPES[name]
    own = recipe.settings
    assert recipe.resolve() == own
    assert recipe.read(json.loads(own.model_dump_json())) == own
    settings = {setting.name: setting for setting in list_settings(own)}
    assert {name: setting.default for name, setting in settings.items() if name in flat(own)} == flat(own)
    for setting in settings.values():
        assert setting.meaning.strip(), f"{setting.name} has no meaning"
        assert all(home.partition("=")[0] in settings for home in setting.belongs)
        if setting.belongs:  # given together with what it belongs to, as text, it arrives
            owner, _, kind = setting.belongs[0].partition("=")
            also = {"model.layers": {"model.posterior": "normal"}, "model.posterior": {"model.layers": "one"}}
            changed = recipe.resolve({setting.name: str(setting.default), **also.get(owner, {}), owner: kind})
            assert flat(changed)[owner] == kind
            assert flat(changed)[setting.name] == setting.default
    schema = recipe.schema()
    assert schema["default"] == own.model_dump()
    assert recipe.read(schema["default"]) == own
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("name", RECIPES)
def test_nonsense_is_answered_by_the_name_of_the_setting(name):
    """By every setting, on the command line and in a file, and never in the words of the library beneath."""
    recipe = RECIPES[name]
    tree = recipe.settings.model_dump()
    for setting in list_settings(recipe.settings):
        owner, _, kind = setting.belongs[0].partition("=") if setting.belongs else ("seed", "", "0")
        if setting.name != "data.source":
            answer = answer_of(recipe.resolve, {owner: kind, setting.name: "?!"})
            assert re.match(rf"`{setting.name}` must be .*; got '\?!'\.", answer)
            if not isinstance(setting.default, bool | str):
                answer = answer_of(recipe.resolve, {owner: kind, setting.name: True})
                assert re.match(rf"`{setting.name}` must be .*; got True\.", answer)
            if not setting.choices:
                with pytest.raises(ValueError, match=f"Unknown setting of .*{setting.name}.kind"):
                    recipe.resolve({owner: kind, f"{setting.name}.kind": setting.default})
        if setting.name in flat(recipe.settings):
            assert answer_of(recipe.read, with_value(tree, setting.name, [1])).startswith(f"`{setting.name}` must be ")


def answer_of(function, value):
    with pytest.raises(ValueError, match="must be") as caught:
        function(value)
    assert type(caught.value) is ValueError
    return str(caught.value)


def with_value(tree, name, value):
    """A tree with another value at a dotted name."""
    first, _, rest = name.partition(".")
    return {**tree, first: with_value(tree[first], rest, value) if rest else value}


def test_every_choice_needs_nothing_but_its_name():
    pending, seen = [Choice], []
    while pending:
        subclasses = pending.pop().__subclasses__()
        pending += subclasses
        seen += [cls for cls in subclasses if "kind" in vars(cls).get("__annotations__", {}) and cls.__doc__]
    assert len(seen) > 20
    for cls in seen:
        assert TypeAdapter(cls).validate_python({"kind": cls().kind}) == cls()


@pytest.mark.parametrize(
    ("recipe", "changes", "sentence"),
    [
        (
            "vae_digits",
            {"model.prior": "vamp"},
            "`model.prior` must be one of normal, mixture, vampprior, flow; got 'vamp'.",
        ),
        (
            "vae_digits",
            {"model.prior.num_components": "20"},
            "`model.prior.num_components=20` belongs to `model.prior=mixture` or `model.prior=vampprior`; with "
            "`model.prior=normal` it means nothing. Leave it out, or change `model.prior`.",
        ),
        (
            "vae_digits",
            {"model.prior": "flow", "model.prior.num_components": "20"},
            "`model.prior.num_components=20` belongs to `model.prior=mixture` or `model.prior=vampprior`; with "
            "`model.prior=flow` it means nothing. Leave it out, or change `model.prior`.",
        ),
        (
            "vae_digits",
            {"model.prior.num_component": "20"},
            "Unknown setting of vae_digits 'model.prior.num_component'. Did you mean 'model.prior.num_components'?",
        ),
        (
            "vae_digits",
            {"model.num_components": "20"},
            "Unknown setting of vae_digits 'model.num_components'. Did you mean 'model.prior.num_components'?",
        ),
        ("vae_digits", {"model": "20"}, "Unknown setting of vae_digits 'model'."),
        ("vae_digits", {"model.num_latent.x": "20"}, "Unknown setting of vae_digits 'model.num_latent.x'."),
        (
            "vae_digits",
            {"model.layers": "two"},
            "`model.layers=two` needs `model.posterior=normal`; got full.",
        ),
        (
            "vae_digits",
            {"model.network.width": "0"},
            "`model.network.width` must be a whole number, at least 1, such as 256; got 0. "
            "(Units of each hidden layer.)",
        ),
        (
            "vae_digits",
            {"model.network.width": "many"},
            "`model.network.width` must be a whole number, at least 1, such as 256; got 'many'. ("
            "Units of each hidden layer.)",
        ),
        ("vae_digits", {"model.network.width": 2.5}, "at least 1, such as 256; got 2.5."),
        ("vae_digits", {"model.network.width": "2.5"}, "at least 1, such as 256; got 2.5."),
        ("vae_digits", {"model.learning_rate": "nan"}, "must be a finite number, more than 0, such as 0.002; got nan."),
        ("vae_digits", {"model.learning_rate": "inf"}, "must be a finite number, more than 0, such as 0.002; got inf."),
        ("vae_digits", {"model.weight_decay": "-1"}, "must be a finite number, at least 0, such as 0.1; got -1."),
        ("vae_digits", {"train.average": "1"}, "a finite number, at least 0 and less than 1, such as 0.0; got 1."),
        ("vae_digits", {"train.steps": "1e30"}, "at least 1 and less than 2**31, such as 3000; got 1e30."),
        ("vae_digits", {"train.keep": "frog"}, "`train.keep` must be one of last, best; got 'frog'."),
        (
            "vae_digits",
            {"seed": "-1"},
            "`seed` must be a whole number, at least 0 and less than 2**63, such as 0; got -1.",
        ),
        (
            "vae_digits",
            {"data.binarize": "often"},
            "`data.binarize` must be one of none, sample, threshold; got 'often'.",
        ),
        ("flow_energy", {"model.sticking_the_landing": "often"}, "must be true or false; got 'often'."),
        ("flow_energy", {"train.batch_size": "10"}, "Unknown setting of flow_energy 'train.batch_size'."),
    ],
)
def test_a_mistake_is_answered_in_a_sentence(recipe, changes, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        RECIPES[recipe].resolve(changes)
    assert type(caught.value) is ValueError
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert "\n" not in str(caught.value)


def test_numbers_may_be_text():
    changes = {"train.steps": "1e3", "seed": "+7", "model.flow.bound": "2", "train.average": "5e-1"}
    changed = recipes.flow_moons.resolve(changes)
    assert (changed.train.steps, changed.seed, changed.model.flow.bound, changed.train.average) == (1000, 7, 2.0, 0.5)
    energy = recipes.flow_energy.resolve({"model.sticking_the_landing": "True"})
    assert energy.model.sticking_the_landing is True


def test_a_choice_is_named_by_its_field_or_as_in_the_file():
    one = recipes.vae_digits.resolve({"model.prior": "mixture", "model.prior.num_components": 20})
    other = recipes.vae_digits.resolve({"model.prior.num_components": 20, "model.prior.kind": "mixture"})
    assert one == other
    assert one.model_dump()["model"]["prior"] == {"kind": "mixture", "num_components": 20}


def test_another_choice_keeps_what_both_have():
    resolve = recipes.vampprior_mnist.resolve
    mixture = resolve({"model.prior": "mixture", "model.prior.num_components": 20})
    assert resolve({"model.prior": "vampprior"}, mixture).model.prior.num_components == 20
    normal = resolve({"model.prior": "normal"}, mixture)
    assert resolve({"model.prior": "vampprior"}, normal) == resolve()  # as the recipe has it
    assert resolve({"model.network": "mlp"}).model.network.width == 300


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("train.steps", "100", "less than 2**31, such as 200000; got '100'."),
        ("train.steps", None, "`train.steps` is missing."),
        ("model.prior", None, "`model.prior` must be one of normal, mixture, vampprior, flow; got"),
        ("model.prior.num_components", None, "`model.prior.num_components` is missing."),
        ("model.prior.num_components", 0, "`model.prior.num_components` must be a whole number, at least 1"),
        ("model.prior.extra", 1, "Unknown setting of vampprior_mnist 'model.prior.extra'"),
        ("model.prior", 3, "`model.prior` must be one of normal, mixture, vampprior, flow; got 3"),
        ("extra", 1, "Unknown setting of vampprior_mnist 'extra'"),
        ("model", 1, "`model` must be a group of settings; got 1"),
        ("data", None, "`data` is missing."),
        ("evaluate", None, "`evaluate` is missing."),
    ],
)
def test_a_file_is_read_strictly(name, value, sentence):
    recipe = recipes.vampprior_mnist
    tree = recipe.settings.model_dump()
    *way, last = name.split(".")
    group = tree
    for part in way:
        group = group[part]
    if value is None and name == "model.prior":
        del group[last]["kind"]
    elif value is None:
        del group[last]
    else:
        group[last] = value
    with pytest.raises(ValueError, match=re.escape(sentence)) as caught:
        recipe.read(tree)
    assert type(caught.value) is ValueError
    with pytest.raises(ValueError, match="must be a group of settings; got 3"):
        recipe.read(3)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match="frozen"):
        recipes.vae_digits.settings.model.num_latent = 3
    assert isinstance(recipes.vae_digits.settings, Group)
