"""The rules of the design, held by tests: who imports whom, abstract or final, the core alone, public names."""

import ast
import dataclasses
import functools
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import equinox as eqx
import pytest

import lnz
import lnz._api
import lnz.evaluation
import lnz.runs

ROOT = Path(lnz.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# In this order: a room imports only from those before it.
ROOMS = [
    "modules",
    "numerics",
    "files",
    "spaces",
    "core",
    "data",
    "nets",
    "bijections",
    "distributions",
    "flows",
    "energy",
    "latent",
    "bayes",
    "samplers",
    "normalizers",
    "gradients",
    "objectives",
    "methods",
    "evaluation",
    "training",
    "runs",
    "plots",
    "recipes",
    "interop",
    "testing",
    "cli",
]
MODELS = {"flows", "energy", "latent", "bayes"}
ALGORITHMS = {"samplers", "normalizers", "gradients", "objectives", "methods"}
TOP = {"recipes", "cli", "plots", "studio"}  # they need extras


def room_of(file):
    """`energy` for `energy/_rbm.py`, `_api` for `_api.py`."""
    return file.relative_to(ROOT).with_suffix("").parts[0]


def imports_of(file):
    """What a file imports from other rooms of lnz, wherever in it: `("core", "AbstractDensity")`."""
    package = ["lnz", *file.relative_to(ROOT).with_suffix("").parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [name.split(".", 2)[1:] for name in names if name.startswith("lnz.")]
        found |= {(room, "".join(rest)) for room, *rest in parts if room != room_of(file)}
    return found


def offences(files, is_wrong):
    found = {str(file.relative_to(ROOT)): {i for i in imports_of(file) if is_wrong(file, *i)} for file in files}
    return {file: wrong for file, wrong in found.items() if wrong}


IN_ROOMS = [file for file in FILES if len(file.relative_to(ROOT).parts) > 1]


def test_every_file_is_in_a_room():
    assert [file.name for file in FILES if file not in IN_ROOMS] == ["__init__.py", "_api.py"]
    assert {room_of(file) for file in IN_ROOMS} == set(ROOMS)


def test_the_parser_of_imports_sees_them():
    assert imports_of(ROOT / "evaluation" / "_normalize.py") >= {("normalizers", ""), ("core", "AbstractDensity")}
    assert ("core", "AbstractEnergyModel") in imports_of(ROOT / "energy" / "_rbm.py")
    assert ("plots", "write_report") in imports_of(ROOT / "cli" / "_use.py")  # inside a function
    assert ("spaces", "") in imports_of(ROOT / "distributions" / "_categorical.py")  # `from .. import spaces`


def test_a_room_imports_only_rooms_before_it():
    def is_later(file, room, name):
        return ROOMS.index(room) >= ROOMS.index(room_of(file))

    assert offences(IN_ROOMS, is_later) == {}


def test_a_room_imports_only_public_names_of_another():
    assert offences(IN_ROOMS, lambda file, room, name: name.startswith("_") or "." in name) == {}


def test_models_and_algorithms_do_not_know_each_other():
    assert offences([f for f in IN_ROOMS if room_of(f) in MODELS], lambda f, room, name: room in ALGORITHMS) == {}
    assert offences([f for f in IN_ROOMS if room_of(f) in ALGORITHMS], lambda f, room, name: room in MODELS) == {}


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.name in ("__init__.py", "_api.py") and file != ROOT / "__init__.py"],
    ids=lambda f: str(f.relative_to(ROOT)),
)
def test_init_files_only_re_export(file):
    module = ast.parse(file.read_text("utf-8"))
    for node in module.body[ast.get_docstring(module) is not None :]:
        assert isinstance(node, ast.ImportFrom), ast.unparse(node)
        assert node.level in (1, 2), ast.unparse(node)
        for alias in node.names:
            assert alias.asname == alias.name, f"spell it `{alias.name} as {alias.name}`"


def test_lnz_itself_reads_its_names_from_api_when_first_used():
    assert {name for name in vars(lnz._api) if not name.startswith("_")} == set(dir(lnz))
    assert all(getattr(lnz, name) is getattr(lnz._api, name) for name in dir(lnz))
    with pytest.raises(AttributeError, match="'nonsense'"):
        lnz.nonsense  # noqa: B018
    code = "import sys, lnz; assert 'jax' not in sys.modules; lnz.energy.RBM"
    subprocess.run([sys.executable, "-c", code], check=True)


def modules_of_lnz():
    """All of lnz but the command line and pictures, which need extras."""
    names = [info.name for info in pkgutil.walk_packages(lnz.__path__, "lnz.")]
    return [importlib.import_module(name) for name in names if name.split(".")[1] not in TOP]


def classes_of_lnz():
    found = {}
    for module in (lnz._api, *modules_of_lnz()):
        for cls in vars(module).values():
            if inspect.isclass(cls) and cls.__module__.startswith("lnz.") and issubclass(cls, eqx.Module):
                found[f"{cls.__module__}.{cls.__qualname__}"] = cls
    return found


CLASSES = classes_of_lnz()
ABSTRACT = {name: cls for name, cls in CLASSES.items() if cls.__name__.lstrip("_").startswith("Abstract")}
FINAL = {name: cls for name, cls in CLASSES.items() if name not in ABSTRACT}


def test_there_are_classes_to_check():
    assert len(ABSTRACT) > 15
    assert len(FINAL) > 30


@pytest.mark.parametrize("cls", ABSTRACT.values(), ids=ABSTRACT.keys())
def test_abstract_classes_cannot_be_built(cls):
    with pytest.raises(TypeError, match=r"abstract|Abstract"):
        cls()


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES.keys())
def test_final_classes_are_not_subclassed(cls):
    ancestors = [base for base in cls.__mro__[1:] if base in CLASSES.values()]
    assert [base.__name__ for base in ancestors if base in FINAL.values()] == []


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES.keys())
def test_no_module_caches_in_itself(cls):
    """Equinox counts the attributes of an instance: equal models would differ in structure once one was asked."""
    assert [name for name, value in vars(cls).items() if isinstance(value, functools.cached_property)] == []


def concrete_methods(cls):
    names = set()
    for name, member in vars(cls).items():
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        # Equinox wraps methods; the wrapper knows the name of the class that wrote it.
        is_method = callable(function) or isinstance(member, property)
        if is_method and not getattr(function, "__isabstractmethod__", False) and name in written_in(cls):
            names.add(name)
    return names


def written_in(cls):
    """Names of the methods in the source of a class, without what Equinox and dataclasses add."""
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    return {item.name for item in node.body if isinstance(item, ast.FunctionDef)} - {"__init__", "__check_init__"}


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES.keys())
def test_no_method_is_implemented_twice(cls):
    """A concrete method of one class is overridden by none of its descendants, and fields live in one class."""
    lineage = [base for base in cls.__mro__ if base in CLASSES.values()]
    seen = {}
    for base in lineage:
        for name in concrete_methods(base):
            assert name not in seen, f"{name} of {base.__name__} is overridden in {seen[name]}"
            seen[name] = base.__name__
    owners = {base.__name__ for base in lineage if "__init__" in written_init(base)}
    assert len(owners) <= 1


def written_init(cls):
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    return {item.name for item in node.body if isinstance(item, ast.FunctionDef)} & {"__init__"}


def test_the_core_runs_without_any_extra():
    code = """
    import sys

    EXTRAS = {"typer", "rich", "pydantic", "matplotlib", "jinja2", "sklearn", "PIL", "pyarrow", "pooch", "platformdirs",
              "blackjax", "diffrax", "numpyro", "arviz", "tensorboard", "orbax", "beartype", "pytest"}

    class Block:
        # Finds no extra, as if none were installed.

        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] not in EXTRAS:
                return self.finder.find_spec(name, path, target)

        def __getattr__(self, name):
            return getattr(self.finder, name)

    sys.meta_path = [Block(finder) for finder in sys.meta_path]

    import jax, jax.numpy as jnp, jax.random as jr, numpy as np, optax, lnz, lnz.testing

    data = lnz.data.load("bars_and_stripes").train[:50]
    method = lnz.Gradient(lnz.objectives.MaximumLikelihood(), optax.sgd(0.1))
    model = lnz.fit(jr.key(0), lnz.Bernoulli(jnp.zeros(16)), method, data, steps=2).model
    print(lnz.evaluate(jr.key(1), model, data))
    try:
        lnz.data.load("digits")
    except ImportError as error:
        print(error)
    assert not EXTRAS & {name.split(".")[0] for name in sys.modules}
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nats per example (exact, n = 50" in done.stdout
    assert 'pip install "lnz[app]"' in done.stdout


PUBLIC = [
    lnz,
    *(value for name, value in vars(lnz._api).items() if inspect.ismodule(value) and not name.startswith("_")),
    importlib.import_module("lnz.recipes"),
    importlib.import_module("lnz.testing"),
]


def public_objects():
    for module in PUBLIC:
        for name, value in vars(module).items():
            ours = getattr(value, "__module__", "").startswith("lnz")
            if not name.startswith("_") and ours and (inspect.isclass(value) or inspect.isroutine(value)):
                yield f"{module.__name__}.{name}", value


@pytest.mark.parametrize(("name", "value"), list(public_objects()), ids=[name for name, _ in public_objects()])
def test_public_objects_say_what_they_are(name, value):
    doc = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert doc, f"{name} has no docstring"
    assert not doc.startswith(f"{value.__name__}("), f"{name} has only the docstring of a dataclass"


RESULTS = [lnz.Estimate, lnz.Bracket, lnz.LogLikelihood, lnz.RandomVariable, lnz.Protocol, lnz.Weights]
RESULTS += [lnz.evaluation.Row, lnz.evaluation.Comparison, lnz.runs.TableRow, lnz.runs.Table]


@pytest.mark.parametrize("cls", RESULTS)
def test_results_have_fields_and_no_bags_of_strings(cls):
    """A key of a dictionary is typed again by whoever reads it; `extras` are for readers that are no code of lnz."""
    bags = {field.name for field in dataclasses.fields(cls) if "dict" in str(field.type).lower()}
    assert bags <= {"extras"}


def test_nothing_reads_extras():
    read = re.compile(r"\.extras(\[|\.get)")
    assert [file for file in FILES if read.search(file.read_text("utf-8"))] == []


# Section 3 of the design, as far as it is built.
NAMES = """
fit sample condition log_normalizer bracket simulated_bracket evaluate diagnose save load cite compare register
Fit Estimate LogLikelihood Bracket
data.load data.Splits energy.RBM energy.RBM.from_parameters energy.RBM.path energy.RBM.transpose energy.DBM
energy.MarkovField latent.VAE bayes.NormalMean flows.affine flows.coupling_spline flows.realnvp
flows.masked_autoregressive flows.inverse_autoregressive flows.autoregressive_spline Transformed
Euclidean Binary Interval Normal Normal.standard
energy.MarkovField latent.VAE bayes.NormalMean flows.affine flows.planar flows.radial
flows.sylvester flows.neural_autoregressive Transformed Euclidean Binary Interval Normal Normal.standard
Bernoulli Uniform MultivariateNormal Mixture Categorical Gradient EM objectives.CD objectives.PCD
objectives.MaximumLikelihood objectives.ELBO objectives.IWAE objectives.ReverseKL gradients.Pathwise
gradients.StickingTheLanding gradients.DoublyReparameterised gradients.Score gradients.LeaveOneOut
objectives.ReweightedWakeSleep objectives.WakeSleep samplers.Gibbs samplers.HMC
normalizers.Quadrature normalizers.Importance normalizers.AIS normalizers.ReverseAIS normalizers.BAR normalizers.Bound
bijections nets
AbstractSpace AbstractDensity AbstractPath AbstractDistribution AbstractBlockDensity AbstractLatentModel
AbstractBayesianModel AbstractExponentialFamily AbstractModel AbstractBijection AbstractSampler AbstractNormalizer
AbstractObjective AbstractMethod AbstractEnergyModel
testing.check_density testing.check_bijection testing.check_sampler testing.check_space
Record spaces.AbstractSpace spaces.Measure spaces.Categorical
simulated_bracket diagnose LatentDiagnostics normalizers.Bound
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_names_that_others_call(name):
    value = lnz
    for part in name.split("."):
        value = getattr(value, part)


def test_arguments_that_others_pass():
    fit = inspect.signature(lnz.fit).parameters
    assert list(fit)[:4] == ["key", "model", "method", "data"]
    assert all(fit[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("steps", "batch_size", "valid"))
    evaluate = inspect.signature(lnz.evaluate).parameters
    assert list(evaluate)[:3] == ["key", "model", "data"]
    assert evaluate["hidden"].default is None
    assert evaluate["partition"].default is None
    for verb in (lnz.log_normalizer, lnz.bracket, lnz.sample):
        assert next(iter(inspect.signature(verb).parameters)) == "key"
    assert list(inspect.signature(lnz.normalizers.AIS.__init__).parameters)[1:4] == ["num_chains", "betas", "path"]


MOST_WORDS = 200  # of a docstring: an option that needs more should be a value with its own docstring


@pytest.mark.parametrize("file", sorted(ROOT.rglob("*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_are_short(file):
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, documented)]
    words = {getattr(node, "name", file.name): len((ast.get_docstring(node) or "").split()) for node in nodes}
    assert {name: num for name, num in words.items() if num > MOST_WORDS} == {}


FIRST = [
    "lnz.runs._run",
    "lnz.evaluation._evaluate",
    "lnz.training._fit",
    "lnz.cli._compare",
    "lnz.cli._use",
    "lnz.data",
    "lnz.plots",
    "lnz.energy",
]


@pytest.mark.parametrize("name", FIRST)
def test_any_module_can_be_imported_first(name):
    """No circle of imports, whatever a command or a user asks for first."""
    subprocess.run([sys.executable, "-c", f"import {name}"], check=True)
