"""Damaged or foreign files in the folder of the runs."""

import json
import os
import re
import resource

import pytest
import torch

from kd.config.teacher import TeacherConfig
from kd.errors import UserError
from kd.models import registry
from kd.store import checkpoints, runs
from kd.sweeps import sweep_store
from kd.tables import cells, paper
from tests.stored_run import MEASURES, OWNER, content

pytestmark = pytest.mark.usefixtures("home")


def rewrite(**changes):
    def damage(folder):
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


def replace_file(name, data):
    def damage(folder):
        (folder / name).write_bytes(data)

    return damage


def remove(name):
    return lambda folder: (folder / name).unlink()


DAMAGES = {
    "no config": remove("config.json"),
    "no measures": remove("measures.json"),
    "truncated config": replace_file("config.json", b'{"id": "2026'),
    "binary config": replace_file("config.json", b"\xff\xfe\x00"),
    "config is a list": replace_file("config.json", b"[]"),
    "config is empty": replace_file("config.json", b"{}"),
    "measures are a list": replace_file("measures.json", b"[1]"),
    "measures are an empty list": replace_file("measures.json", b"[]"),
    "measures lack a model": replace_file(
        "measures.json",
        b'{"seconds": 1, "test_images": 1, "source": "sample", '
        b'"models": {"student": {"test_accuracy": "high"}}}',
    ),
    "nested without end": replace_file("config.json", b"[" * 100_000),
    "unknown state": rewrite(state="running"),
    "another run's id": rewrite(id="20260101-120000-0123456789abcdef"),
    "unknown kind": rewrite(kind="magic"),
    "kind is a list": rewrite(kind=[]),
    "unknown setting": rewrite(config={"speed": 3}),
    "bad setting": rewrite(config={"epochs": 10**6}),
    "settings are a list": rewrite(config=[1]),
    "name is a number": rewrite(name=5),
    "name is empty": rewrite(name=""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_run_is_reported_and_others_load(save, damage):
    damaged, whole = save(), save()
    damage(damaged.folder)
    found, problems = runs.list_runs()
    assert [run.id for run in found] == [whole.id]
    (problem,) = problems
    assert damaged.id in problem and "is damaged" in problem and "\n" not in problem
    assert "Restore or delete that folder" in problem


@pytest.mark.parametrize(
    "data",
    [
        None,
        b"step,epoch\n1,2,3\n",
        b"step,epoch\n1\n",
        b"step\nmany\n",
        b"\xff\xfe",
        b"step\n" + b"9" * 200_000,
    ],
    ids=["missing", "too long a row", "too short a row", "no number", "binary", "endless"],
)
def test_damaged_metrics_are_reported_and_the_rest_loads(save, data):
    run = save()
    (run.folder / "metrics.csv").unlink()
    if data is not None:
        (run.folder / "metrics.csv").write_bytes(data)
    again = runs.load(run.id)
    with pytest.raises(UserError, match=f"The metrics of {re.escape(run.name)} are missing or damaged"):
        again.metrics()
    assert again.model("student") and again.measures == MEASURES


def test_damaged_weights_are_reported_by_name(save):
    run = save()
    (run.folder / "student.safetensors").write_bytes(b"\0" * 50)
    (run.folder / "control.safetensors").unlink()
    with pytest.raises(UserError, match="student.safetensors is damaged"):
        runs.load(run.id).model("student")
    with pytest.raises(UserError, match="control.safetensors is missing"):
        runs.load(run.id).model("control")


def test_other_files_in_the_folder_are_ignored(save, home):
    run = save()
    (home / "notes.txt").write_text("mine")
    (home / ".20260101-120000-0123456789abcdef.tmp").mkdir()
    (home / "20260101-120000-0123456789abcdef.zip").mkdir()
    found, problems = runs.list_runs()
    assert [one.id for one in found] == [run.id] and problems == []


@pytest.mark.parametrize(
    "id",
    [
        "..",
        "../outside",
        "/etc",
        "a/b",
        "",
        ".",
        "20260101-120000-0123456789abcdef/..",
        "20260101-120000-0123456789abcdef\n",
        "../20260101-120000-0123456789abcdef",
        "２0260101-120000-0123456789abcdef",
        "20260101-120000-0123456789ABCDEF",
        None,
        5,
        ["x"],
    ],
)
def test_invalid_id_touches_no_file(save, home, id, tmp_path):
    save()
    before = content(tmp_path)
    assert not runs.is_id(id)
    for command in (runs.load, lambda id: runs.delete(id, OWNER), lambda id: runs.rename(id, "x", OWNER)):
        with pytest.raises(UserError, match="That is not the id of a run"):
            command(id)
    assert content(tmp_path) == before


def test_symlink_is_not_a_run(save, home, tmp_path):
    run = save()
    outside = tmp_path / "outside"
    os.rename(run.folder, outside)
    run.folder.symlink_to(outside, target_is_directory=True)
    before = content(outside)
    for command in (runs.load, lambda id: runs.delete(id, OWNER), lambda id: runs.rename(id, "x", OWNER)):
        with pytest.raises(UserError, match="no longer there"):
            command(run.id)
    assert content(outside) == before and len(runs.list_runs()[1]) == 1


def test_weights_are_stored_exactly_for_any_memory_layout(save):
    model = registry.build("cnn-tiny", 0)  # stored in channels_last
    run = save(config=TeacherConfig(teacher="cnn-tiny"), trained={"teacher": model})
    images = torch.randn(4, 1, 28, 28)
    torch.testing.assert_close(run.model("teacher")(images), model.eval()(images))


def test_file_that_cannot_be_opened_is_not_called_damaged(save):
    """Nobody is told to restore or delete an intact file because the process may open no more files."""
    run = save()
    unfinished = runs.new_id()
    (run.folder.parent / f"{unfinished}.checkpoint").write_bytes(b"whatever it holds")
    asked = {
        "the run": lambda: runs.load(run.id),
        "its metrics": lambda: run.metrics(),
        "its weights": lambda: registry.load(run.folder / "student.safetensors", "linear"),
        "a checkpoint": lambda: checkpoints.load(unfinished),
        "a table": lambda: cells.stored(run.folder / "config.json", "make"),
        "the table of the paper": paper.load,
        "stored sweeps": sweep_store.load,
    }
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    said = {}
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        for name, ask in asked.items():
            with pytest.raises(UserError) as refusal:
                ask()
            said[name] = str(refusal.value)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    for name, sentence in said.items():
        assert "cannot be read" in sentence and "Too many open files" in sentence, name
        assert not re.search("damaged|missing|[Dd]elete|[Rr]estore", sentence), name
