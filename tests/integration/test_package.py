"""The built package works without the repository around it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kd import paths

COPIED = ("kd", "pyproject.toml", "README.md", "LICENSE", "requirements.txt")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from a copy of the sources, unpack it into an empty folder and return that folder."""
    folder = tmp_path_factory.mktemp("package")
    source, wheels, target = folder / "source", folder / "wheels", folder / "site"
    source.mkdir()
    for name in COPIED:
        if (paths.ROOT / name).is_dir():
            shutil.copytree(paths.ROOT / name, source / name, ignore=shutil.ignore_patterns("node_modules"))
        else:
            shutil.copy(paths.ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run([*build, "--no-build-isolation", "--wheel-dir", wheels, source], check=True, timeout=300)
    (wheel,) = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def run(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in another folder with only the installed package."""
    environment = os.environ | {
        "PYTHONPATH": str(installed),
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / "data"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    for name in ("KD_HOME", "KD_CACHE_DIR"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_wheel_holds_every_file_that_git_tracks(installed):
    tracked = subprocess.run(["git", "ls-files", "kd"], cwd=paths.ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("this is not a clone")
    unneeded = {"kd/ui/frontend/package.json", "kd/ui/frontend/package-lock.json"}
    names = [name for name in tracked.stdout.splitlines() if "/tests/" not in name and name not in unneeded]
    missing = [
        name
        for name in names
        if not (installed / name).exists() and not Path(name).name.startswith((".", "eslint", "README"))
    ]
    assert not missing


def test_wheel_finds_its_teachers_and_keeps_runs_with_the_user(installed, tmp_path):
    shown = run(
        installed,
        tmp_path,
        "-c",
        "from kd import paths; from kd.store import runs; from kd.teachers import catalogue;"
        "print(catalogue.shipped(), runs.recorded().name, paths.home(), sep='\\n')",
    )
    assert shown.returncode == 0, shown.stderr
    teachers, recorded, home = shown.stdout.splitlines()
    assert teachers == "['cnn', 'cnn-pen', 'vit']" and recorded
    assert Path(home) == tmp_path / "data" / "kd-live" / "runs"


def test_installed_command_trains_and_stores_in_an_empty_folder(installed, tmp_path):
    shown = run(installed, tmp_path, "-m", "kd", "distil", "--student", "linear", "--epochs", "1")
    assert shown.returncode == 0, shown.stderr
    assert len(list((tmp_path / "data" / "kd-live" / "runs").iterdir())) == 1
    assert not (installed / "runs").exists()
