"""Public modules say what they hold, and the extras of the package are what its modules import."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "lnz"
PUBLIC = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if not any(part.startswith("_") and part != "__init__.py" for part in path.relative_to(SOURCE).parts)
]
IMPORT_NAMES = {"pillow": "PIL", "scikit-learn": "sklearn"}  # where it is not the name of the distribution
NOT_OF_THE_PACKAGE = {"test", "lint"}
IMPORTED_BY_JAX = {"cuda"}
BROUGHT_BY_JAX = {"scipy"}


def test_public_modules_are_found():
    assert len(PUBLIC) > 14
    assert SOURCE / "__init__.py" in PUBLIC


@pytest.mark.parametrize("path", PUBLIC, ids=lambda path: str(path.relative_to(SOURCE).parent))
def test_public_modules_have_docstrings(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "no docstring"
    first = docstring.splitlines()[0]
    assert first.endswith(".")
    assert not re.match(r"(What|Of|The things|Things)\b", first)


def third_party_imports():
    """The top-level names that modules of lnz import, but those of Python and of lnz itself."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("find_spec", "import_module"):
                found |= {arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)}  # files of a package
    found = {name for name in found if name.isidentifier()}
    return found - set(sys.stdlib_module_names) - {"lnz"}


def import_name(requirement):
    name = re.match(r"[\w.-]+", requirement)[0]
    return IMPORT_NAMES.get(name, name.replace("-", "_"))


def test_extras_are_what_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    imported = third_party_imports()
    declared = {import_name(requirement) for requirement in project["dependencies"]}
    for extra, requirements in extras.items():
        if extra not in NOT_OF_THE_PACKAGE | IMPORTED_BY_JAX:
            names = {import_name(requirement) for requirement in requirements}
            assert names <= imported, f"nothing imports these of the extra {extra}: {names - imported}"
            declared |= names
    declared |= BROUGHT_BY_JAX
    assert imported <= declared, f"imported, but no dependency: {imported - declared}"


def test_messages_name_extras_that_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        name for path in SOURCE.rglob("*.py") for name in re.findall(r"pip install \"lnz\[(\w+)\]", path.read_text())
    }
    assert named
    assert named <= set(extras)
