"""A folder of runs that cannot be written to is reported in a sentence; the page works all the same."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, expect

from tests.serving import PATIENCE, Server, button, draw, points, says, start, until, visit
from tests.strokes import DIGITS


def test_app_works_without_a_folder_to_write_to(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("Not a folder, so that nobody, root included, can write below it.")
    with Server(tmp_path, home=tmp_path / "file" / "runs") as server:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        visit(page, server.link(student="mlp-30", epochs=3))
        if not server.full:  # the warning about the sample moves the canvas
            expect(page.get_by_test_id("stAlertContentWarning")).to_be_visible()
        draw(page, DIGITS[5])
        says(page, 5)
        start(page)
        until(page, lambda: points(page), "a point")
        sentence = page.get_by_test_id("stAlertContentError")
        expect(sentence).to_contain_text("cannot be written to: change its permissions, or set KD_HOME")
        expect(button(page, "Save again")).to_be_visible()
        visit(page, server.link("runs"))
        expect(page.get_by_text("No runs are stored yet")).to_be_visible()
        page.context.close()
        assert "Traceback" not in server.log(), server.log()[-3000:]
