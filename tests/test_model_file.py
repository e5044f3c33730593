"""Model files: what comes back, what is refused, and that nothing in them is executed."""

import gzip
import hashlib
import io
import itertools
import json
import os
import pickle
import random
import re
import subprocess
import sys
import textwrap
import tracemalloc
from collections import namedtuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save as save_bytes, save_file

import lnz
from lnz import testing
from lnz.energy import RBM
from lnz.files import DamagedError, check_digest
from lnz.modules import build
from lnz.training._checkpoint import Snapshot, _read as read_checkpoint, save_checkpoint


class Holder(eqx.Module):
    """Anything at all, to be saved and loaded."""

    content: object


lnz.register(Holder)


_BEFORE_DIGEST = b'{"__metadata__": {"sha256": "'


def sealed(content):
    """The file with the digest that it should have, where there is a place for it."""
    start = 8 + len(_BEFORE_DIGEST)
    if content[8:start] != _BEFORE_DIGEST:
        return content
    blank = content[:start] + b"0" * 64 + content[start + 64 :]
    return blank[:start] + hashlib.sha256(blank).hexdigest().encode() + blank[start + 64 :]


def write(path, tree, arrays=None, **header):
    """A model file with this structure, however wrong."""
    metadata = {"format": "lnz model 1", "tree": tree if isinstance(tree, str) else json.dumps(tree), **header}
    content = save_bytes(arrays or {})
    length = int.from_bytes(content[:8], "little")
    header = {"__metadata__": metadata, **json.loads(content[8 : 8 + length])}
    return write_bytes(path, header, content[8 + length :])


def write_bytes(path, header, data=b""):
    """A file with this header (text, bytes or JSON) and these data, however wrong."""
    if isinstance(header, dict):
        metadata = header.get("__metadata__")
        if isinstance(metadata, dict):
            header = {"__metadata__": None, **header}  # first, where the digest must be
            header["__metadata__"] = {"sha256": "0" * 64, **metadata}
        header = json.dumps(header)
    header = header.encode("utf-8") if isinstance(header, str) else header
    path.write_bytes(sealed(len(header).to_bytes(8, "little") + header + data))
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
@pytest.mark.filterwarnings("ignore:.* are NaN or infinite")
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
        (Holder({"a": (jnp.sinh,)}), r"`save`: Holder.content\['a'\]\[0\] is"),
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

    monkeypatch.setattr(lnz.files._atomic.os, "fsync", full)
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


@lnz.register
class Defaulted(eqx.Module):
    """A class all of whose fields have a default."""

    first: int = 3
    second: int = 4


def test_no_default_stands_in_for_a_field_that_a_file_lacks(tmp_path):
    lnz.save(tmp_path / "m.lnz", Defaulted(5, 6))
    with safe_open(tmp_path / "m.lnz", "numpy") as file:
        node = json.loads(file.metadata()["tree"])
    assert "with the fields ['second'], but" in refusal(write(tmp_path / "m.lnz", {**node, "fields": {"second": 6}}))


def test_missing_file_and_folder(tmp_path, untyped):
    with pytest.raises(FileNotFoundError, match=r"`load\(path\)`: there is no file"):
        lnz.load(tmp_path / "m.lnz")
    with pytest.raises(IsADirectoryError, match=r"is a folder. Add the name of a file"):
        lnz.load(tmp_path)
    with pytest.raises(TypeError, match=r"`load\(path\)` needs the path of a file; got int"):
        lnz.load(3)


def refusal(path):
    """What `load` answers, in one line that names the file."""
    with pytest.raises(ValueError, match=r"^`load") as caught:
        lnz.load(path)
    message = str(caught.value)
    assert type(caught.value) is ValueError
    assert repr(str(path)) in message
    assert "\n" not in message
    assert len(message) < 5200
    return message


def test_every_truncated_file_is_refused(tmp_path):
    path = tmp_path / "m.lnz"
    lnz.save(path, lnz.Normal.standard(2))
    content = path.read_bytes()
    for keep in range(len(content)):
        path.write_bytes(content[:keep])
        assert "cut short" in refusal(path) or keep == 0
    path.write_bytes(content)
    assert lnz.load(path).loc.shape == (2,)


def saved(function, *args):
    file = io.BytesIO()
    function(file, *args)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"hello", "it has only 5 bytes"),
        (
            b"hello, this is a text file and no model",
            "expected a safetensors header after 8 bytes; got b'his is a text",
        ),
        (pickle.dumps({"a": [1.0] * 50}), "looks like a Python pickle.*which lnz never reads"),
        (pickle.dumps({"a": [1.0] * 50}, protocol=2), "looks like a Python pickle"),
        (
            saved(np.savez, np.zeros(2)),
            "looks like a zip archive, such as an .npz or torch file, which lnz never reads",
        ),
        (saved(np.save, np.zeros(2)), "looks like a NumPy array"),
        (gzip.compress(b"a" * 100), "looks like compressed by gzip"),
        (b"<!DOCTYPE html><html></html>", "looks like HTML or XML; maybe the download failed"),
        (b"\n <html></html>", "looks like HTML or XML"),
        (bytes(200), "expected a safetensors header"),
        (b"\xff" * 200, "expected a safetensors header"),
        (b"\xff" * 8 + b"{}", "claims 18446744073709551615 bytes; expected at most 100000000"),
        ((2**40).to_bytes(8, "little") + b"{}", "claims 1099511627776 bytes; expected at most"),
    ],
    ids=lambda value: value[:15] if isinstance(value, str) else "",
)
def test_other_files_are_no_models(tmp_path, content, words):
    (tmp_path / "m.lnz").write_bytes(content)
    assert re.search("is not a model file of lnz: .*" + words, refusal(tmp_path / "m.lnz"))


METADATA = {"format": "lnz model 1", "tree": "null"}


def x(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}, "__metadata__": METADATA, **more}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{no json", "not JSON.*property name"),
        ("{} {}", "not JSON.*Extra data"),
        (b'{"\xff": 1}', "not UTF-8 text"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ('{"a": ' + "[" * 100_000, "nested too deeply"),
        ('{"x": 1, "x": 2}', "has the key 'x' twice"),
        ('{"x": ' + "9" * 5000 + "}", "4300 digits"),
        ('{"x": NaN}', "has the number 'NaN'"),
        ('{"x": -Infinity}', "has the number '-Infinity'"),
        ('{"x": 1e999}', "has the number '1e999'; expected whole numbers"),
        ({"__metadata__": 3}, "metadata must be a JSON object; got 3"),
        ({"__metadata__": {**METADATA, "tree": None}}, "structure must be text; got None"),
        ({"__metadata__": {**METADATA, "tree": {"float": "0x1p0"}}}, "structure must be text"),
        (x(y=None), "'y' must be described by .*; got None"),
        (x(y={"dtype": "F32"}), "'y' must be described by"),
        (x(dtype="F31"), "'x' has dtype 'F31'; this version reads BOOL"),
        (x(dtype="F4"), "'x' has dtype 'F4'; this version reads"),
        (x(dtype=["F32"]), r"dtype \['F32'\]; this version reads"),
        (x(dtype="F64"), "needs 16 bytes, but its data_offsets .* do not enclose that many"),
        (x(shape=[3]), "needs 12 bytes, but its data_offsets"),
        (x(shape=[-2]), r"list of sizes as shape; got \[-2\]"),
        (x(shape=[-1, -2]), "list of sizes as shape"),
        (x(shape=[True, 2]), "list of sizes as shape"),
        (x(shape="2"), "list of sizes as shape"),
        (x(shape=None), "list of sizes as shape"),
        (x(shape=[[2]]), "list of sizes as shape"),
        (x(shape=[2.0]), "has the number '2.0'"),
        (x(shape=[10**400]), "list of sizes as shape"),
        (x(shape=[2**62, 2**62, 0]), "list of sizes as shape"),
        (x(shape=[1] * 100), "list of sizes as shape"),
        (x(shape=[2**50]), "needs 4503599627370496 bytes, but"),
        (x(offsets=[0]), "two positions as data_offsets"),
        (x(offsets=[0, 8, 8]), "two positions as data_offsets"),
        (x(offsets=[-8, 0]), "two positions as data_offsets"),
        (x(offsets=[8, 0]), "do not enclose that many"),
        (x(offsets=["0", "8"]), "two positions as data_offsets"),
        (x(offsets=[8, 16]), "'x' leaves a gap before it"),
        (x(y={"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}), "'y' overlaps another"),
        (x(y={"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}), "'y' overlaps another"),
        (x(y={"dtype": "F32", "shape": [1], "data_offsets": [8, 12]}), "cut short: it should have"),
        (x("U8", [2], [0, 2]), "something was added to it"),
        (x(), r"does not use the arrays \['x'\]"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)  # fmt: skip
def test_damaged_header(tmp_path, header, words):
    data = bytes(8 if "data_offsets" in str(header) else 0)
    path = write_bytes(tmp_path / "m.lnz", header, data)
    assert re.search("(is damaged|cannot be loaded).*" + words, refusal(path))


def test_huge_claims_allocate_nothing(tmp_path):
    huge = {"dtype": "F32", "shape": [2**35], "data_offsets": [0, 2**37]}
    refusal(write_bytes(tmp_path / "m.lnz", {"x": huge, "__metadata__": METADATA}, bytes(8)))
    tracemalloc.start()
    refusal(tmp_path / "m.lnz")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_truth_values_are_bits(tmp_path):
    tree = {"array": "x", "shape": [2]}
    header = {**x("BOOL", [2], [0, 2]), "__metadata__": {**METADATA, "tree": json.dumps(tree)}}
    np.testing.assert_array_equal(lnz.load(write_bytes(tmp_path / "m.lnz", header, b"\0\1")), [False, True])
    assert "neither 0 nor 1" in refusal(write_bytes(tmp_path / "m.lnz", header, b"\0\2"))


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
    with pytest.raises(ValueError, match=r"pickle.*never reads"):
        lnz.load(tmp_path / "m.lnz")
    assert not witness.exists()


BINARY = {"module": "lnz.spaces.Binary", "fields": {"shape": {"tuple": [2]}}}


def normal(**changes):
    array = {"array": "x", "shape": [2]}
    fields = {"loc": array, "log_scale": array, "constant": False, **changes}
    return {"module": "lnz.distributions.Normal", "fields": fields}


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"module": "lnz.energy.RBN", "fields": {}}, r"Unknown constructor 'lnz.energy.RBN'. Did you mean .*RBM"),
        ({"module": "lnz.distributions.Bernouli", "fields": {}}, r"Import the module that defines it"),
        ({"module": "a" * 100_000, "fields": {}}, r"Unknown constructor 'aaa"),
        ({"module": "lnz.energy.RBM.__init__", "fields": {}}, "Unknown constructor"),
        ({"module": "", "fields": {}}, "Unknown constructor ''"),
        ({"module": "lnz.energy.centred_gradient", "fields": {}}, r"'lnz.energy.centred_gradient' as a class"),
        ({"module": "lnz.spaces.Binary", "fields": {}}, r"Binary with the fields \[\], but this version has \['sh"),
        ({"module": "lnz.spaces.Binary", "fields": {"shape": {"tuple": [2]}, "colour": 1}}, r"\['colour', 'shape'\]"),
        ({"module": "lnz.spaces.Binary", "fields": {"shape": {"tuple": [2]}, "__class__": 1}}, "__class__"),
        ({"module": "lnz.spaces.Binary"}, "damaged"),
        ({**BINARY, "function": "lnz.spaces.Binary"}, "damaged"),
        ({"module": "lnz.spaces.Binary", "fields": [1]}, "damaged"),
        ({"module": ["lnz.spaces.Binary"], "fields": {}}, "damaged.*name of a constructor must be text"),
        ({"function": None}, "damaged.*name of a constructor must be text"),
        ({"array": "0", "shape": [2]}, "damaged.*'0', which does not exist"),
        ({"array": ["x"], "shape": [2]}, "damaged"),
        ({"tuple": [{"array": "x", "shape": [2]}] * 2}, "damaged.*'x', which does not exist or was named before"),
        ({"array": "x", "shape": [3]}, r"damaged: its array 'x' has two shapes, \[3\] and \[2\]"),
        ({"array": "x", "shape": [-1]}, "damaged.*two shapes"),
        ({"array": "x", "shape": [2**70]}, "damaged.*two shapes"),
        ({"array": "x", "shape": []}, "damaged.*two shapes"),
        ({"array": "x", "shape": "many"}, "damaged.*two shapes"),
        ({"array": "x"}, "damaged"),
        ({"tuple": 3}, "damaged"),
        ([1, 2], "damaged"),
        ({"list": None}, "damaged"),
        ({"list": "text"}, "damaged"),
        ({"dict": [1]}, "damaged"),
        ({"float": "a lot"}, "damaged: 'a lot' is not a hexadecimal number of 64 bits"),
        ({"float": "0x1p99999"}, "damaged: '0x1p99999' is not a hexadecimal number of 64 bits"),
        ({"float": 0.5}, "damaged.*number '0.5'"),
        ({"float": None}, "damaged"),
        ('{"float": Infinity}', "damaged.*number 'Infinity'"),
        ('{"tuple": [], "tuple": [1]}', "damaged.*key 'tuple' twice"),
        ("9" * 5000, "damaged.*4300 digits"),
        ({}, "damaged"),
        ("{not json", "damaged.*not JSON"),
        ("", "damaged.*not JSON"),
        ("[" * 100_000, "damaged.*too deeply"),
        ('{"tuple": [' * 20_000 + "]}" * 20_000, "damaged.*too deeply"),
        *(('{"tuple": [' * n + '{"array": "x", "shape": [2]}' + "]}" * n, "more than 100 deep") for n in (101, 400)),
        ('{"module": "lnz.core.ReversedPath", "fields": {"path": ' * 200 + "1" + "}}" * 200, "more than 100 deep"),
        # The declared types and shapes of fields.
        (normal(log_scale="text"), r"`Normal.log_scale` must be a Float array \[\*shape\]; got str"),
        (normal(log_scale=None), r"`Normal.log_scale` must be .*; got None"),
        (normal(log_scale={"float": "0x1p0"}), r"`Normal.log_scale` must be .*; got 1.0"),
        (normal(log_scale={"function": "lnz.energy.RBM"}), r"`Normal.log_scale` must be .*; got the class RBM"),
        (normal(log_scale={"array": "y", "shape": [3]}), r"shapes of `Normal` do not fit together: loc \[2\].*\[3\]"),
        (normal(log_scale={"array": "i", "shape": [2]}), r"must be a Float array .*; got an array of int32 \[2\]"),
        ({"module": "lnz.spaces.Binary", "fields": {"shape": 2}}, r"`Binary.shape` must be tuple\[int, ...\]; got 2"),
        ({"module": "lnz.spaces.Binary", "fields": {"shape": {"tuple": ["2"]}}}, r"`Binary.shape` must be tuple"),
        ({"module": "lnz.spaces.Binary", "fields": {"shape": {"tuple": [True]}}}, r"`Binary.shape` must be tuple"),
        ({"module": "lnz.spaces.Binary", "fields": {"shape": {"list": [2]}}}, r"`Binary.shape` is static"),
        ({"module": "lnz.samplers.Gibbs", "fields": {"num_sweeps": {"list": [1]}}}, "Gibbs.num_sweeps` must be int"),
        ({"module": "lnz.samplers.Gibbs", "fields": {"num_sweeps": True}}, "must be int; got True"),
        ({"module": "lnz.samplers.Gibbs", "fields": {"num_sweeps": {"float": "0x1p0"}}}, "must be int; got 1.0"),
        ({"module": "lnz.samplers.Gibbs", "fields": {"num_sweeps": {"array": "i", "shape": [2]}}}, "must be int"),
        ({"module": "lnz.core.ReversedPath", "fields": {"path": BINARY}}, "must be AbstractPath; got Binary"),
        ({"module": "lnz.core.ReversedPath", "fields": {"path": {"function": "lnz.core.ReversedPath"}}}, "class Rev"),
        ({"module": "lnz.distributions.ConditionalBernoulli", "fields": {"net": BINARY}}, "be .*Callable; got Bin"),
        ({"module": "lnz.bijections.Chain", "fields": {"bijections": {"tuple": []}}}, "at least one bijection"),
    ],
    ids=lambda value: value[:25] if isinstance(value, str) else "",
)  # fmt: skip
def test_damaged_structure(tmp_path, tree, words):
    text = tree if isinstance(tree, str) else json.dumps(tree)
    data = {"x": np.zeros(2, np.float32), "y": np.zeros(3, np.float32), "i": np.zeros(2, np.int32)}
    arrays = {name: data[name] for name in data if f'"{name}"' in text}
    if "Normal" in text and "y" not in arrays:  # two fields, but each array is used once
        text = text.replace('"array": "x"', '"array": "z"', 1)
        arrays["z"] = data["x"]
    assert re.search(words, refusal(write(tmp_path / "m.lnz", text, arrays)))


def test_inconsistent_shapes_are_refused(tmp_path):
    """The declared shapes of `RBM` bind W, b and c together; but all may be stacked along a leading axis."""
    path = tmp_path / "m.lnz"
    stacked = eqx.filter_vmap(lambda key: RBM(3, 2, key=key))(jr.split(jr.key(0), 4))
    testing.check_save(stacked)
    lnz.save(path, RBM(3, 2, key=jr.key(0)))
    with safe_open(path, framework="numpy") as file:
        tree, arrays = json.loads(file.metadata()["tree"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, shape in (("W", (2, 3)), ("b", (5,)), ("c", (4, 2)), ("W", (4, 3, 2))):
        node = tree["fields"][name]
        wrong = {**tree, "fields": {**tree["fields"], name: {**node, "shape": shape}}}
        write(path, wrong, {**arrays, node["array"]: np.zeros(shape, np.float32)})
        assert "lnz.energy.RBM refuses its fields: The shapes of `RBM` do not fit together: W [" in refusal(path)


def test_what_could_not_be_loaded_is_not_saved(tmp_path):
    model = RBM(3, 2, key=jr.key(0))
    itself = []
    itself.append(itself)
    pair = namedtuple("pair", "a b")
    for content, words in [
        (eqx.filter(model, lambda leaf: False), r"content could not be loaded again. `RBM.W` must be .*; got None"),
        (eqx.tree_at(lambda m: m.b, model, jnp.zeros(5)), "shapes of `RBM` do not fit together"),
        (jnp.zeros(2, jnp.int4), "content has dtype int4; a model file holds bool"),
        (np.array(["a"]), "content has dtype <U1"),
        (np.complex128(1), "content has dtype complex128"),
        (pair(1, 2), "content is pair, which a model file cannot hold"),
        (10**5000, "model file cannot hold this Holder.*4300 digits"),
    ]:
        with pytest.raises(TypeError, match=words):
            lnz.save(tmp_path / "m.lnz", Holder(content))
    with pytest.raises(TypeError, match="nested more than 100 deep, or contains itself"):
        lnz.save(tmp_path / "m.lnz", itself)
    assert list(tmp_path.iterdir()) == []


def test_model_with_nan_comes_back_bit_for_bit():
    quiet = jnp.asarray(np.array([0x7FC00001, 0xFFC12345], np.uint32).view(np.float32))  # two of the many NaNs
    with pytest.warns(UserWarning, match=r"2 of 2 numbers of the parameter RBM\.c are NaN or infinite"):
        testing.check_save(eqx.tree_at(lambda model: model.c, RBM(3, 2, key=jr.key(0)), quiet))


def test_static_numbers_of_numpy_come_back_as_numbers(tmp_path):
    lnz.save(tmp_path / "m.lnz", Holder((np.int64(3), np.bool_(True), np.float64(0.1))))
    assert lnz.load(tmp_path / "m.lnz").content == (3, True, 0.1)


def test_own_activation_is_stored_by_name(tmp_path):
    def activation(x):
        return jnp.maximum(x, 0)

    lnz.register(activation, name="test.activation")
    lnz.save(tmp_path / "m.lnz", Holder(activation))
    assert lnz.load(tmp_path / "m.lnz").content is activation
    with pytest.raises(TypeError, match="class or a function; got int"):
        lnz.register(3)


def test_the_format_byte_for_byte(tmp_path):
    """What a file is, by the standard library alone; the digest is that of the file with zeros in its place."""
    tree = {
        "module": "lnz.distributions.Normal",
        "fields": {
            "loc": {"array": "0", "shape": [2]},
            "log_scale": {"array": "1", "shape": [2]},
            "constant": False,
        },
    }
    entries = {
        "0": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "1": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
    }
    metadata = {"sha256": "0" * 64, "format": "lnz model 1", "tree": json.dumps(tree)}
    header = json.dumps({"__metadata__": metadata, **entries}).encode()
    header += b" " * (-len(header) % 8)
    blank = len(header).to_bytes(8, "little") + header + np.float32([1, 2, 3, 4]).tobytes()
    content = blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode())
    path = tmp_path / "m.lnz"
    path.write_bytes(content)
    model = lnz.load(path)
    np.testing.assert_array_equal(model.loc, [1, 2])
    np.testing.assert_array_equal(model.log_scale, [3, 4])
    lnz.save(path, model)
    assert sealed(path.read_bytes()) == path.read_bytes()
    path.write_bytes(blank)
    assert "do not match the SHA-256 written in it" in refusal(path)
    assert "Copy or save it again." in refusal(path)
    path.write_bytes(content.replace(b'"sha256": ', b'"sha512": '))
    assert "it has no SHA-256 of its own bytes" in refusal(path)


@pytest.mark.parametrize("kind", ["model", "checkpoint"])
def test_every_flipped_bit_is_refused(kind, tmp_path):
    """Neither a model nor a checkpoint is read in which one bit is not as it was written."""
    if kind == "model":
        path, read = tmp_path / "m.lnz", lnz.load
        lnz.save(path, Holder(jnp.float32(0.5)))
    else:
        snapshot = Snapshot(jnp.float32(0.5), ({}, {}), None, step=1)
        path, read = save_checkpoint(lnz.Checkpoints(tmp_path), snapshot, {}), read_checkpoint
    content = path.read_bytes()
    read(path)
    flips = [
        content[: i // 8] + bytes([content[i // 8] ^ (1 << i % 8)]) + content[i // 8 + 1 :]
        for i in range(8 * len(content))
    ]
    assert [i for i, flipped in enumerate(flips) if has_its_digest(flipped)] == []
    # The check is one of several on the way: what the others say first is a refusal too.
    for flipped in flips[::23]:
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"\S"):
            read(path)


def has_its_digest(content):
    try:
        check_digest(io.BytesIO(content))
    except DamagedError:
        return False
    return True


def test_build_checks_what_a_constructor_checks():
    with pytest.raises(ValueError, match="at least 1; got 0"):
        build(lnz.samplers.Gibbs, {"num_sweeps": 0})
    with pytest.raises(ValueError, match=r"needs the fields \['num_sweeps'\]; got \['num_sweeps', 'step'\]"):
        build(lnz.samplers.Gibbs, {"num_sweeps": 1, "step": print})
    with pytest.raises(ValueError, match=r"got \[\]"):
        build(lnz.samplers.Gibbs, {})
    with pytest.raises(TypeError, match="abstract"):
        build(lnz.AbstractPath, {})


def test_importing_lnz_registers_only_its_own():
    """Nothing that a file may name acts on the world: modules of lnz, activations of JAX, layers and the identity of
    `equinox.nn`, and `equinox.Partial`."""
    code = (
        "import lnz; lnz.load; from lnz.modules._register import _OBJECT_OF; "
        "print(*[f'{o.__module__}.{o.__name__}' for o in _OBJECT_OF.values()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    foreign = [name for name in done.stdout.split() if not name.startswith("lnz.")]
    activations = {"relu", "silu", "gelu", "elu", "softplus", "sigmoid", "tanh"}
    unknown = [name for name in foreign if not (name.startswith("jax.") and name.rpartition(".")[2] in activations)]
    unknown = [name for name in unknown if not name.startswith("equinox.nn.")]
    assert [name for name in unknown if not name.startswith("equinox.") or not name.endswith(".Partial")] == []


def test_other_safetensors_files_are_refused(tmp_path):
    path = tmp_path / "m.lnz"
    assert "whose format is 'pt', not 'lnz model 1'" in refusal(write(path, "null", format="pt"))
    save_file({"x": np.zeros(2, np.float32)}, path)
    assert "whose format is None" in refusal(path)
    save_file({}, path, metadata={"format": "lnz model 1"})
    assert "damaged" in refusal(path)
    assert "'lnz model 2', but this version of lnz reads 'lnz model 1'. Update lnz" in refusal(
        write(path, "null", format="lnz model 2")
    )


def mutations(rng, files):
    """Files with bits flipped, bytes cut, doubled or exchanged, and values of the JSON exchanged, by a stranger who
    writes the digest anew."""
    hostile = [None, True, -1, 2**62, 10**30, "", "0", "os.system", "lnz.Normal", "0x1p9999", [], {}, [2**62] * 3]
    hostile += [{"array": "0", "shape": []}, {"function": "lnz.spaces.Binary"}, {"tuple": [1]}, {"float": "nan"}]

    def places(tree):
        children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
        for name, child in children:
            yield tree, name
            yield from places(child)

    while True:
        content = bytearray(rng.choice(files))
        length = int.from_bytes(content[:8], "little")
        header, data = json.loads(content[8 : 8 + length]), bytes(content[8 + length :])
        start, kind = rng.randrange(len(content)), rng.randrange(6)
        stop = start + rng.randrange(1, 40)
        if kind == 0:
            content[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[start:stop]
        elif kind == 2:
            content[start:start] = content[start:stop]
        elif kind == 3:
            content[start:] = rng.choice(files)[start:]
        else:
            tree = header if kind == 4 else json.loads(header["__metadata__"]["tree"])
            for _ in range(rng.randrange(1, 3)):
                parent, name = rng.choice(list(places(tree)))
                parent[name] = rng.choice(hostile)
            if kind == 5:
                header["__metadata__"]["tree"] = json.dumps(tree)
            text = json.dumps(header).encode()
            content = len(text).to_bytes(8, "little") + text + data
        yield sealed(bytes(content))


def test_mutated_files_are_refused_or_loaded(tmp_path, untyped):
    """Whatever the bytes, `load` answers with a `ValueError` or a model that can be saved again."""
    models = [
        RBM(3, 2, key=jr.key(0), base_rates=jnp.asarray([0.2, 0.3, 0.4])),
        lnz.Mixture(jnp.zeros(2), lnz.Normal(jnp.zeros((2, 3)), jnp.ones((2, 3)))),
        lnz.condition(lnz.bayes.NormalMean(lnz.Normal.standard(1), 0.5), jnp.ones((2, 1))),
        Holder([jnp.asarray([True]), jnp.int8([1]), jnp.asarray(3, jnp.bfloat16), None, 1.5, {"a": ("x", -3)}]),
    ]
    path = tmp_path / "m.lnz"
    files = []
    for model in models:
        lnz.save(path, model)
        files.append(path.read_bytes())
    messages = []
    for content in itertools.islice(mutations(random.Random(0), files), 600):
        path.write_bytes(content)
        try:
            model = lnz.load(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            lnz.save(path, model)
            lnz.load(path)
    assert all(re.fullmatch(r"`load\(path\)`: .*m.lnz'.*", message) for message in messages)
    assert 0.5 < len(messages) / 600 < 0.99


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


def stacked(module):
    return jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, module)


B = lnz.bijections
ONE = B.Affine(jnp.zeros(2), jnp.ones(2))
NESTED = {
    "Inverse": (B.Inverse, ONE),
    "Chain": (B.Chain, ONE),
    "Scan": (lambda inner: B.Scan(stacked(inner)), ONE),
    "Inverse of Scan": (lambda inner: B.Inverse(B.Scan(stacked(inner))), ONE),
    "Stack": (B.Stack, ONE),
    "Vmap": (lambda inner: B.Vmap(stacked(inner), 1), ONE),
    "Concatenate": (B.Concatenate, ONE),
    "Transformed": (lambda base: lnz.Transformed(base, ONE), lnz.Normal.standard(2)),
    "ProductDistribution": (lambda part: lnz.ProductDistribution(part), lnz.Normal.standard(2)),
    "Product": (lambda part: lnz.Product(part), lnz.Euclidean(2)),
}


@pytest.mark.parametrize("kind", NESTED)
def test_nested_wrappers_load_in_linear_time(kind, tmp_path, untyped):
    """Calls of functions of lnz and JAX, not seconds; the depth is limited, so that a file takes time as its size.

    From 6 to 12 levels takes twice as many calls as from 3 to 6. Layers with stacked arrays take some more: each finds
    its space by one walk to the innermost, whose shapes it needs without all the stacks' axes.
    """
    wrap, inner = NESTED[kind]
    calls = []
    for depth in (3, 6, 12):  # arrays have a limit of 32 axes
        model = inner
        for _ in range(depth):
            model = wrap(model)
        lnz.save(tmp_path / "m.lnz", model)
        lnz.load(tmp_path / "m.lnz")  # what is done once in a process is not counted
        calls.append(num_calls(lambda: lnz.load(tmp_path / "m.lnz")))
    most = 3 if "Scan" in kind or "Vmap" in kind else 2.1
    assert calls[2] - calls[1] <= most * (calls[1] - calls[0])


def num_calls(function):
    num = 0

    def count(_, event, __):
        nonlocal num
        num += event == "call"

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return num


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match=r"the name is taken by"):
        lnz.register(Unknown, name="lnz.distributions.Bernoulli")

    def define():
        class Again(eqx.Module):
            x: int

        return lnz.register(Again)

    define()
    newest = define()  # a notebook cell that is run again
    assert lnz.modules._register.registered_object(lnz.modules._register.public_name(newest)) is newest


@pytest.mark.parametrize(
    ("module", "field", "value", "words"),
    [
        (lnz.energy.RBM(3, 2, key=jr.key(0)), ("visible", "num"), 5, "does not join 5 visible and 2 hidden units"),
        (lnz.energy.RBM(3, 2, key=jr.key(0)), ("hidden", "num"), -2, "must not be negative; got -2"),
        (lnz.normalizers.AIS(10, 10), ("num_chains",), -1, "at least 2 for an error bar; got -1"),
        (lnz.normalizers.AIS(10, 10), ("betas",), -1, "at least 1"),
        (lnz.Interval(2), ("high",), {"float": (-1.0).hex()}, "needs low < high; got 0.0 and -1.0"),
    ],
)
def test_what_a_constructor_refuses_a_file_cannot_smuggle_in(module, field, value, words, tmp_path):
    lnz.save(tmp_path / "m.lnz", module)
    with safe_open(tmp_path / "m.lnz", framework="numpy") as file:
        tree = json.loads(file.metadata()["tree"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    node = tree["fields"]
    for name in field[:-1]:
        node = node[name]["fields"]
    node[field[-1]] = value
    write(tmp_path / "m.lnz", tree, arrays)
    with pytest.raises(ValueError, match=re.escape(words)):
        lnz.load(tmp_path / "m.lnz")


def test_equal_models_make_equal_files(tmp_path):
    for i in range(8):  # the safetensors library alone orders its metadata anew each time
        lnz.save(tmp_path / f"{i}.lnz", RBM(3, 2, key=jr.key(0)))
    assert len({(tmp_path / f"{i}.lnz").read_bytes() for i in range(8)}) == 1
    with safe_open(tmp_path / "0.lnz", framework="numpy") as file:  # the library reads what we wrote
        assert file.metadata()["format"] == "lnz model 1"
