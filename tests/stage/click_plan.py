"""The random clicker's plan: which kind of action comes next, in which tab, and on what it is done.

Everything is drawn from the seed and the action's number, never from what the pages showed before. So two
runs with one seed differ only where the pages themselves do.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

TABS = 3
#: Kind of action -> how often it comes in each block of actions.
BLOCK = {
    "button": 6,
    "slider": 3,
    "choice": 3,
    "input": 2,
    "stroke": 2,
    "page": 2,
    "key": 1,
    "back": 1,
    "forward": 1,
    "reload": 1,
    "offline": 1,
    "resize": 1,
    "owner": 1,  # start a run, reload, and see who may stop it
}
#: Those after which the next action need not wait for the page.
QUICK = ("button", "slider", "choice", "input")
HASTE = 0.4  # share of these that the next action follows at once, in the same tab
STAY = 0.7  # share of actions in the tab of the one before

NUMBERS = ["", "0", "1", "2", "7", "30", "200", "-1", "0.5", "0.004", "1e99", "99999999999999999999"]
TEXTS = [
    *NUMBERS,
    "nan",
    "012",
    "mlp-7",
    "mlp-64-32_neurons-50",
    "cnn+vit",
    "A name",
    "é · 名 · \u202e",
    ":fire: **bold** $x$",
    "<img src=x onerror=alert(1)>",
    "=1+1",
    "../../etc/passwd",
    "3:temperature=8",
    "x" * 70,
]
MOVES = ["ArrowLeft", "ArrowRight", "ArrowRight", "PageUp", "PageDown", "Home", "End"]
KEYS = ["Escape", "Escape", "Enter", "Tab", "p", "s", "t", "d", "x", "l", "q", "f", "n"]
SIZES = [(1280, 900), (1280, 900), (1920, 1080), (820, 1180), (390, 844), (640, 360)]


@dataclass(frozen=True)
class Action:
    """One action.

    Args:
        number: its place, from 0.
        kind: a key of BLOCK.
        tab: the tab in which it is done.
        hasty: whether the next one follows before the page has answered.
    """

    number: int
    kind: str
    tab: int
    hasty: bool


def plan(seed: int, actions: int) -> list[Action]:
    """Return the actions of a seed.

    A longer plan begins with the shorter one, but for the last one's haste.
    """
    draw = random.Random(f"clicker {seed}")
    found: list[Action] = []
    tab = 0
    while len(found) < actions:
        block = [kind for kind, often in BLOCK.items() for _ in range(often)]
        draw.shuffle(block)
        for kind in block:
            stay, other, haste = draw.random(), draw.randrange(TABS), draw.random()
            if not (found and found[-1].hasty) and stay > STAY:
                tab = other
            found.append(Action(len(found), kind, tab, kind in QUICK and haste < HASTE))
    last = found[actions - 1] if actions else None
    return [*found[: actions - 1], Action(last.number, last.kind, last.tab, False)] if last else []


def pick(seed: int, action: Action, what: str, candidates: Sequence[str]) -> str:
    """Return one of the candidates, in whatever order they come and however often one of them does.

    Args:
        what: tells several choices of one action apart.
    """
    return random.Random(f"{seed} {action.number} {action.kind} {what}").choice(sorted(set(candidates)))
