"""Interrupted commands: their checkpoints, and resuming from them."""

import errno
import json
from dataclasses import replace

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from kd.store import checkpoints, runs
from kd.training import loop
from tests.helpers import identical

FAST = ["--student", "mlp-30", "--epochs", "1", "--batch-size", "100"]


def test_command_interrupted_at_once_stores_nothing(run, home, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Training, "_evaluate", interrupt)
    code, out, err = run("distil", *FAST, "--json")
    assert (code, out) == (130, "") and "nothing was stored" in err and not home.exists()


LONGER = ["--student", "mlp-30", "--epochs", "4", "--batch-size", "100", "--seed", "5", "--json"]


def interrupt_after(monkeypatch, epochs):
    """Press Ctrl-C during validation of the epoch after these."""
    judged, real = [], loop.Training._evaluate

    def judge(*arguments):
        judged.append(1)
        if len(judged) > epochs:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop.Training, "_evaluate", judge)
    return lambda: monkeypatch.setattr(loop.Training, "_evaluate", real)


def test_interrupted_run_resumes_to_the_same_bits(run, home, monkeypatch):
    whole = json.loads(run("distil", *LONGER)[1])
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    go_on = interrupt_after(monkeypatch, epochs=2)
    code, out, err = run("distil", *LONGER)
    id = err.split("--resume ")[-1].strip().rstrip(".")
    assert (code, out) == (130, "") and "2 epochs are kept: python -m kd distil --resume" in err
    assert [path.name for path in home.glob("*.checkpoint")] == [f"{id}.checkpoint"]
    go_on()
    # The settings come from the run; those on the command line are ignored.
    code, out, _ = run("distil", "--resume", id, "--json")
    resumed = json.loads(out)
    assert code == 0 and resumed["run"] == id and not list(home.glob("*.checkpoint"))
    one, other = runs.load(whole["run"]), runs.load(id)
    assert one.config == other.config
    for which in ("student", "control"):
        assert identical(one.model(which), other.model(which))
    timeless = [
        [
            {key: value for key, value in row.items() if key not in ("seconds", "images_per_second")}
            for row in stored.metrics()
        ]
        for stored in (one, other)
    ]
    assert timeless[0] == timeless[1] and len(timeless[0]) == 4


@pytest.fixture
def unfinished(run, monkeypatch):
    """Return the id of a run with a checkpoint after two epochs."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    go_on = interrupt_after(monkeypatch, epochs=2)
    _, _, err = run("distil", *LONGER)
    go_on()
    return err.split("--resume ")[-1].strip().rstrip(".")


def test_run_that_cannot_be_resumed_is_refused(run, home, unfinished, quick, mnist):
    other = "20260101-000000-0123456789abcdef"
    assert run("distil", "--resume", "latest")[0::2] == (
        2,
        "kd: That is not the id of a run; ids look like 20260131-120000-0123456789abcdef.\n",
    )
    assert f"There is no unfinished run {other}" in run("distil", "--resume", other)[2]
    assert "resume it with the command that it was started with" in run("teacher", "--resume", unfinished)[2]
    quick._mnist = replace(mnist, train=mnist.train.take(slice(0, 500)))
    assert "was started with different data" in run("distil", "--resume", unfinished)[2]
    path = home / f"{unfinished}.checkpoint"
    path.write_bytes(path.read_bytes()[:1000])
    assert "is damaged and cannot be resumed" in run("distil", "--resume", unfinished)[2]
    assert runs.list_runs() == ([], []), "a checkpoint is not a stored run"


def test_app_run_keeps_its_owner_when_resumed(run, home, unfinished):
    kept = checkpoints.load(unfinished)
    whole = runs.owner_digest("somebody")
    path = home / f"{unfinished}.checkpoint"
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    save_file(dict(kept.state), path, {"about": json.dumps(about | {"owner": whole})})
    code, _, _ = run("distil", "--resume", unfinished, "--json")
    assert code == 0 and runs.load(unfinished).owner == whole and not list(home.glob("*.checkpoint"))


def test_full_disk_is_reported_once_and_training_continues(run, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(
        checkpoints,
        "save_file",
        lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")),
    )
    code, _, err = run("distil", *LONGER)
    assert (
        code == 0
        and err.count("A checkpoint was not saved because the disk is full: free some space in") == 1
    )
