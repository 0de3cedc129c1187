"""A sweep in a browser: the heat map fills in and a clicked cell opens; and a search."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from kd.store.runs import is_id
from tests.serving import PATIENCE, Server, button, chart, points, run_id, start, until, visit


def texts(page: Page) -> list[str]:
    """Return the texts of the heat map's cells, row by row."""
    return page.evaluate("(document.querySelector('.kd-chart.grid_heat')?.data?.[0].text || []).flat()")


def click_cell(page: Page, across: float, up: float) -> None:
    """Click into the heat map, at fractions of its width and height."""
    area = page.locator(".kd-chart.grid_heat .nsewdrag").first
    area.scroll_into_view_if_needed()
    area = area.bounding_box()
    page.mouse.click(area["x"] + across * area["width"], area["y"] + (1 - up) * area["height"])


def test_heat_map_fills_in_and_a_clicked_cell_opens(page: Page, server: Server) -> None:
    visit(page, server.link("sweep", temperature="2,9", soft_weight="0.5", seeds="2", epochs="1"))
    expect(page.get_by_text("6 trainings")).to_be_visible()
    sweep = start(page)
    until(page, lambda: any("…" in text for text in texts(page)), "a cell under way")
    expect(page.get_by_text(re.compile("^Finished"))).to_be_visible(timeout=3 * PATIENCE * 1000)
    found = until(
        page, lambda: all(re.fullmatch(r"\d+\.\d", text) for text in texts(page)) and texts(page), "all cells"
    )
    assert found[0] == found[1] and len(found) == 4  # the control has no temperature

    expect(page.get_by_text("Click a cell to open that student")).to_be_visible()
    click_cell(page, 0.75, 0.75)
    opened = until(
        page, lambda: run_id(page) not in (None, sweep) and run_id(page), "the cell's run in the address"
    )
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("^Watch"))
    assert is_id(opened) and {"temperature=9.0", "soft_weight=0.5", "student=mlp-30", "epochs=1"} <= set(
        page.url.partition("?")[2].split("&")
    )
    expect(page.get_by_text(f"This is a cell of the sweep {sweep}.")).to_be_visible()
    expect(page.get_by_role("heading", name=re.compile("^Result"))).to_be_visible()
    until(page, lambda: points(page) and points(page)[-1] == 1, "the curve of the cell")
    expect(chart(page, "loss").get_by_text("This run has no stored losses")).to_be_visible()

    page.get_by_role("link", name="Sweep", exact=True).first.click()
    expect(page.get_by_role("combobox", name="Cell")).to_have_value("T = 9, soft weight 0.5")
    button(page, "Open this run").click()
    until(page, lambda: run_id(page) == opened, "the same run again")


def test_small_search_ends_with_its_best_trial(page: Page, server: Server) -> None:
    visit(page, server.link("sweep"))
    page.get_by_role("radio", name="Search").click()
    expect(page.get_by_text("Up to 30 trials")).to_be_visible()
    visit(
        page, server.link("sweep", way="search", student="mlp-30", methods="hinton,mse", trials=3, epochs=1)
    )
    expect(page.get_by_text("Up to 3 trials")).to_be_visible()
    search = start(page)
    expect(page.get_by_text(re.compile("^Trial [1-3] of 3: "))).to_be_visible()
    expect(page.locator(".kd-chart.search_live")).to_be_visible()
    expect(page.get_by_text("The best of 3 trials")).to_be_visible(timeout=3 * PATIENCE * 1000)
    until(
        page,
        lambda: page.evaluate("document.querySelector('.kd-chart.search_history')?.data?.[1].x.length"),
        "the trials in a chart",
    )
    button(page, "Open the best on the Distil page").click()
    until(page, lambda: run_id(page) not in (None, search), "the best's run in the address")
    expect(page.get_by_role("heading", name=re.compile("^Result"))).to_be_visible()
    assert points(page)
