"""From the first stroke to the result: the usual path through the app."""

from __future__ import annotations

import json

from playwright.sync_api import Page, expect

from tests.serving import Server, answers, cell, draw, finish, go_to, points, says, start, until, visit
from tests.strokes import DIGITS


def test_student_answers_a_drawing_and_changes_its_mind(page: Page, server: Server) -> None:
    visit(page, server.link(**server.endless()))
    draw(page, DIGITS[2])
    says(page, 2)
    assert set(answers(page)) == {"teacher"}

    start(page)
    seen: set[float] = set()

    def changed() -> bool:
        seen.update(share for name, (_, share) in answers(page).items() if name == "student")
        return len(seen) >= 3

    until(page, changed, "a student that changes its mind")
    assert {"teacher", "student", "control"} == set(answers(page))
    last = until(page, lambda: points(page), "the first chart point")[-1]
    until(page, lambda: points(page)[-1:] > [last], "a later chart point")
    assert points(page, "loss")


def test_finished_run_is_stored_and_listed(page: Page, server: Server) -> None:
    epochs = server.epochs(3)
    visit(page, server.link(student="mlp-30", epochs=epochs))
    draw(page, DIGITS[2])
    run = start(page)
    finish(page)
    expect(page.get_by_text("Finished").first).to_be_visible()
    until(page, lambda: points(page)[-1:] == [epochs], "the last chart point")
    stored = json.loads((server.home / run / "measures.json").read_text())["models"]
    for name in ("teacher", "student", "control"):
        assert stored[name]["test_accuracy"] > 0.85
        expect(page.get_by_test_id("stMetric").filter(has_text=name)).to_contain_text(
            f"{stored[name]['test_accuracy']:.2%}"
        )
    says(page, 2, "teacher", "student")

    go_to(page, "Runs")
    expect(cell(page, f"mlp-30 T=4 ×{epochs}").first).to_be_attached()
