"""Replays of stored runs: the same records at the same seconds, at any speed, without a worker."""

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


def test_replay_shows_the_records_of_each_second(home):
    recording = replay.load(stored().id)
    assert recording.length == 5.0
    for seconds, count in [(0, 0), (0.49, 0), (0.5, 1), (2.6, 5), (5.0, 10), (99, 10)]:
        assert recording.until(seconds) == tuple(rows()[:count])
    assert [recording.next(seconds) for seconds in (0, 0.5, 2.6, 5.0)] == [0.5, 1.0, 3.0, 5.0]


@pytest.mark.parametrize("speed", SPEEDS)
def test_player_advances_at_its_speed(speed):
    player = Player(100.0).at_speed(speed, 7.0).play(10.0)
    assert player.position(12.0) == 2 * speed
    assert player.pause(12.0).position(99.0) == 2 * speed


def test_new_speed_continues_from_the_current_position():
    player = Player(100.0).play(0.0).at_speed(10.0, 4.0)
    assert player.position(4.0) == 4.0 and player.position(5.0) == 14.0
    with pytest.raises(UserError, match="speed of a replay"):
        player.at_speed(3.0, 5.0)


def test_player_stops_at_the_end_and_play_restarts_it():
    player = Player(10.0).play(0.0)
    assert player.playing(9.9) and not player.playing(10.0) and player.ended(10.0)
    assert player.play(50.0).position(53.0) == 3.0


@given(st.floats(), st.booleans(), st.lists(st.floats(0, 1e6), min_size=1, max_size=5))
def test_position_stays_within_the_recording(to, playing, moments):
    player = Player(10.0).play(0.0) if playing else Player(10.0)
    for now in moments:
        player = player.seek(to, now)
        assert 0.0 <= player.position(now - 5.0) <= 10.0 and 0.0 <= player.position(now) <= 10.0


def test_missing_or_damaged_curves_are_reported_plainly(home):
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


def test_last_finished_run_is_ones_own_if_there_is_one(home):
    theirs = stored(OTHER)
    assert replay.last_finished(OWNER) == theirs.id
    mine = stored()
    stored(state="stopped")
    stored(config=StudyConfig())
    stored(OTHER)
    assert replay.last_finished(OWNER) == mine.id


# -- the recorded run that is part of the package ---------------------------------------------


def test_recorded_run_replaces_a_missing_finished_run(home):
    stored(state="stopped")
    stored(config=StudyConfig())
    recording = replay.load(replay.last_finished(OWNER))
    assert recording.run.folder.parent == runs.RECORDED and recording.run.state == "done"
    assert recording.length > 5 and len(recording.rows) > 20, "the recording must be long enough to watch"
    assert recording.run.id not in {run.id for run in runs.list_runs()[0]}


def test_recorded_models_reach_their_recorded_accuracy(home, sample):
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
            assert found == pytest.approx(told, abs=0.05), "measured on the sample, not on the full test set"
    assert run.metrics()[-1]["epoch"] == run.config.total_epochs


def test_recorded_errors_match_the_test_set(home, full_mnist):
    run = runs.recorded()
    for which in ("student", "control"):
        errors = round((1 - loop.accuracy(run.model(which), full_mnist.test)) * len(full_mnist.test.labels))
        assert errors == run.measures["models"][which]["test_errors"]


def test_recorded_run_cannot_be_changed(home):
    run = runs.recorded()
    for change in (
        lambda: runs.delete(run.id, "t" * 43),
        lambda: runs.rename(run.id, "mine", "t" * 43),
        lambda: runs.pin(run.id, True, "t" * 43),
    ):
        with pytest.raises(UserError, match="command line"):
            change()


def test_missing_recording_is_reported(home, monkeypatch, tmp_path):
    monkeypatch.setattr(runs, "RECORDED", tmp_path / "nowhere")
    with pytest.raises(UserError, match="install the program again"):
        replay.last_finished(OWNER)
