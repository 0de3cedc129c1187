"""A sweep in a browser: a heat map that fills in, and a cell that is clicked and opens on the Distil page."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.serving import PATIENCE, Server, button, start, until, visit


def texts(page: Page) -> list[str]:
    """What stands in the heat map's cells, row by row."""
    return page.evaluate("(document.querySelector('.kd-chart.grid_heat')?.data?.[0].text || []).flat()")


def test_a_heat_map_fills_in_and_a_clicked_cell_opens_on_the_distil_page(page: Page, server: Server) -> None:
    visit(page, server.link("sweep", temperature="2,9", soft_weight="0.5", seeds="2", epochs="1"))
    expect(page.get_by_text("6 trainings")).to_be_visible()
    start(page)
    until(page, lambda: any("…" in text for text in texts(page)), "a cell under way")
    expect(page.get_by_text(re.compile("^Finished"))).to_be_visible(timeout=3 * PATIENCE * 1000)
    found = until(page, lambda: all(re.fullmatch(r"\d+\.\d", text) for text in texts(page)) and texts(page), "all cells")
    assert found[0] == found[1] and len(found) == 4  # the control has no temperature

    cell = page.get_by_role("combobox", name="Cell")
    expect(cell).to_be_visible()
    area = page.locator(".kd-chart.grid_heat .nsewdrag").first
    area.scroll_into_view_if_needed()
    area = area.bounding_box()
    page.mouse.click(area["x"] + 0.75 * area["width"], area["y"] + 0.25 * area["height"])
    expect(cell).to_have_value("T = 9, soft weight 0.5")
    button(page, "Open on the Distil page").click()
    until(page, lambda: {"temperature=9.0", "soft_weight=0.5", "student=mlp-30", "epochs=1"} <= set(page.url.partition("?")[2].split("&")), "the cell's settings in the address")
    expect(button(page, "Start")).to_be_enabled()
