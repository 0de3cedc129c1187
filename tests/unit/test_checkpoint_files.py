"""Checkpoint files: loading, locking, and tidying up after killed processes."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import save_file

from kd.config import kinds
from kd.config.distil import DistilConfig
from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.store import checkpoints, runs
from tests.helpers import small_teacher

CONFIG = DistilConfig(student="mlp-30", epochs=2, batch_size=100)
OLD = time.time() - 2 * checkpoints.ABANDONED


@pytest.fixture(autouse=True)
def in_home(home):
    home.mkdir()
    return home


@pytest.fixture
def kept(mnist):
    """Return the id of a run that was interrupted after its first epoch."""
    running = Distillation(CONFIG, mnist, small_teacher())
    id = runs.new_id()
    keeper = checkpoints.Keeper(id, runs.owner_digest("me"))
    record = next(running.records())
    assert keeper.keep(running, CONFIG, [record.row()]) == ""
    keeper.leave(ended=False)
    return id


def rewrite(home, id, **changes):
    """Rewrite the checkpoint with a changed header."""
    path, old = home / f"{id}.checkpoint", checkpoints.load(id)
    about = {
        "format": kinds.FORMAT,
        "kind": "distil",
        "config": old.config.to_dict(),
        "rows": old.rows,
        "data": old.data,
        "teacher": old.teacher,
        "owner": old.owner,
        "saved": old.saved,
    }
    save_file(dict(old.state), path, {"about": json.dumps(about | changes)})


def test_checkpoint_loads_as_it_was_saved(kept, home, mnist):
    found = checkpoints.load(kept)
    assert (found.config, found.kind, found.owner, found.data) == (
        CONFIG,
        "distil",
        runs.owner_digest("me"),
        mnist.digest,
    )
    assert (
        found.rows[-1]["step"] == 10 and found.state["step"] == 10 and found.teacher == small_teacher().digest
    )
    assert checkpoints.load(kept, state=False).state == {}
    assert [path.name for path in home.iterdir()] == [f"{kept}.checkpoint"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"format": 0}, "written by another version of the program"),
        ({"config": {"student": "mlp-30", "of_the_future": 1}}, "written by another version of the program"),
        ({"rows": []}, "is damaged"),
        ({"rows": [{"step": "x"}]}, "is damaged"),
        ({"rows": [{"step": 1}]}, "is damaged"),
        ({"kind": "nothing"}, "is damaged"),
    ],
)
def test_invalid_header_is_reported_and_the_file_stays(kept, home, changes, words):
    rewrite(home, kept, **changes)
    with pytest.raises(UserError, match=words):
        checkpoints.load(kept)
    found, problems = checkpoints.list_interrupted()
    assert (
        found == [] and len(problems) == 1 and words in problems[0] and (home / f"{kept}.checkpoint").exists()
    )


def test_file_without_checkpoint_header_is_damaged(kept, home):
    save_file({"x": torch.zeros(1)}, home / f"{kept}.checkpoint")
    with pytest.raises(UserError, match="is damaged"):
        checkpoints.load(kept)


def test_symlinks_and_invalid_ids_are_not_followed(kept, home, tmp_path):
    other = runs.new_id()
    (home / f"{other}.checkpoint").symlink_to(home / f"{kept}.checkpoint")
    (home / "x.checkpoint").write_bytes(b"")
    assert [found.id for found in checkpoints.list_interrupted()[0]] == [kept] and not checkpoints.exists(
        other
    )
    with pytest.raises(UserError, match="not the id of a run"):
        checkpoints.load("../x")


def test_stored_run_is_not_listed_as_interrupted_after_a_crash(kept, home):
    (home / kept).mkdir()
    assert checkpoints.list_interrupted() == ([], []) and not checkpoints.exists(kept)
    checkpoints.tidy()
    assert [path.name for path in home.iterdir()] == [kept]


def test_command_line_run_is_resumed_on_the_command_line(kept, home):
    rewrite(home, kept, owner=None)
    with pytest.raises(UserError, match=f"resume it with python -m kd distil --resume {kept}"):
        checkpoints.owned(kept, "me")


@pytest.mark.skipif(os.name == "nt", reason="the other process, kept small, locks as on Unix")
def test_lock_is_released_when_its_process_is_killed(kept, home):
    lock = str(home / f".{kept}.lock")
    holding = (
        f"import fcntl; file = open({lock!r}, 'ab'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print('held', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        assert checkpoints.in_training(kept) and checkpoints.list_interrupted() == ([], [])
        checkpoints.tidy()
        with pytest.raises(UserError, match="being trained by another process"):
            checkpoints.Keeper(kept).claim()
        process.kill()
        process.wait()
    assert not checkpoints.in_training(kept) and (home / f".{kept}.lock").exists()
    keeper = checkpoints.Keeper(kept)
    keeper.claim()
    keeper.leave(ended=False)
    assert [path.name for path in home.iterdir()] == [f"{kept}.checkpoint"]


def test_tidy_removes_only_old_partial_files(kept, home):
    ids = [runs.new_id() for _ in range(5)]
    half = [
        home / f".{ids[0]}.tmp",
        home / f".{ids[1]}.deleted",
        home / f".{ids[2]}.checkpoint.tmp",
        home / ".tmpRHQ1Gy",  # a temporary file of safetensors
    ]
    for path in half[:2]:
        path.mkdir()
        (path / "student.safetensors").write_bytes(b"half")
    half[2].write_bytes(b"half")
    half[3].write_bytes(b"half")
    # The lock of a run that was killed before its first checkpoint was complete.
    (home / f".{ids[3]}.lock").write_bytes(b"")
    others = [home / "drawings", home / ".config.tmp", home / "notes.txt", home / ids[4]]
    for path in others:
        path.mkdir()
        os.utime(path, (OLD, OLD))
    for path in half:
        checkpoints.tidy()
        assert path.exists(), "another server may still be writing it"
        os.utime(path, (OLD, OLD))
    checkpoints.tidy()
    assert {path.name for path in home.iterdir()} == {f"{kept}.checkpoint", *(path.name for path in others)}


def test_tidy_ignores_missing_and_read_only_folders(kept, home, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "unlink", lambda *_: (_ for _ in ()).throw(PermissionError()))
    (home / kept).mkdir()
    checkpoints.tidy()
    monkeypatch.setenv("KD_HOME", str(tmp_path / "nowhere"))
    checkpoints.tidy()
    assert not (tmp_path / "nowhere").exists() and checkpoints.list_interrupted() == ([], [])
