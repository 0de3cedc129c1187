"""Pictures that are uploaded on the Draw page, drawings on the Distil page, and what is said about them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image
from streamlit.testing.v1 import AppTest

from kd.drawing import familiarity, oddities, preprocess
from kd.export import formats
from kd.models import registry
from kd.store import runs
from kd.ui.shell import session_keys
from tests.drawings import drawn
from tests.strokes import DIGITS, line, render

CASES = Path(__file__).parents[1] / "cases" / "pictures"


def png(grey: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()


def ruled() -> bytes:
    """Return a picture of a 7 on ruled paper."""
    ink = render(DIGITS[7])[..., 0]
    ink[::50] = ink[1::50] = 200
    return png(255 - ink)


def warned(at: AppTest) -> set[str]:
    """Return the warnings about the picture."""
    ours = {preprocess.NO_DIGIT, *oddities.WARNINGS.values()}
    return {warning.value for warning in at.warning} & ours


def test_uploaded_pictures_are_warned_of(app):
    at = app("draw")
    at.segmented_control(key="draw_way").set_value("Upload").run()
    names = ("two_far_3_7.png", "blank_white.png", "16bit_ink3000_paper60000.png")
    pictures = [(CASES / name).read_bytes() for name in names] + [ruled()]
    several, lines = oddities.WARNINGS["several"], oddities.WARNINGS["lines"]
    for content, expected in zip(pictures, [several, preprocess.NO_DIGIT, None, lines], strict=True):
        at.file_uploader[0].set_value(("picture.png", content, "image/png")).run()
        assert not at.exception and not at.error
        assert expected in warned(at) if expected else not warned(at)


def test_distil_warns_of_two_digits(app):
    at = app()
    ones = [line((0.3, 0.2), (0.3, 0.8)), line((0.7, 0.2), (0.7, 0.8))]
    for strokes, expected in ((ones, {oddities.WARNINGS["several"]}), (DIGITS[7], set())):
        kept = at.session_state[session_keys.DRAWING] | {"picture": drawn(strokes)}
        at.session_state[session_keys.DRAWING] = kept
        at.run()
        assert not at.exception and warned(at) == expected


def test_exported_zip_can_be_imported_again(app, mnist):
    model = registry.build("mlp-30_neurons-50", 3)
    exported = formats.export(model, "mlp-30_neurons-50", "safetensors", mnist.test)
    at = app("runs")
    at.file_uploader(key="import_file").set_value(
        ("my student.zip", exported.content, "application/zip")
    ).run()
    at.button(key="import").click().run()
    (run,) = runs.list_runs()[0]
    assert not at.exception and (run.name, run.architecture) == ("my student", "mlp-30_neurons-50")


def test_app_exports_the_teachers_test_of_digits(app, mnist, monkeypatch):
    """Without it, script and browser could not tell a scribble from a digit."""
    seen = []

    def export(model, architecture, format, digits, familiar=None):
        seen.append((format, familiar))
        return formats.Exported("x.zip", b"", 0.0, 1)

    at = app("runs")
    content = formats.to_safetensors(registry.build("mlp-30", 3), "mlp-30")
    at.file_uploader(key="import_file").set_value(("mine.safetensors", content, "x/y")).run()
    at.button(key="import").click().run()
    (run,) = runs.list_runs()[0]
    at = app("runs", run=run.id)
    monkeypatch.setattr(formats, "export", export)
    monkeypatch.setattr(formats, "part", lambda exported, name: name.encode())
    at.button(key="export").click().run()
    assert not at.exception
    ((format, familiar),) = seen
    assert format == "onnx" and isinstance(familiar, familiarity.Familiar)
