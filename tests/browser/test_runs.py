"""The table of stored runs and the actions on one."""

from __future__ import annotations

import csv
import itertools
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from safetensors.torch import load_file

from tests.serving import (
    PATIENCE,
    Server,
    button,
    cell,
    finish,
    go_to,
    idle,
    select_run,
    start,
    until,
    visit,
)

_temperatures = itertools.count(7, 0.5)


@pytest.fixture
def run(page: Page, server: Server) -> tuple[str, str]:
    """Return id and unique name of a stored run that belongs to the page's visitor."""
    temperature = next(_temperatures)
    visit(page, server.link(student="linear", epochs=server.epochs(1), temperature=temperature))
    id = start(page)
    finish(page)
    return id, f"linear T={temperature:g} ×{server.epochs(1)}"


def test_owner_renames_a_run(page: Page, run: tuple[str, str]) -> None:
    go_to(page, "Runs")
    select_run(page, run[1])
    box = page.get_by_role("textbox", name="Name")
    box.fill("My <b>best</b> one")
    box.press("Enter")
    expect(page.get_by_role("heading", name="My <b>best</b> one", exact=True)).to_be_visible()
    expect(cell(page, "My <b>best</b> one")).to_be_attached()


def test_owner_deletes_a_run_after_confirmation(page: Page, server: Server, run: tuple[str, str]) -> None:
    go_to(page, "Runs")
    select_run(page, run[1])
    button(page, "Delete").click()
    assert (server.home / run[0]).exists()
    button(page, "Delete it").click()
    expect(page.get_by_text(f"{run[1]} was deleted.")).to_be_visible()
    expect(cell(page, run[1])).to_have_count(0)
    assert not (server.home / run[0]).exists()
    go_to(page, "Distil")  # which showed this run
    expect(button(page, "Start")).to_be_enabled()


def test_weights_and_metrics_can_be_downloaded(page: Page, server: Server, stored: str) -> None:
    visit(page, server.link("runs"))
    select_run(page, stored)
    for which in ("student", "control"):
        with page.expect_download() as found:
            button(page, f"{which}.safetensors").click()
        weights = load_file(found.value.path())
        assert sorted(value.shape for value in weights.values()) == [(10,), (10, 128), (128,), (128, 784)]
    with page.expect_download() as found:
        button(page, "metrics.csv").click()
    rows = list(csv.DictReader(found.value.path().read_text().splitlines()))
    assert rows and float(rows[-1]["validation student"]) > 0.9


def test_report_draws_its_charts_without_a_network(
    page: Page, server: Server, stored: str, tmp_path: Path
) -> None:
    visit(page, server.link("runs"))
    select_run(page, stored)
    with page.expect_download() as found:
        button(page, "report.html").click()
    file = tmp_path / "report.html"
    found.value.save_as(file)
    page.context.set_offline(True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(2)
    expect(page.get_by_role("heading", level=1)).to_have_text(stored)
    assert [url for url in asked if not url.startswith("blob:")] == [file.as_uri()]


def test_measuring_can_be_cancelled(page: Page, server: Server, run: tuple[str, str]) -> None:
    visit(page, server.link("compare"))
    expect(page.get_by_text("Measuring takes about")).to_be_visible()
    page.get_by_role("button", name=re.compile("^Measure ([0-9]+ new|all again)$")).click()
    cancel = button(page, "Cancel")
    # Where a run of an earlier test still trains, nothing is measured.
    expect(cancel.or_(page.get_by_text("Try again when it has finished"))).to_be_visible()
    if cancel.count():
        cancel.click()
        expect(page.get_by_text("The measurement was cancelled")).to_be_visible()
        expect(cancel).to_have_count(0)


def test_run_is_measured_and_compared(page: Page, server: Server, run: tuple[str, str]) -> None:
    visit(page, server.link("compare"))
    table = page.get_by_test_id("stDataFrame").first.bounding_box()
    page.mouse.click(
        table["x"] + 14, table["y"] + 17 + 35
    )  # the box of the first line, which is drawn on a canvas: the newest run
    # Where a run of an earlier test still trains, the page says so, and one tries again when it has ended.
    again = button(page, "Measure again")

    def tried() -> bool:
        if not again.count():
            button(page, "Measure").click()
            page.wait_for_timeout(1000)
            idle(page)
        return again.count() > 0

    until(page, tried, "a measured run", 2 * PATIENCE)
    expect(page.get_by_text("than its teacher").first).to_be_visible()
    expect(page.locator(".kd-chart.pareto .main-svg").first).to_be_visible()


def test_opened_run_restores_its_settings(page: Page, server: Server, student: str, stored: str) -> None:
    visit(page, server.link("runs"))
    select_run(page, stored)
    page.get_by_test_id("stButton").get_by_role(
        "button", name="Open"
    ).click()  # select boxes have an "Open" of their own
    finish(page)
    until(page, lambda: f"run={student}" in page.url, "the run in the address")
    assert "temperature=5.5" in page.url
    assert float(page.get_by_role("slider", name="Temperature").input_value()) == 5.5


def test_others_see_a_run_but_cannot_change_it(page: Page, server: Server, stored: str) -> None:
    visit(page, server.link("runs"))
    select_run(page, stored)
    expect(button(page, "student.safetensors")).to_be_visible()
    expect(page.get_by_text("only they can rename or delete it")).to_be_visible()
    expect(page.get_by_role("textbox", name="Name")).to_have_count(0)
    expect(button(page, "Delete")).to_have_count(0)
