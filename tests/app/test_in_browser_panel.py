"""The panel that runs a network in the browser, on a server without the npm packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from kd.ui import frontend


def panel() -> None:
    from kd.ui.drawing import in_browser

    in_browser.show(b"model", b"check", 0.001, "panel")


def test_panel_says_how_to_install_onnx_runtime_web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setitem(frontend.ONNX_RUNTIME_WEB, "ort.wasm", tmp_path / "missing.wasm")
    page = AppTest.from_function(panel).run()
    assert not page.exception
    (said,) = page.info
    assert "not installed" in said.value and "`make frontend`" in said.value
    assert "the server classifies drawings" in said.value
