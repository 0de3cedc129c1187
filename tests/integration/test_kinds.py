"""Kinds describe themselves: one more needs its own file and an entry in KINDS, and nothing else."""

import json

import pytest
import torch
from safetensors.torch import save_file

from kd.config import kinds
from kd.config.study import StudyConfig
from kd.config.sweep import SweepConfig
from kd.errors import UserError
from kd.experiments.study import Study
from kd.jobs.manager import JobManager
from kd.store import checkpoints, runs
from kd.sweeps.sweep import Sweep
from tests.counting import COUNTING, CountingConfig
from tests.helpers import Given, small_teacher, wait_until

ME = "my token"
ID = "20260131-120000-0123456789abcdef"
STUDY = StudyConfig(student="mlp-30", seeds=1)
SWEEP = SweepConfig(student="mlp-30", temperature="1,4", soft_weight="1", seeds=1, epochs=2, batch_size=100)


@pytest.fixture
def counting(monkeypatch):
    """The kind of run that only tests know."""
    monkeypatch.setitem(kinds.KINDS, "counting", COUNTING)


@pytest.fixture
def start(mnist):
    """A function that makes a job manager, as a server does when it starts; all are closed after the test."""
    made = []

    def make():
        made.append(JobManager(Given(mnist), tick=0.001, lease=None))
        return made[-1]

    yield make
    for manager in made:
        manager.close()


def wait_for(manager, id, state):
    return wait_until(lambda: (snap := manager.snapshot(id, ME)).state == state and snap, state)


def test_dummy_kind_trains_and_streams_and_is_stored(home, counting, start):
    manager = start()
    id = manager.start(CountingConfig(top=20), ME)
    snap = wait_for(manager, id, "done")
    assert (snap.kind, snap.saved, snap.measures["counted"]) == ("counting", True, 20)
    assert [row["step"] for row in snap.rows] == list(range(1, 21))
    listed, problems = runs.list_runs()
    assert [run.id for run in listed] == [id] and not problems
    run = runs.load(id)
    assert (run.name, run.config, run.models) == ("counting to 20", CountingConfig(top=20), ())
    assert run.metrics()[-1]["step"] == 20 and run.about.position(0.5, 1) == "50% of the counting"
    runs.delete(id, ME)
    assert runs.list_runs() == ([], [])


def test_dummy_kind_is_interrupted_and_resumed(home, counting, start):
    manager = start()
    id = manager.start(CountingConfig(top=2000), ME)
    wait_until(lambda: len(manager.snapshot(id, ME).rows) > 5, "rows")
    manager.close()
    (kept,), problems = checkpoints.list_interrupted()
    assert (kept.id, kept.kind, kept.config.top) == (id, "counting", 2000) and not problems
    before = kept.rows[-1]["step"]
    manager = start()
    manager.resume(id, ME)
    snap = wait_for(manager, id, "done")
    assert before < 2000 and snap.measures["counted"] == 2000
    assert runs.load(id).state == "done" and not checkpoints.exists(id)


def test_a_kind_that_is_not_listed_is_no_run(home):
    with pytest.raises(KeyError):
        kinds.of(CountingConfig())


def test_every_kind_says_what_the_pages_and_commands_need():
    for name, kind in kinds.KINDS.items():
        config = kind.config()
        assert kind.name == name and kinds.of(config) is kind
        assert 0 < len(kind.default_name(config)) and kind.title(config, str)
        assert set(kind.models(config, {})) <= {"student", "control", "teacher", "mistaken", "alone"}
        assert kind.page == "distil" or kind.elsewhere
        assert bool(kind.experiment) == (name != "imported")


# -- runs and checkpoints of before ---------------------------------------------------------------


def store_as_before(home, kind, config):
    """Write a run as it was written when there was no format yet."""
    about = {
        "id": ID,
        "kind": kind,
        "name": "an older run",
        "owner": None,
        "created": "2026-01-31T12:00:00+00:00",
        "state": "done",
        "message": "",
        "config": config.to_dict(),
    }
    folder = home / ID
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(about))
    (folder / "measures.json").write_text("{}")
    row = {"step": 1, "epoch": 0.5, "seconds": 1, "images_per_second": 1, "value": 10, "seed": 0}
    row |= {"whole_validation": 1, "group": 0}
    (folder / "metrics.csv").write_text(f"{','.join(row)}\n{','.join(map(str, row.values()))}\n")


@pytest.mark.parametrize(("before", "now", "config"), [("sweep", "study", STUDY), ("grid", "sweep", SWEEP)])
def test_runs_of_before_open_under_their_new_names(home, before, now, config):
    store_as_before(home, before, config)
    run = runs.load(ID)
    assert (run.kind, run.config, run.models) == (now, config, ())
    assert run.metrics()[0]["step"] == 1 and runs.list_runs() == ([run], [])


@pytest.mark.parametrize("name", ["grid", "magic", None, ["sweep"]])
def test_old_names_mean_nothing_in_the_new_format(home, name):
    store_as_before(home, "sweep", STUDY)
    path = home / ID / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": kinds.FORMAT, "kind": name}))
    with pytest.raises(UserError, match="damaged"):
        runs.load(ID)


def test_runs_are_written_in_the_new_format(home):
    run = runs.save(runs.new_id(), SWEEP, "stopped", [], {}, {})
    about = json.loads((run.folder / "config.json").read_text())
    assert (about["format"], about["kind"], run.kind) == (2, "sweep", "sweep")


@pytest.mark.parametrize(
    ("before", "now", "config", "experiment"),
    [("sweep", "study", STUDY, Study), ("grid", "sweep", SWEEP, Sweep)],
)
def test_checkpoints_of_before_resume_to_the_same_weights(
    home, mnist, tmp_path, before, now, config, experiment
):
    keeper = checkpoints.Keeper(ID)
    began = experiment(config, mnist, small_teacher())
    records = began.records()
    rows = [next(records).row()]
    assert keeper.keep(began, config, rows) == ""
    keeper.leave(ended=False)
    kept = checkpoints.load(ID)
    as_before = {"format": 1, "kind": before, "config": config.to_dict(), "rows": kept.rows}
    as_before |= {"data": kept.data, "teacher": kept.teacher, "owner": None, "saved": kept.saved}
    save_file(dict(kept.state), home / f"{ID}.checkpoint", {"about": json.dumps(as_before)})
    old = checkpoints.load(ID)
    assert (old.kind, old.config, old.rows) == (now, config, rows)
    resumed = old.about.build(old.config, mnist, small_teacher())
    following = resumed.records(state=old.state)
    record, expected = next(following), next(records)
    assert (record.step, record.losses) == (expected.step, expected.losses)
    now_there, then_there = resumed.training.state(), began.training.state()
    assert now_there.keys() == then_there.keys()
    assert all(torch.equal(now_there[key], then_there[key]) for key in now_there if "seconds" not in key)
