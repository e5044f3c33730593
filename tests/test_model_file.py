"""Model files: what comes back, what is refused, and that nothing in them is executed."""

import json
import os
import pickle
import subprocess
import sys
import textwrap

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import lnz
from lnz import testing
from lnz.energy import RBM


class Holder(eqx.Module):
    """Anything at all, to be saved and loaded."""

    content: object


lnz.register(Holder)


def write(path, tree, arrays=None, **header):
    """A model file with this structure, however wrong."""
    header = {"format": "lnz model 1", "tree": tree if isinstance(tree, str) else json.dumps(tree), **header}
    save_file(arrays or {}, path, metadata={name: value for name, value in header.items() if value is not None})
    return path


@pytest.mark.parametrize(
    "array",
    [
        np.float32([0.1, -np.inf, np.nan]),
        np.float16([[0.1]]),
        np.int32([-1, 2]),
        np.uint8([255]),
        np.array([True, False]),
        np.float32(0.3),  # a scalar keeps its shape ()
        np.zeros((0, 3), np.float32),
        np.arange(6, dtype=np.float32).reshape(2, 3).T,  # not contiguous
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_arrays_come_back_bit_for_bit(array):
    testing.check_save(Holder(jnp.asarray(array)))


def test_bfloat16_comes_back_bit_for_bit():
    testing.check_save(Holder(jnp.asarray([0.1, 3.0], jnp.bfloat16)))


def test_float64_comes_back_bit_for_bit(float64):
    testing.check_save(Holder((jnp.asarray([0.1]), jnp.asarray([2**40]))))


@pytest.mark.parametrize(
    "content",
    [
        None,
        True,
        3,
        -(2**70),
        "text",
        "",
        0.1,
        float("inf"),
        float("-inf"),
        (1, (2.5,)),
        [],
        [1, None],
        {"a": (1,)},
        {},
    ],
)
def test_values_that_are_no_arrays_come_back(tmp_path, content):
    lnz.save(tmp_path / "m.lnz", Holder(content))
    loaded = lnz.load(tmp_path / "m.lnz").content
    assert loaded == content
    assert type(loaded) is type(content)


def test_numpy_arrays_come_back_as_jax_arrays(tmp_path):
    lnz.save(tmp_path / "m.lnz", Holder(np.float32([1.0, 2.0])))
    loaded = lnz.load(tmp_path / "m.lnz").content
    assert isinstance(loaded, jax.Array)
    np.testing.assert_array_equal(loaded, [1.0, 2.0])


def test_functions_are_stored_by_name(tmp_path):
    posterior = lnz.condition(lnz.bayes.NormalMean(lnz.Normal.standard(1), 0.5), jnp.ones((2, 1)))
    lnz.save(tmp_path / "m.lnz", posterior)
    loaded = lnz.load(tmp_path / "m.lnz")
    assert loaded.log_likelihood.func is posterior.log_likelihood.func
    assert loaded.log_density(jnp.ones(1)) == posterior.log_density(jnp.ones(1))


def test_path_may_be_text_and_its_folder_new(tmp_path):
    lnz.save(str(tmp_path / "new" / "m.lnz"), Holder(1))
    assert lnz.load(str(tmp_path / "new" / "m.lnz")).content == 1


class Unknown(eqx.Module):
    x: jax.Array


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Unknown(jnp.zeros(1)), r"`save`: Unknown is Unknown, .*`lnz.register`"),
        (Holder([1, Unknown(jnp.zeros(1))]), r"`save`: Holder.content\[1\] is Unknown"),
        (Holder({"a": (jnp.tanh,)}), r"`save`: Holder.content\['a'\]\[0\] is"),
        (Holder(lambda x: x), r"`save`: Holder.content is function"),
        (Holder(jr.key(0)), r"`save`: Holder.content is a random key"),
        (Holder({1: 2}), r"`save`: Holder.content is dict"),
        (Holder(1j), r"`save`: Holder.content is complex"),
        (Holder({1, 2}), r"`save`: Holder.content is set"),
    ],
)
def test_what_cannot_be_stored_is_named(tmp_path, model, words):
    with pytest.raises(TypeError, match=words):
        lnz.save(tmp_path / "m.lnz", model)
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.lnz"
    lnz.save(path, Holder("old"))
    with pytest.raises(TypeError):
        lnz.save(path, Holder(lambda x: x))
    assert lnz.load(path).content == "old"

    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(lnz._atomic.os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        lnz.save(path, Holder("new"))
    assert lnz.load(path).content == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["m.lnz"]  # no temporary file is left


def test_a_save_replaces_the_old_file(tmp_path):
    path = tmp_path / "m.lnz"
    lnz.save(path, Holder("old"))
    lnz.save(path, Holder("new"))
    assert lnz.load(path).content == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["m.lnz"]


def test_others_may_read_the_file_as_the_umask_says(tmp_path):
    before = os.umask(0o027)
    try:
        lnz.save(tmp_path / "m.lnz", Holder(1))
    finally:
        os.umask(before)
    assert (tmp_path / "m.lnz").stat().st_mode & 0o777 == 0o640


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`load\(path\)`: there is no file"):
        lnz.load(tmp_path / "m.lnz")
    with pytest.raises(FileNotFoundError):
        lnz.load(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 8, 30, 0.5, -1])
def test_truncated_file(tmp_path, keep):
    path = tmp_path / "m.lnz"
    lnz.save(path, RBM(3, 2, key=jr.key(0)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="is no model file of lnz, or is damaged"):
        lnz.load(path)


@pytest.mark.parametrize(
    "content",
    [b"hello, this is a text file and no model", pickle.dumps({"a": [1.0] * 50}), bytes(200), b"\xff" * 200],
    ids=["text", "pickle", "zeros", "ones"],
)
def test_garbage(tmp_path, content):
    (tmp_path / "m.lnz").write_bytes(content)
    with pytest.raises(ValueError, match="is no model file of lnz, or is damaged"):
        lnz.load(tmp_path / "m.lnz")


def test_nothing_is_executed(tmp_path):
    """Only registered names are looked up, never imported: a file cannot reach any other function."""
    witness = tmp_path / "witness"
    for name in ("os.system", "posix.system", "builtins.eval", "subprocess.run", "lnz.save"):
        call = {"module": name, "fields": {"command": f"touch {witness}"}}
        with pytest.raises(ValueError, match=f"Unknown constructor '{name}'"):
            lnz.load(write(tmp_path / "m.lnz", call))
        with pytest.raises(ValueError, match=f"Unknown constructor '{name}'"):
            lnz.load(write(tmp_path / "m.lnz", {"function": name}))
    assert not witness.exists()

    class Trap:
        def __reduce__(self):
            return (open, (str(witness), "w"))

    (tmp_path / "m.lnz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match="damaged"):
        lnz.load(tmp_path / "m.lnz")
    assert not witness.exists()


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"module": "lnz.energy.RBN", "fields": {}}, r"Unknown constructor 'lnz.energy.RBN'. Did you mean .*RBM"),
        ({"module": "lnz.Bernouli", "fields": {}}, r"Import the module that defines it"),
        ({"module": "lnz.energy.centred_gradient", "fields": {}}, r"'lnz.energy.centred_gradient' as a class"),
        ({"module": "lnz.Binary", "fields": {}}, r"lnz.Binary with the fields \[\], but this version has \['shape'\]"),
        ({"module": "lnz.Binary", "fields": {"shape": {"tuple": [2]}, "colour": 1}}, r"\['colour', 'shape'\]"),
        ({"module": "lnz.Binary"}, "damaged"),
        ({"module": "lnz.Binary", "fields": [1]}, "damaged"),
        ({"module": ["lnz.Binary"], "fields": {}}, "damaged"),
        ({"array": "0", "shape": [2]}, "damaged"),
        ({"array": "x", "shape": [3]}, "m.lnz' cannot be loaded: cannot reshape"),
        ({"array": "x", "shape": "many"}, "damaged"),
        ({"array": "x"}, "damaged"),
        ({"tuple": 3}, "damaged"),
        ({"list": None}, "damaged"),
        ({"dict": [1]}, "damaged"),
        ({"float": "a lot"}, "m.lnz' cannot be loaded: invalid hexadecimal"),
        ({"float": 0.5}, "damaged"),
        ({}, "damaged"),
        ("{not json", "damaged"),
        ("[" * 100_000, "damaged"),
        ('{"tuple": [' * 20_000 + "]}" * 20_000, "damaged"),
    ],
)  # fmt: skip
def test_damaged_structure(tmp_path, tree, words):
    with pytest.raises(ValueError, match=words):
        lnz.load(write(tmp_path / "m.lnz", tree, {"x": np.zeros(2, np.float32)}))


def test_other_safetensors_files_are_no_models(tmp_path):
    with pytest.raises(ValueError, match="its format is 'pt'"):
        lnz.load(write(tmp_path / "m.lnz", "null", format="pt"))
    save_file({"x": np.zeros(2, np.float32)}, tmp_path / "m.lnz")
    with pytest.raises(ValueError, match="its format is None"):
        lnz.load(tmp_path / "m.lnz")
    save_file({}, tmp_path / "m.lnz", metadata={"format": "lnz model 1"})
    with pytest.raises(ValueError, match="damaged"):
        lnz.load(tmp_path / "m.lnz")


def test_fields_are_checked_when_loaded(tmp_path):
    lnz.save(tmp_path / "m.lnz", lnz.samplers.Gibbs(num_sweeps=1))
    with safe_open(tmp_path / "m.lnz", framework="numpy") as file:
        tree = json.loads(file.metadata()["tree"])
    tree["fields"]["num_sweeps"] = 0
    with pytest.raises(ValueError, match="at least 1; got 0"):
        lnz.load(write(tmp_path / "m.lnz", tree))


def test_float64_file_needs_float64(tmp_path):
    with jax.enable_x64(True):
        lnz.save(tmp_path / "m.lnz", lnz.Normal.standard(2))
        assert lnz.load(tmp_path / "m.lnz").loc.dtype == jnp.float64
    with pytest.raises(ValueError, match=r'holds float64 arrays.*jax.config.update\("jax_enable_x64", True\)'):
        lnz.load(tmp_path / "m.lnz")


def test_own_class_is_found_by_a_program_that_imports_its_module(tmp_path):
    (tmp_path / "mine.py").write_text(
        textwrap.dedent(
            """
            import equinox as eqx, jax.numpy as jnp, lnz

            @lnz.register
            class Cube(lnz.AbstractBijection):
                scale: float
                domain: lnz.AbstractSpace = lnz.Euclidean(1)
                codomain: lnz.AbstractSpace = lnz.Euclidean(1)

                def forward_and_log_det(self, x, *, key=None):
                    return x**3, jnp.sum(jnp.log(3 * x**2))

                def inverse_and_log_det(self, y, *, key=None):
                    return jnp.cbrt(y), -jnp.sum(jnp.log(3 * jnp.cbrt(y)**2))

            if __name__ == "__main__":
                pass
            """
        )
    )

    def run(code):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert run("import lnz, mine; lnz.save('m.lnz', lnz.Transformed(lnz.Normal.standard(1), mine.Cube(2.5)))") == ""
    both = run(
        "import lnz\n"
        "try: lnz.load('m.lnz')\n"
        "except ValueError as error: print(error)\n"
        "import mine\n"
        "print(lnz.load('m.lnz').bijection.scale)"
    )
    assert "Unknown constructor 'mine.Cube'" in both
    assert "Import the module that defines it" in both
    assert both.endswith("2.5\n")


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match=r"the name is taken by"):
        lnz.register(Unknown, name="lnz.distributions.Bernoulli")

    def define():
        class Again(eqx.Module):
            x: int

        return lnz.register(Again)

    define()
    newest = define()  # a notebook cell that is run again
    assert lnz._register.registered_object(lnz._register.public_name(newest)) is newest
