"""A visitor who clicks at random, in three tabs of a real browser: nothing may break, freeze or be lost.

    python -m tests.stage clicker [--actions 1000] [--seed 0]

The actions follow tests/stage/click_plan.py. After each, unless the next one follows at once, the page must
come to rest and show neither a redacted error nor another visitor's run. Once in 25 actions a run is started
and its page reloaded: then this visitor can pause and stop it, and a stranger cannot.
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, ElementHandle, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.browser.conftest import PROBE
from tests.server import COMPLAINT
from tests.serving import PATIENCE, Server, button, draw, idle, launch, run_id, start, until, visit
from tests.stage.click_plan import BLOCK, KEYS, MOVES, NUMBERS, SIZES, TABS, TEXTS, Action, pick, plan
from tests.stage.pages import PAGES
from tests.stage.promise import Promise, tell
from tests.stage.relay import Relay
from tests.stage.soak import seen
from tests.strokes import DIGITS, SCRIBBLES

FROZEN = 20.0  # seconds in which a page must come to rest; after PATIENCE it is given up
REACH = 5.0  # seconds in which an element must be ready for the mouse
OFFLINE = 3.0  # seconds
DONE = 0.8  # share of the actions that must find something to act on
STROKES = {**{str(digit): strokes for digit, strokes in DIGITS.items()}, **SCRIBBLES}
STRANGE = "that somebody else started"  # what only a stranger's page says, and no other visitor starts runs
#: What a browser notes in its console while it has no network.
WITHOUT_NETWORK = re.compile(
    r"net::ERR_|WebSocket connection to|Network Error|Failed to fetch|when disconnected from"
    r"|No response received when attempting to reach|server is not responding"
)

# Returns [label, element] of each visible control; a dialog's alone while one is open.
_FIND = """(selector) => {
  const found = []
  const search = (root) => {
    for (const element of root.querySelectorAll("*")) {
      if (element.shadowRoot) search(element.shadowRoot)
      if (!element.matches(selector)) continue
      const shown = element.matches("[type=checkbox], [type=radio]") ? element.closest("label") : element
      const box = shown?.getBoundingClientRect()
      const whole = {opacityProperty: true, visibilityProperty: true}
      if (!box?.width || !box.height || !shown.checkVisibility(whole)) continue
      const text = element.getAttribute("aria-label") || shown.innerText || element.title || ""
      found.push([text.trim().replace(/\\s+/g, " ").slice(0, 60), shown])
    }
  }
  search(document.querySelector("[role=dialog]") ?? document)
  return found.filter(([text]) => !text.startsWith("Help for") && text !== "Open" && text !== "Main menu")
}"""
SELECTORS = {
    "button": "button:not(:disabled), summary",
    "slider": "input[type=range]:not(:disabled), [role=slider]:not([aria-disabled=true])",
    "choice": "input[role=combobox]:not(:disabled), input[type=checkbox]:not(:disabled), "
    "input[type=radio]:not(:disabled)",
    "input": "input[type=text]:not([role=combobox]):not(:disabled), input[type=number]:not(:disabled), "
    "input[type=password]:not(:disabled), textarea:not(:disabled)",
    "option": "[role=option]:not([aria-disabled=true])",
    "page": 'a[href^="/"]:not([download]), a[data-testid*="Link"][href]:not([target=_blank])',
}
_STATE = """() => ({
  exceptions: [...document.querySelectorAll("[data-testid=stException]")].map(found => found.innerText),
  text: document.querySelector("[data-testid=stMain]")?.innerText ?? "",
})"""


class Missed(Exception):
    """There was nothing to act on, or something lay over it."""


class Clicker:
    """A visitor with three tabs, and a stranger with one.

    Args:
        server: serves the app, with a home folder of its own.
        relay: between the server and the visitor.
    """

    def __init__(self, server: Server, relay: Relay, browser, seed: int, say: Callable[[str], None]):
        self._server, self._relay, self._seed, self._say = server, relay, seed, say
        self._url = f"http://127.0.0.1:{relay.port}"
        self._context = browser.new_context(viewport={"width": 1280, "height": 900})
        self._stranger = browser.new_context()
        for context in (self._context, self._stranger):
            context.set_default_timeout(PATIENCE * 1000)
        self.problems: dict[str, list[str]] = collections.defaultdict(list)
        self.done: collections.Counter[str] = collections.Counter()
        self.missed: list[str] = []
        self.longest, self.slowest = 0.0, ""
        self.owned = 0
        self._online_since = 0.0
        self._trail: collections.deque[str] = collections.deque(maxlen=6)
        self._addresses: dict[str, None] = {}  # of runs, the newest last
        self._tabs = [self._person(self._context) for _ in range(TABS)]
        for tab in self._tabs:
            visit(tab, self._url)

    # -- what is watched -----------------------------------------------------------

    def _person(self, context: BrowserContext) -> Page:
        page = context.new_page()
        page.on("console", lambda message: message.type == "error" and self._heard(message.text, message))
        page.on("pageerror", lambda error: self._heard(error.stack or str(error)))
        page.on("crash", lambda _: self._problem("console errors", "the page crashed"))
        page.on("dialog", lambda dialog: dialog.dismiss())
        page.on("filechooser", lambda chooser: chooser.set_files(_UPLOAD))
        return page

    def _heard(self, text: str, message=None) -> None:
        whole = f"{text} ({message.location['url']})" if message else text
        offline = time.monotonic() < self._online_since + FROZEN and WITHOUT_NETWORK.search(text)
        if not PROBE.search(whole) and not offline:
            self._problem("console errors", whole)

    def _problem(self, kind: str, what: str) -> None:
        self.problems[kind].append(f"{'; '.join(self._trail)}: {what}")
        self._say(f"{kind}: {self.problems[kind][-1][:3000]}")

    def _settle(self, page: Page) -> bool:
        """Wait until the page is at rest and look at it; return False if it froze."""
        begin = time.monotonic()
        try:
            page.wait_for_timeout(100)  # until the page has told the server
            if page.url.startswith(self._url):
                idle(page, PATIENCE)
                state = page.evaluate(_STATE)
        except PlaywrightError as error:
            self._problem("pages frozen", str(error).splitlines()[0])
            return False
        finally:
            took = time.monotonic() - begin
            if took > self.longest:
                self.longest, self.slowest = took, self._trail[-1]
        if not page.url.startswith(self._url):
            return True
        for text in state["exceptions"]:
            self._problem("redacted errors", text)
        if STRANGE in state["text"]:
            self._problem("lost ownership", "the page shows somebody else's run")
        if not state["text"].strip():
            self._problem("blank pages", page.url)
        if "run=" in page.url:
            self._addresses.pop(page.url, None)
            self._addresses[page.url] = None
        if complaint := self._server.complaints():
            self._problem("exceptions in the server's log", complaint[COMPLAINT.search(complaint).start() :])
        return True

    # -- actions -------------------------------------------------------------------

    def act(self, action: Action) -> None:
        """Do one action and look at what has come of it."""
        page = self._tabs[action.tab]
        self._trail.append(f"{action.number} {action.kind} in tab {action.tab + 1}")
        try:
            page.bring_to_front()
            if not page.url.startswith(self._url):  # Back left the app
                page.goto(self._url)
            self._trail[-1] += f" at {page.url[len(self._url) :][:80]}"
            getattr(self, f"_{action.kind}")(page, action)
            self.done[action.kind] += 1
        except (Missed, PlaywrightError) as error:
            if page.is_closed():
                self._problem("pages frozen", f"the tab is gone: {error}")
            if action.kind == "owner":  # whatever hindered it, ownership was not shown
                self._problem("lost ownership", str(error)[:2000])
            self.missed.append(f"{self._trail[-1]}: {str(error).splitlines()[0]}")
        except AssertionError as error:
            kind = "lost ownership" if action.kind == "owner" else "pages frozen"
            self._problem(kind, str(error)[:2000])
        if page.is_closed() or not (action.hasty or self._settle(page)):
            page.close()
            self._tabs[action.tab] = page = self._person(self._context)
            page.goto(self._url)

    def _found(self, page: Page, action: Action, kind: str) -> ElementHandle:
        """Return one of the page's controls of a kind."""
        found = page.evaluate_handle(_FIND, SELECTORS[kind])
        labels = found.evaluate("found => found.map(([label]) => label)")
        if not labels:
            raise Missed(f"nothing for {kind}")
        label = pick(self._seed, action, kind, labels)
        self._trail[-1] += f" '{label}'"
        return found.evaluate_handle("(found, at) => found[at][1]", labels.index(label)).as_element()

    def _click(self, page: Page, element: ElementHandle) -> None:
        try:
            element.click(timeout=1000 * REACH)
        except PlaywrightError:
            page.keyboard.press("Escape")  # closes what may lie over it
            raise

    def _any(self, action: Action, what: str, candidates: list[str]) -> str:
        chosen = pick(self._seed, action, what, candidates)
        self._trail[-1] += f" {chosen[:30]!r}"
        return chosen

    def _button(self, page: Page, action: Action) -> None:
        self._click(page, self._found(page, action, "button"))

    def _slider(self, page: Page, action: Action) -> None:
        element = self._found(page, action, "slider")
        for turn in range(1 + action.number % 3):
            element.press(self._any(action, f"move {turn}", MOVES), timeout=1000 * REACH)

    def _input(self, page: Page, action: Action) -> None:
        element = self._found(page, action, "input")
        number = element.get_attribute("type") == "number"
        element.fill(self._any(action, "text", NUMBERS if number else TEXTS), timeout=1000 * REACH)
        element.press("Enter" if action.number % 2 else "Tab", timeout=1000 * REACH)

    def _choice(self, page: Page, action: Action) -> None:
        element = self._found(page, action, "choice")
        self._click(page, element)
        if element.get_attribute("role") == "combobox":
            page.locator(SELECTORS["option"]).first.wait_for(timeout=1000 * REACH)
            self._click(page, self._found(page, action, "option"))

    def _stroke(self, page: Page, action: Action) -> None:
        if not page.locator("canvas.upper-canvas").count():
            return self._page(page, action)
        page.locator("canvas.upper-canvas").scroll_into_view_if_needed(timeout=1000 * REACH)
        draw(page, STROKES[self._any(action, "strokes", list(STROKES))])

    def _page(self, page: Page, action: Action) -> None:
        try:
            self._click(page, self._found(page, action, "page"))
        except Missed:  # presenter mode has no menu
            page.goto(f"{self._url}/{self._any(action, 'page', PAGES)}")

    def _key(self, page: Page, action: Action) -> None:
        page.keyboard.press(self._any(action, "key", KEYS))

    def _back(self, page: Page, action: Action) -> None:
        page.go_back(wait_until="commit")

    def _forward(self, page: Page, action: Action) -> None:
        page.go_forward(wait_until="commit")

    def _reload(self, page: Page, action: Action) -> None:
        page.reload()

    def _resize(self, page: Page, action: Action) -> None:
        sizes = {f"{width} x {height}": (width, height) for width, height in SIZES}
        width, height = sizes[self._any(action, "size", list(sizes))]
        page.set_viewport_size({"width": width, "height": height})

    def _offline(self, page: Page, action: Action) -> None:
        self._online_since = time.monotonic() + OFFLINE
        self._context.set_offline(True)
        self._relay.cut(True)
        page.wait_for_timeout(1000 * OFFLINE)
        self._relay.cut(False)
        self._context.set_offline(False)
        self._online_since = time.monotonic()
        page.locator('[data-testid="stApp"][data-test-connection-state="CONNECTED"]').wait_for()

    def _owner(self, page: Page, action: Action) -> None:
        """Start a run, reload, and see that this visitor can pause and stop it, and a stranger cannot."""
        own, stranger = self._person(self._context), self._person(self._stranger)
        try:
            self._check_owner(own, stranger)
        except (AssertionError, PlaywrightError) as error:
            first = " ".join(str(error).partition("\nAria")[0].split())[:300]
            raise AssertionError(f"{first} {' '.join(map(seen, (own, stranger)))}") from error
        finally:
            own.close()
            stranger.close()

    def _check_owner(self, own: Page, stranger: Page) -> None:
        for address in list(self._addresses)[::-1]:  # a visitor may have three runs at a time
            visit(own, address)
            if button(own, "Stop").is_visible() and button(own, "Stop").is_enabled():
                button(own, "Stop").click()
                until(own, lambda: not button(own, "Stop").is_enabled(), "a run stopped by its owner")
        self._addresses.clear()
        settings = self._server.endless()
        visit(own, f"{self._url}/?{'&'.join(f'{name}={value}' for name, value in settings.items())}")
        run = start(own)
        own.reload()
        until(own, lambda: button(own, "Stop").is_visible(), "a reloaded page")
        expect(button(own, "Stop"), "Stop for the owner after a reload").to_be_enabled()
        assert run_id(own) == run, "the address lost the run"
        visit(stranger, own.url)
        expect(stranger.get_by_text(STRANGE).first, "what a stranger is told").to_be_visible()
        expect(button(stranger, "Stop"), "Stop for a stranger").to_be_disabled()
        for name in ("Pause", "Resume"):
            assert not button(stranger, name).count(), f"a stranger is offered {name}"
        button(own, "Pause").click()
        waiting = own.get_by_text("Waiting:")  # one that waits is paused when its turn comes
        until(own, lambda: button(own, "Resume").count() or waiting.count(), "a run paused by its owner")
        button(own, "Stop").click()
        expect(button(own, "Start"), "Start after Stop").to_be_enabled()
        self.owned += 1

    def close(self) -> None:
        self._context.close()
        self._stranger.close()


_UPLOAD = {"name": "random.png", "mimeType": "image/png", "buffer": b"\x89PNG and no more"}


def click(
    server: Server,
    actions: int,
    seed: int = 0,
    say: Callable[[str], None] = lambda line: print(line, flush=True),
) -> list[Promise]:
    """Do so many actions, and return what held."""
    begin, steps = time.monotonic(), plan(seed, actions)
    with sync_playwright() as playwright, launch(playwright) as browser, Relay(server.port) as relay:
        clicker = Clicker(server, relay, browser, seed, say)
        for action in steps:
            clicker.act(action)
            if action.number % 50 == 49:
                say(
                    f"after {action.number + 1} actions, {(time.monotonic() - begin) / 60:.1f} min: "
                    f"{len(clicker.missed)} without effect, longest wait {clicker.longest:.1f} s"
                )
        clicker.close()
    done = sum(clicker.done.values())
    say(
        f"seed {seed}: {actions} actions in {(time.monotonic() - begin) / 60:.1f} min, of which "
        + ", ".join(f"{clicker.done[kind]} {kind}" for kind in BLOCK)
        + f"; longest wait after {clicker.slowest}"
    )
    for missed in clicker.missed[:5]:
        say(f"without effect: {missed}")
    problems = clicker.problems
    return [
        Promise.least("share of the actions that found something to act on", done / max(1, actions), DONE),
        Promise.least(
            "runs whose ownership was checked", clicker.owned, sum(action.kind == "owner" for action in steps)
        ),
        *(
            Promise.none(kind, problems[kind])
            for kind in (
                "redacted errors",
                "console errors",
                "exceptions in the server's log",
                "lost ownership",
                "blank pages",
                "pages frozen",
            )
        ),
        Promise.below("longest wait for a page to come to rest", clicker.longest, FROZEN, " s"),
        Promise.alive(server.process),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.stage clicker", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--actions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    expect.set_options(timeout=PATIENCE * 1000)
    with tempfile.TemporaryDirectory() as folder, Server(Path(folder)) as server:
        return tell(click(server, given.actions, given.seed))


if __name__ == "__main__":
    sys.exit(main())
