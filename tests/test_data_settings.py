"""How data are read, as settings of a recipe: refused where given in vain, forgotten where a run was made with them."""

import re

import numpy as np
import pytest

from lnz.recipes import independent_digits

DATA = independent_digits.settings.data


def of_a_run(**data):
    """Settings of an earlier run, as its `config.json` has them."""
    tree = independent_digits.settings.model_dump()
    return independent_digits.read({**tree, "data": {**tree["data"], **data}})


@pytest.mark.parametrize(
    ("made_with", "changes"),
    [
        ({"source": "a.npy", "seed": 3, "test_fraction": 0.3}, {"data.source": "binary_digits"}),
        ({"seed": 3}, {}),
        ({"binarize": "threshold", "threshold": 0.3}, {"data.binarize": "none"}),
        ({"binarize": "sample", "seed": 3}, {"data.binarize": "none"}),
    ],
)
def test_what_a_run_was_made_with_is_forgotten_where_it_means_nothing(made_with, changes):
    settings = independent_digits.resolve(changes, of_a_run(**made_with))
    assert settings.data == DATA
    assert len(independent_digits.load(settings).train) > 0


def test_and_kept_where_it_means_something(tmp_path):
    np.save(tmp_path / "a.npy", np.eye(20)[:, :4])
    of_a_file = {"source": str(tmp_path / "a.npy"), "binarize": "threshold"}
    base = of_a_run(**of_a_file, seed=3, test_fraction=0.3, threshold=0.4)
    assert independent_digits.resolve(base=base) == base
    drawn = of_a_run(source="digits", binarize="sample", seed=3)
    assert independent_digits.resolve(base=drawn) == drawn


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "seed",
            "belongs to `data.binarize=sample` or `data.source=FILE`; with `data.binarize=none` and `data.source=bin",
        ),
        (
            "test_fraction",
            "`data.test_fraction=0.3` belongs to `data.source=FILE`; with `data.source=binary",
        ),
        ("threshold", "belongs to `data.binarize=threshold`; with `data.binarize=none` it means nothing"),
    ],
)
def test_what_is_given_in_vain_is_refused(name, words):
    value = {"seed": "3"}.get(name, "0.3")
    with pytest.raises(ValueError, match=re.escape(words)):
        independent_digits.resolve({f"data.{name}": value}, of_a_run(**{name: 0.4 if name != "seed" else 3}))
