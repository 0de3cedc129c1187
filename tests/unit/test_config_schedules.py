"""Schedules: changes of settings during training, as text and as values."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kd.config.distil import (
    LIVE_SETTINGS,
    MAX_CHANGES,
    MAX_STEPS,
    DistilConfig,
    check_live,
    format_schedule,
    parse_schedule,
)
from kd.errors import UserError

changes = st.tuples(st.integers(0, MAX_STEPS), st.just("temperature"), st.floats(1, 20)) | st.tuples(
    st.integers(0, MAX_STEPS), st.just("soft_weight"), st.floats(0, 1)
)


def refused(message):
    """Return whether a message is one short plain line."""
    return (
        "\n" not in message and 10 < len(message) < 250 and message.endswith(".") and "Error" not in message
    )


@given(st.lists(changes, max_size=8))
def test_schedule_survives_formatting_and_parsing(schedule):
    config = DistilConfig(schedule=schedule)
    assert DistilConfig(schedule=format_schedule(config.schedule)) == config
    assert sorted(config.schedule) == sorted(schedule)
    assert [step for step, *_ in config.schedule] == sorted(step for step, *_ in schedule)


def test_schedule_is_formatted_as_documented_in_step_order():
    config = DistilConfig(schedule="300:soft_weight=0.5;120:temperature=8")
    assert config.schedule == ((120, "temperature", 8.0), (300, "soft_weight", 0.5))
    assert config.to_query() == {"schedule": "120:temperature=8.0;300:soft_weight=0.5"}
    assert parse_schedule("") == [] and DistilConfig(schedule="").schedule == ()


def test_changes_at_the_same_step_keep_their_order():
    config = DistilConfig(schedule=[(5, "temperature", 9.0), (5, "temperature", 2.0)])
    assert config.schedule == ((5, "temperature", 9.0), (5, "temperature", 2.0))


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("abc", "A schedule is written like 120:temperature=8;300:soft_weight=0.5, not 'abc'"),
        ("5:temperature", "A schedule is written like"),
        ("5:epochs=3", "Only temperature and soft_weight can change during training"),
        ("x:temperature=3", "A schedule's step must be a whole number, not 'x'"),
        ("-1:temperature=3", "A schedule's step must be between 0 and 12,000,000, not -1"),
        (f"{10**15}:temperature=3", "A schedule's step must be between"),
        ("5:temperature=300", "Temperature must be between 1 and 20, not 300"),
        ("5:temperature=nan", "Temperature must be a number"),
        ([(5, "temperature")], "Each change in a schedule is a step, a setting and a value"),
        ([7], "Each change in a schedule is"),
        ([(5, ["temperature"], 3)], "Only temperature and soft_weight"),
        ([(True, "temperature", 3)], "A schedule's step must be a whole number"),
        ([(10**5000, "temperature", 3)], "A schedule's step must be a whole number"),
        (None, "A schedule is a list of changes"),
        (5, "A schedule is a list of changes"),
        ({"5": "temperature"}, "A schedule is a list of changes"),
        ([(1, "temperature", 3)] * (MAX_CHANGES + 1), "A schedule can hold at most 1000 changes"),
    ],
)
def test_bad_schedule_is_refused_with_a_plain_message(schedule, message):
    with pytest.raises(UserError) as error:
        DistilConfig(schedule=schedule)
    assert str(error.value).startswith(message) and refused(str(error.value))


def test_live_change_is_validated_like_a_setting():
    assert check_live("temperature", "8") == 8.0 and check_live("soft_weight", 0) == 0.0
    for name in LIVE_SETTINGS:
        for value in (-1, 21, math.nan, None, "x", True):
            with pytest.raises(UserError, match=DistilConfig.setting(name)["label"]):
                check_live(name, value)
