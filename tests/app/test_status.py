"""The strip that names the data in use."""

import pytest

from kd.ui.shell import shared
from kd.ui.shell.status import HEIGHT
from tests.apps import said

pytestmark = pytest.mark.app


def strip_heights(node) -> list[int]:
    """Return the heights, in pixels, of the containers that the strip is in."""
    own = []
    if node.type == "flex_container" and node.proto.id.endswith("kd_strip"):
        own = [node.proto.height_config.pixel_height]
    return own + [
        height for child in getattr(node, "children", {}).values() for height in strip_heights(child)
    ]


def test_strip_keeps_its_height_when_a_download_ends(app, monkeypatch):
    app()
    state = ["downloading"]
    source = shared.manager().source
    monkeypatch.setattr(
        type(source), "state", property(lambda self: state[0], lambda self, value: None), raising=False
    )
    at = app()
    assert strip_heights(at.main) == [HEIGHT]
    for state[0], words in (("sample", "5,000 real MNIST images"), ("full", "all 70,000 images")):
        at.run()
        assert not at.exception and words in said(at)
        assert strip_heights(at.main) == [HEIGHT]
    assert strip_heights(app().main) == [], "a visitor who comes later sees no empty place"
