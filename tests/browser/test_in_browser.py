"""A student that runs in the visitor's own browser."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from playwright.sync_api import Page, expect

from kd.data import digits
from kd.drawing import oddities, preprocess
from kd.store import runs
from tests.serving import Server, button, idle, select_run, visit
from tests.strokes import DIGITS, SCRIBBLES

SEVERAL = json.loads((Path(__file__).parents[1] / "cases" / "two-digits.json").read_text())


def draw(page: Page, strokes, button: str = "left") -> None:
    paper = page.locator(".kd-own canvas")
    paper.scroll_into_view_if_needed()
    box = paper.bounding_box()
    for (x, y), *rest in strokes:
        page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.mouse.down(button=button)
        for x, y in rest:
            page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        page.mouse.up(button=button)


def test_browser_and_server_predict_the_same_digits(
    page: Page, server: Server, student: str, stored: str, monkeypatch
) -> None:
    sent: list[str] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append("frame")))
    page.on("request", lambda request: sent.append(request.url))
    visit(page, server.link("runs"))
    select_run(page, stored)
    page.get_by_text("Export to deploy").click()
    page.wait_for_timeout(500)  # while the panel unfolds, the browser may drop a click on what moves
    button(page, "Prepare the file").click()
    expect(
        page.get_by_text("Run it in this browser")
    ).to_be_visible()  # if not, this tells what the page shows instead
    page.get_by_text("Run it in this browser").click()
    own = page.locator(".kd-own[data-ready=yes]")
    expect(own).to_be_visible()
    expect(own.locator(".kd-own-note")).to_contain_text("per image in this browser (one thread)")
    idle(page)
    monkeypatch.setenv("KD_HOME", str(server.home))
    model, right = runs.load(student).model("student"), 0
    sent.clear()
    draw(page, DIGITS[1], "right")
    draw(page, DIGITS[1], "middle")
    expect(own.locator(".kd-own-answer")).to_have_text("Draw a digit.")
    for digit, strokes in DIGITS.items():
        own.get_by_role("button", name="Clear").click()
        expect(own.locator(".kd-own-answer")).to_have_text("Draw a digit.")
        draw(page, strokes)
        expect(own.locator(".kd-own-answer")).to_contain_text("It is a")
        page.wait_for_timeout(100)  # the last answer of several while the hand moved
        picture = page.evaluate("() => document.querySelector('.kd-own canvas').toDataURL()")
        rgba = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.split(",")[1]))).convert("RGBA"))
        pixels = np.array(own.get_attribute("data-pixels").split(","), np.uint8).reshape(28, 28)
        expected = preprocess.prepare(preprocess.ink_from_canvas(rgba))
        assert np.array_equal(pixels, expected), "the same way from strokes to pixels"
        with torch.inference_mode():
            shares = model(digits.normalize(torch.from_numpy(pixels)[None])).softmax(1)[0]
        expect(own.locator(".kd-own-answer")).to_have_text(f"It is a {int(shares.argmax())}.")
        shown = own.locator(".kd-own-bars span").all_inner_texts()[1::2]
        assert all(
            abs(float(said.rstrip("%")) - 100 * share.item()) < 0.11
            for said, share in zip(shown, shares, strict=True)
        )
        right += int(shares.argmax()) == digit
        if digit == 7:
            expect(own.locator(".kd-own-warning")).to_be_hidden()
    assert right >= 8
    strokes = {"several": SEVERAL["11"], "unfamiliar": SCRIBBLES["fence"]}
    for odd, drawing in strokes.items():
        own.get_by_role("button", name="Clear").click()
        draw(page, drawing)
        expect(own.locator(".kd-own-warning")).to_have_text(oddities.WARNINGS[odd])
    own.get_by_role("button", name="Clear").click()
    expect(own.locator(".kd-own-warning")).to_be_hidden()
    assert sent == []
