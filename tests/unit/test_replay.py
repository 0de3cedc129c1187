"""A stored run plays back as it went: the same records at the same seconds, at any speed, without a worker."""

import csv
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kd.config.distil import DistilConfig
from kd.config.study import StudyConfig
from kd.errors import UserError
from kd.store import replay, runs
from kd.store.replay import SPEEDS, Player
from kd.training import loop
from tests.helpers import MEASURES

OWNER, OTHER = "a" * 64, "b" * 64


def rows(count: int = 10) -> list[dict[str, float]]:
    return [
        {
            "step": i,
            "epoch": i / 5,
            "seconds": i / 2,
            "images_per_second": 9.0,
            "loss student soft": 1 / i,
            "validation student": 0.9,
            "whole_validation": 0.0,
        }
        for i in range(1, count + 1)
    ]


def stored(owner: str | None = OWNER, state: str = "done", records=None, config=None) -> runs.Run:
    return runs.save(
        runs.new_id(),
        config or DistilConfig(student="linear"),
        state,
        rows() if records is None else records,
        {},
        MEASURES,
        owner,
    )


def test_at_each_second_exactly_the_records_are_there_that_were_there_then(home):
    recording = replay.load(stored().id)
    assert recording.length == 5.0
    for seconds, count in [(0, 0), (0.49, 0), (0.5, 1), (2.6, 5), (5.0, 10), (99, 10)]:
        assert recording.until(seconds) == tuple(rows()[:count])
    assert [recording.next(seconds) for seconds in (0, 0.5, 2.6, 5.0)] == [0.5, 1.0, 3.0, 5.0]


@pytest.mark.parametrize("speed", SPEEDS)
def test_a_player_covers_its_speed_in_seconds_of_training_each_second(speed):
    player = Player(100.0).at_speed(speed, 7.0).play(10.0)
    assert player.position(12.0) == 2 * speed
    assert player.pause(12.0).position(99.0) == 2 * speed


def test_another_speed_goes_on_from_where_it_stands():
    player = Player(100.0).play(0.0).at_speed(10.0, 4.0)
    assert player.position(4.0) == 4.0 and player.position(5.0) == 14.0
    with pytest.raises(UserError, match="speed of a replay"):
        player.at_speed(3.0, 5.0)


def test_it_stops_at_the_end_and_play_begins_again():
    player = Player(10.0).play(0.0)
    assert player.playing(9.9) and not player.playing(10.0) and player.ended(10.0)
    assert player.play(50.0).position(53.0) == 3.0


@given(st.floats(), st.booleans(), st.lists(st.floats(0, 1e6), min_size=1, max_size=5))
def test_wherever_it_is_sent_and_whatever_the_clock_does_it_stands_within_the_recording(to, playing, moments):
    player = Player(10.0).play(0.0) if playing else Player(10.0)
    for now in moments:
        player = player.seek(to, now)
        assert 0.0 <= player.position(now - 5.0) <= 10.0 and 0.0 <= player.position(now) <= 10.0


def test_what_has_no_curves_or_damaged_ones_is_told_in_a_sentence(home):
    with pytest.raises(UserError, match="not the id of a run"):
        replay.load("../../etc")
    with pytest.raises(UserError, match="empty or damaged"):
        replay.load(stored(records=[]).id)
    with pytest.raises(UserError, match="of this kind"):
        replay.load(stored(config=StudyConfig()).id)
    for spoil in (
        lambda found: found.reverse(),
        lambda found: found[3].update(seconds="nan"),
        lambda found: found[3].update(epoch=""),
    ):
        run = stored()
        found = [dict(row) for row in csv.DictReader(open(run.folder / "metrics.csv", newline=""))]
        spoil(found)
        with open(run.folder / "metrics.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(found[0]))
            writer.writeheader()
            writer.writerows(found)
        with pytest.raises(UserError, match="damaged"):
            replay.load(run.id)
    run = stored()
    about = json.loads((run.folder / "config.json").read_text())
    (run.folder / "config.json").write_text(json.dumps(about | {"created": "yesterday"}))
    with pytest.raises(UserError, match="empty or damaged"):
        replay.load(run.id)


def test_the_last_finished_run_is_ones_own_where_there_is_one(home):
    theirs = stored(OTHER)
    assert replay.last_finished(OWNER) == theirs.id
    mine = stored()
    stored(state="stopped")
    stored(config=StudyConfig())
    stored(OTHER)
    assert replay.last_finished(OWNER) == mine.id


# -- the recording that comes with the program ------------------------------------------------


def test_who_has_no_finished_run_gets_the_recording_that_comes_with_the_program(home):
    stored(state="stopped")
    stored(config=StudyConfig())
    recording = replay.load(replay.last_finished(OWNER))
    assert recording.run.folder.parent == runs.RECORDED and recording.run.state == "done"
    assert recording.length > 5 and len(recording.rows) > 20, "there is something to see"
    assert recording.run.id not in {run.id for run in runs.list_runs()[0]}


def test_the_recorded_student_and_control_are_what_they_are_said_to_be(home, sample):
    run = runs.recorded()
    assert (
        run.measures["source"] == "full"
        and (run.folder / "config.json").read_text().count("owner") == 1
        and run.owner is None
    )
    with torch.inference_mode():
        for which in ("student", "control"):
            told, found = (
                run.measures["models"][which]["test_accuracy"],
                loop.accuracy(run.model(which), sample.test),
            )
            assert found == pytest.approx(told, abs=0.05), "on other images of the same kind"
    assert run.metrics()[-1]["epoch"] == run.config.total_epochs


def test_the_recorded_errors_are_those_on_the_test_set(home, full_mnist):
    run = runs.recorded()
    for which in ("student", "control"):
        errors = round((1 - loop.accuracy(run.model(which), full_mnist.test)) * len(full_mnist.test.labels))
        assert errors == run.measures["models"][which]["test_errors"]


def test_nobody_changes_the_recording(home):
    run = runs.recorded()
    for change in (
        lambda: runs.delete(run.id, "t" * 43),
        lambda: runs.rename(run.id, "mine", "t" * 43),
        lambda: runs.pin(run.id, True, "t" * 43),
    ):
        with pytest.raises(UserError, match="command line"):
            change()


def test_where_the_recording_is_missing_that_is_told(home, monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "RECORDED", tmp_path / "nowhere")
    with pytest.raises(UserError, match="install the program again"):
        replay.last_finished(OWNER)
