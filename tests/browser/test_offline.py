"""Without a network and without MNIST everything works on the sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from kd.data import sources
from tests.serving import Server, button, draw, finish, says, start, until, visit
from tests.strokes import DIGITS


@pytest.fixture(scope="module")
def offline(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server whose data folder has one truncated file."""
    folder = tmp_path_factory.mktemp("offline")
    damage(folder / "data")
    with Server(folder, folder / "data") as server:
        yield server
    assert not server.complaints(), server.log()[-3000:]


def damage(folder: Path) -> Path:
    raw = sources.raw_folder(folder)
    raw.mkdir(parents=True, exist_ok=True)
    file = raw / "t10k-images-idx3-ubyte"
    file.write_bytes(b"\0\0\x08\x03" + bytes(1000))
    return file


def test_page_is_usable_at_once_and_names_its_data(visitor, offline: Server) -> None:
    page: Page = visitor()
    visit(page, offline.url)
    expect(button(page, "Start")).to_be_enabled()
    strip = page.get_by_test_id("stAlertContentWarning")
    expect(strip).to_contain_text("5,000 real MNIST images")
    expect(strip).to_contain_text("could not be downloaded")
    expect(strip).to_contain_text("t10k-images-idx3-ubyte is incomplete or a different file")
    assert (sources.raw_folder(offline.data_dir) / "t10k-images-idx3-ubyte.damaged").exists()
    draw(page, DIGITS[5])
    says(page, 5)


def test_failed_download_is_explained_and_damaged_files_kept(visitor, offline: Server) -> None:
    page: Page = visitor()
    visit(page, offline.url)
    strip = page.get_by_test_id("stAlertContentWarning")
    expect(strip).to_contain_text("could not be downloaded")
    file = damage(offline.data_dir)
    button(page, "Try the download again").click()
    # The page says the same of the first attempt, so its text does not show that the second has ended.
    until(page, lambda: not file.exists(), "the damaged file is set aside")
    expect(strip).to_contain_text("set aside as t10k-images-idx3-ubyte.damaged")
    expect(strip).to_contain_text("could not be downloaded")
    expect(button(page, "Try the download again")).to_be_enabled()


def test_sample_trains_on_4000_and_validates_on_1000_images(visitor, offline: Server) -> None:
    page: Page = visitor()
    visit(page, offline.link(student="mlp-30", epochs=40))
    start(page)
    finish(page)
    expect(page.get_by_role("heading", name="Result on the 1,000 held-out images")).to_be_visible()
    for name in ("teacher", "student", "control"):
        expect(
            page.get_by_text("errors in 1,000").nth(("teacher", "student", "control").index(name))
        ).to_be_visible()
