"""Public sets: stand-ins of the right format in LNZ_DATA, and the download against a server on this machine."""

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest
from writers import image_bytes, parts_of, write, write_npz, write_zip

import lnz
import lnz.data._public as public


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty LNZ_DATA and an empty cache, and no proxy between this machine and itself."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("LNZ_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LNZ_CACHE", str(tmp_path / "cache"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "data"


def numbered(num, *shape):
    """Pictures that carry their number in the first two pixels."""
    x = np.zeros((num, *shape), np.uint8)
    flat = x.reshape(num, -1)
    flat[:, 0], flat[:, 1] = np.divmod(np.arange(num), 256)
    flat[:, 2] = 255
    return x


def numbers(x):
    return x[:, 0].astype(int) * 256 + x[:, 1]


def random_bits(num, seed=0):
    return np.random.RandomState(seed).randint(0, 2, (num, 784)).astype(np.uint8)


def mnist_file(path):
    x = numbered(10_050, 28, 28)
    y = np.arange(10_050) % 10
    return write_npz(path, x_train=x, y_train=y.astype(np.uint8), x_test=x[:30], y_test=y[:30].astype(np.uint8))


def test_mnist(folder):
    path = mnist_file(folder / "mnist.npz")
    splits = lnz.data.load("mnist")
    assert splits.name == "mnist"
    assert splits.space.num_categories == 256
    assert splits.image_shape == (28, 28)
    for part, rows, y in zip(parts_of(splits), (range(50), range(50, 10_050), range(30)), splits.labels, strict=True):
        assert part.dtype == np.uint8
        np.testing.assert_array_equal(numbers(part), rows)
        np.testing.assert_array_equal(y, np.array(rows) % 10)
    assert "50 train / 10000 valid / 30 test" in splits.protocol
    assert splits.source_digest == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    binary = lnz.data.load("mnist", binarize="threshold")
    assert binary.space == lnz.Binary(784)
    np.testing.assert_array_equal(binary.test, splits.test >= 128)
    assert "0.5 of 255" in binary.protocol


def test_binary_mnist(folder):
    parts = [random_bits(num, num) for num in (7, 3, 4)]
    packed = dict(zip(("train", "valid", "test"), (np.packbits(part, axis=1) for part in parts), strict=True))
    write_npz(folder / "binarized_mnist.npz", **packed, n_pixels=np.int32(784))
    splits = lnz.data.load("binary_mnist")
    assert splits.space == lnz.Binary(784)
    for part, expected in zip(parts_of(splits), parts, strict=True):
        np.testing.assert_array_equal(part, expected)
    assert "7 train / 3 valid / 4 test as given" in splits.protocol
    assert lnz.data.require_binary(splits) is splits


def test_omniglot_small(folder):
    drawer = np.tile(np.arange(1, 21), 3).astype(np.uint8)
    names = np.array(["Greek", "Latin"])
    arrays = {"x28": numbered(60, 28, 28), "y": np.repeat(np.arange(3), 20).astype(np.int16), "drawer": drawer}
    write_npz(folder / "omniglot_small.npz", **arrays, alphabet_names=names, x105=np.zeros((60, 1379), np.uint8))
    splits = lnz.data.load("omniglot_small")
    for part, y, drawers in zip(parts_of(splits), splits.labels, (range(1, 14), (14, 15), range(16, 21)), strict=True):
        assert set(drawer[numbers(part)]) == set(drawers)
        np.testing.assert_array_equal(y, numbers(part) // 20)
        assert len(part) == 3 * len(drawers)
    assert "39 train / 6 valid / 15 test by drawers 1-13 / 14-15 / 16-20" in splits.protocol


def test_caltech_silhouettes(folder):
    x = random_bits(8671)
    y = np.arange(8671) % 101 + 1
    names = np.array([f"class {i}" for i in range(101)])
    packed = np.packbits(x, axis=1)
    write_npz(folder / "caltech101_silhouettes_28.npz", x=packed, y=y.astype(np.uint8), classnames=names)
    splits = lnz.data.load("caltech_silhouettes")
    assert [len(part) for part in parts_of(splits)] == [4100, 2264, 2307]
    order = np.random.RandomState(0).permutation(8671)
    np.testing.assert_array_equal(splits.test, x[order[:2307]])
    np.testing.assert_array_equal(splits.labels[0], y[order[2307 + 2264 :]] - 1)
    assert splits.label_names[100] == "class 100"
    for words in ("4100 train / 2264 valid / 2307 test", "duplicates kept", "1 = background"):
        assert words in splits.protocol


def test_frey(folder):
    write_npz(folder / "frey_faces.npz", x=numbered(1965, 28, 20))
    splits = lnz.data.load("frey")
    for part, rows in zip(parts_of(splits), (range(1565), range(1565, 1765), range(1765, 1965)), strict=True):
        np.testing.assert_array_equal(numbers(part), rows)
    assert splits.image_shape == (28, 20)
    assert "contiguous blocks" in splits.protocol


def test_faces(folder):
    members = {}
    for number in range(20):
        kind = ("neutral", "smile")[number % 2]
        picture = np.full((64, 64), 10 * number + 5, np.uint8)
        members[f"{kind}/{number}.jpg"] = image_bytes(picture, "JPEG", quality=95)
    write_zip(folder / "faces_smile.zip", members)
    splits = lnz.data.load("faces")
    assert [len(part) for part in parts_of(splits)] == [14, 2, 4]
    assert splits.label_names == ("neutral", "smile")
    for part, labels in zip(parts_of(splits), splits.labels, strict=True):
        # A flat picture survives JPEG within a grey value or two.
        np.testing.assert_array_equal(np.round((part.mean(axis=1) - 5) / 10) % 2, labels)
    assert len({int(row[0]) for part in parts_of(splits) for row in part}) == 20
    assert "14 train / 2 valid / 4 test, own split, shuffled with seed 0" in splits.protocol


FILES = {
    "binary_mnist": "binarized_mnist.npz",
    "caltech_silhouettes": "caltech101_silhouettes_28.npz",
    "faces": "faces_smile.zip",
    "frey": "frey_faces.npz",
    "omniglot_small": "omniglot_small.npz",
}


@pytest.mark.parametrize("name", FILES)
def test_missing_files_are_named(folder, monkeypatch, name):
    words = f"`{name}` needs the file {FILES[name]} .*, but the folder `.*` of LNZ_DATA has none: set LNZ_DATA to"
    with pytest.raises(FileNotFoundError, match=words):
        lnz.data.load(name)
    monkeypatch.delenv("LNZ_DATA")
    with pytest.raises(FileNotFoundError, match="but LNZ_DATA is not set: set LNZ_DATA to a folder that has it"):
        lnz.data.load(name)


@pytest.mark.parametrize("name", [name for name in FILES if name != "faces"])
def test_wrong_files_are_named(folder, name):
    path = folder / FILES[name]
    write_npz(path, x=np.zeros((5, 3)))
    with pytest.raises(ValueError, match=rf"{FILES[name]}` must have whole numbers"):
        lnz.data.load(name)
    write(path, path.read_bytes()[:-50])
    with pytest.raises(ValueError, match=rf"{FILES[name]}` cannot be read as NumPy arrays"):
        lnz.data.load(name)


def test_wrong_contents_are_named(folder):
    write_npz(folder / "frey_faces.npz", x=numbered(400, 28, 20))
    with pytest.raises(ValueError, match="must have more than 400 images; got 400: is it the right file"):
        lnz.data.load("frey")
    write_zip(folder / "faces_smile.zip", {"a/1.png": image_bytes(np.zeros((5, 5), np.uint8))})
    with pytest.raises(ValueError, match="must have folders of images of 64 x 64; got images of 5 x 5"):
        lnz.data.load("faces")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    requests = 0

    def do_GET(self):
        type(self).requests += 1
        super().do_GET()

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server on this machine that has a stand-in for MNIST, whose checksum is the known one."""
    root = tmp_path / "server"
    root.mkdir()
    path = mnist_file(root / "mnist.npz")
    _Quiet.requests = 0
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(public, "MNIST_URL", f"http://127.0.0.1:{server.server_port}/mnist.npz")
    monkeypatch.setattr(public, "MNIST_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    yield path
    server.shutdown()
    thread.join()
    server.server_close()


def test_download(server, tmp_path):
    splits = lnz.data.load("mnist")
    np.testing.assert_array_equal(numbers(splits.test), range(30))
    assert (tmp_path / "cache" / "mnist.npz").read_bytes() == server.read_bytes()
    assert _Quiet.requests == 1
    lnz.data.load("mnist")
    assert _Quiet.requests == 1  # it is in the cache now


def test_a_file_at_hand_is_not_downloaded(server, folder):
    mnist_file(folder / "mnist.npz")
    lnz.data.load("mnist")
    assert _Quiet.requests == 0


def test_a_damaged_copy_is_downloaded_again(server, tmp_path):
    (tmp_path / "cache").mkdir()
    write(tmp_path / "cache" / "mnist.npz", server.read_bytes()[:-1])
    lnz.data.load("mnist")
    assert _Quiet.requests == 1


def test_wrong_checksum(server, tmp_path):
    write(server, server.read_bytes() + b"more")
    words = r"The file from http.* for `mnist` is not the expected one \(its SHA-256 is not .*put mnist.npz in"
    with pytest.raises(OSError, match=words) as error:
        lnz.data.load("mnist")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").glob("*.npz"))  # the wrong file is not kept


def test_not_on_the_server(server):
    server.unlink()
    with pytest.raises(OSError, match=r"`mnist` cannot be downloaded from http.*404.*: put mnist.npz into"):
        lnz.data.load("mnist")


def test_server_down(monkeypatch, tmp_path):
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(public, "MNIST_URL", f"http://127.0.0.1:{port}/mnist.npz")
    words = r"`mnist` cannot be downloaded from http.* \(.*\): put mnist.npz into `.*cache` by hand, or set LNZ_DATA"
    with pytest.raises(OSError, match=words) as error:
        lnz.data.load("mnist")
    assert "\n" not in str(error.value)


def test_the_checksum_is_that_of_keras():
    assert public.MNIST_SHA256 == "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
    assert public.MNIST_URL.startswith("https://")
