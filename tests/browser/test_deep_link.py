"""A link to any page works as the first request to a server, whatever folder it was started from."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.serving import PATIENCE, Server


@pytest.mark.parametrize("base", ["", "demo"], ids=["at the root", "below a path"])
def test_first_request_may_be_a_link_to_any_page(browser: Browser, tmp_path: Path, base: str) -> None:
    options = [f"--server.baseUrlPath={base}"] if base else []
    with Server(tmp_path, start_in=tmp_path, options=options) as server:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.link(f"{base}/methods".lstrip("/")), wait_until="commit")
        expect(page.locator("#kd-first-paint")).to_be_visible()
        expect(page).to_have_title("Distillation, live")
        expect(page.get_by_role("heading", level=1)).to_have_text("Every method, side by side")
        expect(page.locator("#kd-first-paint")).to_have_count(0)
        navigation = page.get_by_role("link", name="The paper", exact=True).first
        expect(navigation).to_be_visible()
        expect(page.get_by_role("link", name="dark knowledge", exact=True)).to_have_count(0)
        page.wait_for_function("window.Plotly")
        navigation.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("The paper's table, run again")
        page.context.close()
        assert not complaints and not server.complaints(), server.log()[-3000:]
