"""The random clicker's plan depends on the seed and the action's number alone."""

import collections

from tests.stage.click_plan import BLOCK, QUICK, TABS, Action, pick, plan


def test_plan_is_the_same_for_a_seed():
    assert plan(3, 60) == plan(3, 60) and plan(3, 60) != plan(4, 60)
    assert [(found.number, found.kind, found.tab) for found in plan(3, 200)[:60]] == [
        (found.number, found.kind, found.tab) for found in plan(3, 60)
    ]
    assert [found.kind for found in plan(0, 5)] == [
        "input",
        "page",
        "button",
        "choice",
        "input",
    ] and not plan(0, 0)


def test_plan_has_every_kind_in_each_block_and_every_tab():
    found = plan(0, 1000)
    size = sum(BLOCK.values())
    for begin in range(0, 1000, size):
        assert collections.Counter(action.kind for action in found[begin : begin + size]) == BLOCK
    assert {action.tab for action in found} == set(range(TABS)) and len(found) == 1000


def test_plan_follows_haste_in_the_same_tab():
    found = plan(0, 1000)
    hasty = [(one, other) for one, other in zip(found, found[1:]) if one.hasty]
    assert len(hasty) > 100 and not found[-1].hasty
    assert all(one.tab == other.tab and one.kind in QUICK for one, other in hasty)


def test_pick_ignores_the_order_of_the_candidates():
    action = Action(7, "button", 0, False)
    names = ["Start", "Stop", "Reset", "Step", "Present"]
    chosen = pick(0, action, "button", names)
    assert chosen == pick(0, action, "button", names[::-1]) == pick(0, action, "button", [*names, *names[:3]])
    others = {pick(0, Action(number, "button", 0, False), "button", names) for number in range(50)}
    assert others == set(names)
