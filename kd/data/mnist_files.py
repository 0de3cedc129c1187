"""MNIST's four files: where they lie, how they are checked, and what other files in their place are.

A file is intact if its idx header and its length agree. An intact file that is not MNIST's belongs to
somebody's other data set, so nothing here ever renames, overwrites or deletes it.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kd.data.task import MNIST
from kd.errors import UserError

#: MNIST's four uncompressed files: name -> (magic number, shape, SHA-256).
FILES: dict[str, tuple[int, tuple[int, ...], str]] = {
    "train-images-idx3-ubyte": (
        2051,
        (MNIST.train_images, MNIST.height, MNIST.width),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    "train-labels-idx1-ubyte": (
        2049,
        (MNIST.train_images,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    "t10k-images-idx3-ubyte": (
        2051,
        (MNIST.test_images, MNIST.height, MNIST.width),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    "t10k-labels-idx1-ubyte": (
        2049,
        (MNIST.test_images,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
#: MD5 of the compressed files of other data sets with the same file names, as torchvision 0.29 lists them.
OTHERS = {
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d": "Fashion-MNIST",
    "25c81989df183df01b3e8a0aad5dffbe": "Fashion-MNIST",
    "bef4ecab320f06d8554ea6380940ec79": "Fashion-MNIST",
    "bb300cfdad3c16e7a12a480ee83cd310": "Fashion-MNIST",
    "bdb82020997e1d708af4cf47b453dcf7": "Kuzushiji-MNIST",
    "e144d726b3acfaa3e44228e80efcd344": "Kuzushiji-MNIST",
    "5c965bf0a639b31b8f53240b1b52f4d7": "Kuzushiji-MNIST",
    "7320c461ea6c1c855c0b718fb2a4b134": "Kuzushiji-MNIST",
}
#: Third byte of an idx file -> bytes per value.
_VALUE_BYTES = {0x08: 1, 0x09: 1, 0x0B: 2, 0x0C: 4, 0x0D: 4, 0x0E: 8}
_GZIP = b"\x1f\x8b"
_LARGEST = 2**30  # bytes that a compressed file is unpacked to


class FileProblem(UserError):
    """Report that one of MNIST's files, ``path``, is missing, unreadable, damaged or another one.

    Attributes:
        missing: whether there is no such file.
        damaged: whether the file was read and is not whole; only then may it be set aside.
    """

    def __init__(self, path: Path, problem: str, missing: bool = False, damaged: bool = False):
        super().__init__(f"{path.name} {problem}")
        self.path, self.missing, self.damaged = path, missing, damaged


def raw_folder(folder: Path) -> Path:
    """Return the folder of the files, as torchvision lays them out."""
    return folder / "MNIST" / "raw"


def read_idx(path: Path) -> np.ndarray:
    """Return one of MNIST's files as a uint8 array, after checking its checksum.

    Where the file is missing or unusable, its compressed form (``.gz``) next to it is read instead.

    Raises:
        FileProblem: neither is MNIST's file of that name.
    """
    problems = []
    for candidate in (path, _compressed(path)):
        try:
            return _checked(candidate, path.name)
        except FileProblem as problem:
            problems.append(problem)
    raise next((problem for problem in problems if not problem.missing), problems[0])


def problems(folder: Path) -> list[FileProblem]:
    """Return what is wrong with the files under ``folder``; those that are missing are not listed."""
    found = []
    for name in FILES:
        path = raw_folder(folder) / name
        try:
            read_idx(path)
        except FileProblem:
            for candidate in (path, _compressed(path)):
                try:
                    _checked(candidate, name)
                except FileProblem as problem:
                    if not problem.missing:
                        found.append(problem)
    return found


def set_aside(found: list[FileProblem]) -> list[str]:
    """Rename damaged files, so that they are downloaded again; an intact file stays as it is.

    Returns:
        One sentence per damaged file, naming the file and the damage.
    """
    messages = []
    for problem in found:
        if not problem.damaged:
            continue
        aside = problem.path.with_name(f"{problem.path.name}.damaged")
        try:
            if problem.path.suffix != ".gz":  # of downloads that broke off, the newest is enough
                aside = _free(aside)
            problem.path.replace(aside)
            messages.append(f"{problem} It was set aside as {aside.name}.")
        except OSError:
            messages.append(f"{problem} It could not be set aside. Delete {problem.path} yourself.")
    return messages


def misplaced(folder: Path) -> str:
    """Return a sentence on MNIST's files under another name or in another folder; empty if there are none."""
    found = [
        (place, raw_folder(folder) / name)
        for name in FILES
        if _missing(raw_folder(folder) / name) and (place := _elsewhere(folder, name))
    ]
    if not found:
        return ""
    place, expected = found[0]
    more = f" The same holds for {len(found) - 1} more." if len(found) > 1 else ""
    return (
        f"{_shown(folder, place)} was found where {_shown(folder, expected)} is expected: "
        f"move or rename it.{more}"
    )


def _checked(path: Path, name: str) -> np.ndarray:
    """Return MNIST's file ``name`` from ``path``, compressed or not."""
    magic, shape, digest = FILES[name]
    content, header = _content(path), 4 + 4 * len(shape)
    if hashlib.sha256(content).hexdigest() == digest:
        # torch needs memory that it may write to, hence the copy.
        return np.frombuffer(content, np.uint8, offset=header).reshape(shape).copy()
    if (held := _intact(content)) is not None:
        if owner := _owner(path):
            what = f"belongs to {owner}, not to MNIST"
        elif held == shape:
            what = "is intact but not MNIST: the images or labels of another data set, or changed ones"
        else:
            what = f"is intact but not MNIST: it holds {' × '.join(f'{size:,}' for size in held)} values"
        raise FileProblem(path, f"{what}. It stays as it is.")
    expected = header + math.prod(shape)
    if len(content) != expected:
        problem = f"is incomplete or a different file: it has {len(content):,} bytes instead of {expected:,}."
    else:
        problem = "does not start with MNIST's magic number: it is a different file."
    raise FileProblem(path, problem, damaged=True)


def _content(path: Path) -> bytes:
    """Return the content of a file, unpacked if it is compressed, whatever its name."""
    try:
        content = path.read_bytes()
        if content[:2] == _GZIP:
            with gzip.open(path) as file:
                content = file.read(_LARGEST)
        return content
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise FileProblem(path, "is damaged: it cannot be unpacked.", damaged=True) from None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileProblem(path, f"cannot be read ({error.strerror}).", missing=True) from None
    except OSError as error:
        raise FileProblem(path, f"cannot be read ({error.strerror or error}).") from None


def _intact(content: bytes) -> tuple[int, ...] | None:
    """Return the shape of an idx file whose header and length agree, otherwise None."""
    if len(content) < 8 or content[:2] != b"\0\0" or content[2] not in _VALUE_BYTES or not content[3]:
        return None
    header = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[i : i + 4], "big") for i in range(4, header, 4))
    return shape if len(content) == header + _VALUE_BYTES[content[2]] * math.prod(shape) else None


def _owner(path: Path) -> str:
    """Return the data set that a file belongs to, as far as its compressed form tells; else nothing."""
    for candidate in (path, _compressed(path)):
        with contextlib.suppress(OSError):
            digest = hashlib.md5(candidate.read_bytes(), usedforsecurity=False).hexdigest()
            if digest in OTHERS:
                return OTHERS[digest]
    return ""


def _compressed(path: Path) -> Path:
    return path if path.suffix == ".gz" else path.with_name(f"{path.name}.gz")


def _missing(path: Path) -> bool:
    return not any(map(_is_file, (path, _compressed(path))))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that may not be looked into
        return False


def _elsewhere(folder: Path, name: str) -> Path | None:
    """Return where a file lies under another name or in another folder."""
    expected = (raw_folder(folder) / name, _compressed(raw_folder(folder) / name))
    for place in _places(folder):
        for spelt in (name, name.replace("-idx", ".idx")):  # the second as Kaggle offers them
            for path in (place / spelt, place / f"{spelt}.gz", place / spelt / spelt):
                if path not in expected and _is_file(path):
                    return path
    return None


def _places(folder: Path) -> Iterator[Path]:
    yield from (raw_folder(folder), folder / "MNIST", folder / "raw", folder)
    with contextlib.suppress(OSError):
        yield from sorted(folder.glob("*/MNIST/raw"))


def _shown(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _free(path: Path) -> Path:
    """Return ``path``, or with a number behind it if there is such a file."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
