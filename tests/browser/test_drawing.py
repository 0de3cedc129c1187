"""Drawing with the mouse, test pictures and uploads, and the answers to them."""

from __future__ import annotations

import contextlib
import io

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.serving import (
    Server,
    answers,
    button,
    cell,
    choose,
    clear,
    draw,
    errors,
    go_to,
    idle,
    says,
    until,
    visit,
)
from tests.strokes import DIGITS, SCRIBBLES, Stroke, line, render


def lit(page: Page) -> int:
    """Return how many pixels of the canvas are drawn on."""
    return page.locator("canvas.dc-canvas.lower-canvas").evaluate(
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data"
        ".filter((v, i) => i % 4 == 0 && v > 128).length"
    )


def picture(page: Page) -> str:
    """Return a string that identifies the 28x28 picture that the models see."""
    return page.locator('img[src^="data:image/png"]').first.get_attribute("src")


def png(strokes: list[Stroke]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(255 - render(strokes)[:, :, 0]).save(file, "PNG")
    return file.getvalue()


def upload(page: Page, name: str, content: bytes) -> None:
    page.get_by_text("Upload", exact=True).first.click()
    page.locator("input[type=file]").set_input_files(
        {"name": name, "mimeType": "image/png", "buffer": content}
    )
    page.get_by_text(name).wait_for()
    idle(page)


def test_teacher_and_student_read_ten_mouse_drawn_digits(page: Page, server: Server, student: str) -> None:
    visit(page, server.link("draw", run=student))
    said = {}
    for digit, strokes in DIGITS.items():
        draw(page, strokes)
        with contextlib.suppress(AssertionError):  # one digit may be misread
            says(page, digit, "teacher", "student", seconds=30)
        said[digit] = {name: answer for name, (answer, _) in answers(page).items()}
        clear(page)
    for name in ("teacher", "student"):
        right = sum(answer.get(name) == digit for digit, answer in said.items())
        assert right >= 9, f"{name} read {right} of 10: {said}"


def test_undo_removes_one_stroke_and_clear_removes_all(page: Page, server: Server) -> None:
    visit(page, server.link("draw"))
    draw(page, DIGITS[1])
    says(page, 1)
    before, said = picture(page), answers(page)
    draw(page, [line((0.2, 0.3), (0.8, 0.35))])
    until(page, lambda: picture(page) != before, "another picture")
    button(page, "Undo").click()
    until(
        page,
        lambda: picture(page) == before and answers(page) == said,
        "the answer of before the second stroke",
    )
    clear(page)
    assert lit(page) == 0


def test_drawing_survives_a_page_change(page: Page, server: Server) -> None:
    visit(page, server.link("draw"))
    draw(page, DIGITS[3])
    says(page, 3)
    ink = lit(page)
    for name in ("Distil", "Draw"):
        go_to(page, name)
        until(page, lambda: abs(lit(page) - ink) < 20, f"the same strokes on {name}")
        says(page, 3)
    draw(page, [line((0.2, 0.5), (0.8, 0.5))])
    until(page, lambda: lit(page) > ink + 500, "a stroke more")
    clear(page)  # a kept drawing, too
    assert lit(page) == 0
    go_to(page, "Distil")
    assert lit(page) == 0 and not answers(page)


def test_scribble_does_not_look_like_a_digit(page: Page, server: Server, student: str) -> None:
    visit(page, server.link("draw", run=student))
    warning = page.get_by_text("Not a digit?")
    draw(page, SCRIBBLES["fence"])
    expect(warning).to_be_visible()
    clear(page)
    draw(page, DIGITS[3])
    says(page, 3)
    expect(warning).to_have_count(0)


def test_test_pictures_have_labels_and_sort_by_disagreement(page: Page, server: Server, student: str) -> None:
    visit(page, server.link("draw", run=student))
    page.get_by_text("Test set", exact=True).click()
    label = page.get_by_text("Its label is")
    expect(label).to_be_visible()
    says(page, int(label.inner_text()[-2]))
    page.get_by_text("most disagreement first").click()
    expect(page.get_by_text("Picture 1 to 100")).to_be_visible()

    def disagree() -> bool:
        said = answers(page)
        return len(said) == 3 and said["teacher"][0] != said["student"][0]

    until(page, disagree, "a picture on which teacher and student differ")


def test_uploaded_picture_is_read_like_a_drawing(page: Page, server: Server) -> None:
    visit(page, server.link("draw"))
    upload(page, "four.png", png(DIGITS[4]))
    says(page, 4)


@pytest.mark.parametrize("content", [b"These are words.\n", png(DIGITS[4])[:200]], ids=["text", "truncated"])
def test_upload_that_is_not_a_picture_gives_a_sentence(page: Page, server: Server, content: bytes) -> None:
    visit(page, server.link("draw"))
    upload(page, "digit.png", content)
    until(page, lambda: errors(page), "an error")
    (sentence,) = errors(page)
    assert sentence.endswith(".") and not any(
        word in sentence for word in ("Traceback", "Error", "PIL", "/")
    ), sentence
    page.get_by_text("Draw", exact=True).last.click()
    draw(page, DIGITS[7])
    says(page, 7)


def test_kept_drawing_becomes_a_score_on_the_runs_page(page: Page, server: Server, student: str) -> None:
    visit(page, server.link("draw", run=student))
    draw(page, DIGITS[3])
    says(page, 3, "student")
    choose(page, "This is a", "3")
    button(page, "Keep this drawing").click()
    expect(page.get_by_text("Your test set has 1 drawing;")).to_be_visible()
    go_to(page, "Runs")
    expect(button(page, "Your 1 kept drawings")).to_be_visible()
    expect(cell(page, "1 / 1 of 1").first).to_be_attached()
