"""Test MNIST's files on disk: their checks, their damage, and other files in their place."""

import gzip
import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from kd.data import download, mnist_files, sources
from kd.data.mnist_files import FileProblem
from kd.errors import UserError


def truncate(content):
    return content[:-1]


def lengthen(content):
    return content + b"\0"


def empty(content):
    return b""


def other_magic(content):
    return bytes([content[0], content[1], content[2], content[3] ^ 1]) + content[4:]


def flip(content):
    return content[:-3] + bytes([content[-3] ^ 0x10]) + content[-2:]


DAMAGES = {
    truncate: "incomplete",
    lengthen: "incomplete",
    empty: "incomplete",
    other_magic: "magic number",
}


def test_read_idx_returns_the_files_array(small_files):
    for name, (_, shape, _) in mnist_files.FILES.items():
        path = mnist_files.raw_folder(small_files) / name
        array = mnist_files.read_idx(path)
        assert array.shape == shape and array.dtype == np.uint8
        assert array.tobytes() == path.read_bytes()[-array.size :]


def files_in(folder):
    return {path.name: path.read_bytes() for path in mnist_files.raw_folder(folder).iterdir()}


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
@pytest.mark.parametrize("name", mnist_files.FILES)
def test_damaged_file_is_set_aside_and_others_stay(small_files, name, damage):
    path = mnist_files.raw_folder(small_files) / name
    path.write_bytes(damage(path.read_bytes()))
    before = files_in(small_files)

    with pytest.raises(FileProblem, match=DAMAGES[damage]) as problem:
        mnist_files.read_idx(path)
    assert str(problem.value).startswith(name) and problem.value.path == path

    (message,) = mnist_files.set_aside(mnist_files.problems(small_files))
    assert message.startswith(name) and f"set aside as {name}.damaged" in message
    assert files_in(small_files) == {
        f"{name}.damaged" if kept == name else kept: content for kept, content in before.items()
    }
    assert mnist_files.problems(small_files) == []


def test_second_damaged_file_replaces_no_earlier_one(small_files):
    path = mnist_files.raw_folder(small_files) / "train-labels-idx1-ubyte"
    for content in (b"one", b"two"):
        path.write_bytes(content)
        mnist_files.set_aside(mnist_files.problems(small_files))
    kept = [file.read_bytes() for file in sorted(path.parent.glob("train-labels*.damaged*"))]
    assert kept == [b"one", b"two"]


def test_broken_download_is_set_aside(small_files):
    path = mnist_files.raw_folder(small_files) / "train-labels-idx1-ubyte"
    content = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(content[:-9])
    (problem,) = mnist_files.problems(small_files)
    assert str(problem) == "train-labels-idx1-ubyte.gz is damaged: it cannot be unpacked."
    mnist_files.set_aside([problem])
    assert path.with_name(f"{path.name}.gz.damaged").read_bytes() == content[:-9]


# -- compressed files -------------------------------------------------------------------


def compress(path, name=None):
    content = gzip.compress(path.read_bytes())
    path.unlink()
    path.with_name(name or f"{path.name}.gz").write_bytes(content)


@pytest.mark.parametrize("suffix", [".gz", ""])
def test_compressed_files_are_read_whatever_their_name(small_files, suffix):
    for name in mnist_files.FILES:
        path = mnist_files.raw_folder(small_files) / name
        plain = mnist_files.read_idx(path)
        compress(path, f"{name}{suffix}")
        assert np.array_equal(mnist_files.read_idx(path), plain)
    assert mnist_files.problems(small_files) == []


def test_damaged_file_with_an_intact_download_stays(small_files):
    path = mnist_files.raw_folder(small_files) / "t10k-labels-idx1-ubyte"
    plain = mnist_files.read_idx(path)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.write_bytes(b"")
    assert np.array_equal(mnist_files.read_idx(path), plain) and mnist_files.problems(small_files) == []


# -- files of other data sets -------------------------------------------------------------


def test_changed_pixel_is_no_reason_to_rename(small_files):
    path = mnist_files.raw_folder(small_files) / "train-images-idx3-ubyte"
    path.write_bytes(flip(path.read_bytes()))
    before = files_in(small_files)
    found = mnist_files.problems(small_files)
    assert [str(problem) for problem in found] == [
        "train-images-idx3-ubyte is intact but not MNIST: the images or labels of another data set, or "
        "changed ones. It stays as it is."
    ]
    assert mnist_files.set_aside(found) == [] and files_in(small_files) == before


@pytest.mark.parametrize("packed", [False, True])
def test_intact_file_of_another_shape_stays(small_files, packed):
    path = mnist_files.raw_folder(small_files) / "train-labels-idx1-ubyte"
    content = b"\0\0\x0d\x02" + (3).to_bytes(4, "big") + (5).to_bytes(4, "big") + bytes(4 * 15)
    path.write_bytes(gzip.compress(content) if packed else content)
    before = files_in(small_files)
    (problem,) = mnist_files.problems(small_files)
    assert "is intact but not MNIST: it holds 3 × 5 values" in str(problem) and not problem.damaged
    assert mnist_files.set_aside([problem]) == [] and files_in(small_files) == before


def test_known_data_set_is_named_by_its_download(small_files, other_data_set, monkeypatch):
    path = mnist_files.raw_folder(small_files) / "train-images-idx3-ubyte"
    packed = gzip.compress(path.read_bytes())
    path.with_name(f"{path.name}.gz").write_bytes(packed)
    digest = hashlib.md5(packed).hexdigest()
    monkeypatch.setitem(mnist_files.OTHERS, digest, "Fashion-MNIST")
    with pytest.raises(FileProblem, match="train-images-idx3-ubyte belongs to Fashion-MNIST, not to MNIST"):
        mnist_files.read_idx(path)


def test_digests_of_other_data_sets_are_torchvisions():
    theirs = {
        digest: name
        for of, name in ((datasets.FashionMNIST, "Fashion-MNIST"), (datasets.KMNIST, "Kuzushiji-MNIST"))
        for _, digest in of.resources
    }
    assert mnist_files.OTHERS == theirs


def test_unreadable_file_is_not_renamed(small_files):
    path = mnist_files.raw_folder(small_files) / "train-labels-idx1-ubyte"
    path.unlink()
    path.mkdir()
    found = mnist_files.problems(small_files)
    assert [str(problem) for problem in found] == ["train-labels-idx1-ubyte cannot be read (Is a directory)."]
    assert mnist_files.set_aside(found) == [] and path.is_dir()


# -- files in another place ---------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        "MNIST/raw/train-images.idx3-ubyte",
        "MNIST/raw/train-images.idx3-ubyte.gz",
        "train-images-idx3-ubyte/train-images-idx3-ubyte",
        "train-images-idx3-ubyte.gz",
        "raw/train-images-idx3-ubyte",
        "MNIST/train-images-idx3-ubyte",
        "data/MNIST/raw/train-images-idx3-ubyte",
    ],
)
def test_file_elsewhere_is_named_with_the_place_expected(tmp_path, place):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    told = f"{place} was found where MNIST/raw/train-images-idx3-ubyte is expected: move or rename it."
    assert mnist_files.misplaced(tmp_path) == told
    with pytest.raises(FileProblem, match="train-images-idx3-ubyte is missing. .* was found where"):
        sources.load_full(tmp_path)


def test_several_files_elsewhere_are_counted(small_files):
    shutil.move(mnist_files.raw_folder(small_files), small_files / "raw")
    assert mnist_files.misplaced(small_files).endswith(
        "is expected: move or rename it. The same holds for 3 more."
    )
    assert mnist_files.misplaced(small_files / "nowhere") == ""


def test_missing_file_is_named(small_files):
    path = mnist_files.raw_folder(small_files) / "t10k-labels-idx1-ubyte"
    path.unlink()
    with pytest.raises(FileProblem, match="t10k-labels-idx1-ubyte cannot be read"):
        mnist_files.read_idx(path)
    with pytest.raises(UserError, match="train-images-idx3-ubyte cannot be read"):
        sources.load_full(small_files / "nowhere")


def test_file_that_cannot_be_set_aside_is_named(small_files, monkeypatch):
    path = mnist_files.raw_folder(small_files) / "train-labels-idx1-ubyte"
    path.write_bytes(b"")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "replace", refuse)
    (message,) = mnist_files.set_aside(mnist_files.problems(small_files))
    assert f"Delete {path} yourself" in message


# -- why a download failed ----------------------------------------------------------------


@pytest.mark.parametrize(
    "said, told",
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full; free some space in /data"),
        ("PermissionError: [Errno 13] Permission denied: '/data'", "/data cannot be written to; change its"),
        ("HTTP Error 407: Proxy Authentication Required", "the proxy wants a name and a password (407)"),
        (
            "<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed>",
            "the server's certificate is not trusted",
        ),
        (
            "<urlopen error Tunnel connection failed: 502 Bad Gateway>",
            "the proxy refused the connection (502 Bad",
        ),
        ("got:\nHTTP Error 404: Not Found\n", "the server answered with an error (404: Not Found)"),
        ("RuntimeError: File not found or corrupted.", "what arrived was not MNIST"),
        ("<urlopen error [Errno -3] Temporary failure in name resolution>", "there seems to be no network"),
        ("<urlopen error [Errno 111] Connection refused>", "there seems to be no network"),
        ("Traceback\nValueError: something new.\n", "ValueError: something new"),
        ("", "the program that downloads it ended with status 1"),
    ],
)
def test_failed_download_is_explained_by_its_error(said, told):
    assert download.reason(said, 1, Path("/data")).startswith(told)
