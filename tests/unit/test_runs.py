"""Stored runs: atomic saving, owners and names."""

import errno
import json
import math
import shutil
from pathlib import Path

import pytest
from safetensors import SafetensorError

from kd.config import kinds
from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.errors import UserError
from kd.reports import settings_file
from kd.store import runs
from tests.helpers import identical
from tests.stored_run import CONFIG, MEASURES, OTHER, OWNER, ROWS, STORED, content

pytestmark = pytest.mark.usefixtures("home")


# -- saving and loading ---------------------------------------------------------------------


def test_run_loads_as_it_was_stored(save, trained):
    run = runs.load(save().id)
    assert (run.kind, run.state, run.config, run.measures) == ("distil", "done", CONFIG, MEASURES)
    assert run.metrics() == ROWS, "metrics must load exactly, without unmeasured columns"
    assert run.models == ("student", "control") and run.architecture == "mlp-30"
    for which, model in trained.items():
        assert identical(run.model(which), model) and not run.model(which).training
    assert run.owner == runs.owner_digest(OWNER)


def test_folder_holds_the_documented_files(save, home):
    run = save()
    assert set(content(home)) == {f"{run.id}/{name}" for name in STORED}


def test_teacher_run_holds_its_teacher(save, trained):
    config = TeacherConfig(teacher="mlp-30")
    run = runs.load(save(config=config, trained={"teacher": trained["student"]}).id)
    assert (run.kind, run.config, run.models, run.architecture) == ("teacher", config, ("teacher",), "mlp-30")
    assert identical(run.model("teacher"), trained["student"])


def test_interrupted_run_may_lack_measures_and_rows(save):
    run = runs.load(save(state="interrupted", measures={}, records=[]).id)
    assert (run.state, run.measures, run.metrics()) == ("interrupted", {}, [])


def test_ids_are_random_and_recognized():
    ids = {runs.new_id() for _ in range(100)}
    assert len({id[-16:] for id in ids}) == 100 and all(map(runs.is_id, ids))


def test_runs_are_listed_newest_first(save, monkeypatch):
    ids = [f"2026010{day}-120000-{'0' * 16}" for day in (2, 3, 1)]
    for id in ids:
        monkeypatch.setattr(runs, "new_id", lambda id=id: id)
        save()
    found, problems = runs.list_runs()
    assert [run.id for run in found] == sorted(ids, reverse=True) and problems == []


def test_missing_home_holds_no_runs():
    assert runs.list_runs() == ([], [])


def test_owner_token_is_not_stored(save, home):
    save()
    assert not any(OWNER.encode() in data for data in content(home).values())
    assert runs.owner_digest("") is None and runs.owner_digest(None) is None


# -- atomic saving ---------------------------------------------------------------------------


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def refuse_file(name):
    """Return a patch that fills the disk after the first bytes of the file ``name``."""

    def arrange(monkeypatch):
        def guarded(real):
            def write(*args, **kwargs):
                path = next(arg for arg in args if isinstance(arg, Path))
                if path.name != name:
                    return real(*args, **kwargs)
                path.write_bytes(b"half")
                if real is save_file:
                    raise SafetensorError(
                        "Error while serializing: I/O error: No space left on device (os error 28)"
                    )
                full_disk()

            return write

        save_file = runs.save_file
        monkeypatch.setattr(runs, "_write_json", guarded(runs._write_json))
        monkeypatch.setattr(runs, "save_file", guarded(save_file))
        monkeypatch.setattr(runs, "open", guarded(open), raising=False)

    return arrange


def refuse_folder(monkeypatch):
    monkeypatch.setattr(Path, "mkdir", full_disk)


def refuse_name(monkeypatch):
    monkeypatch.setattr(runs.os, "rename", full_disk)


@pytest.mark.parametrize(
    "arrange", [refuse_folder, *map(refuse_file, STORED), refuse_name], ids=["folder", *STORED, "name"]
)
def test_full_disk_leaves_no_partial_run(save, home, arrange):
    save()
    before = content(home)
    with pytest.MonkeyPatch.context() as monkeypatch:
        arrange(monkeypatch)
        with pytest.raises(
            UserError, match=f"^The run was not saved because the disk is full: free some space in {home} and"
        ):
            save()
    assert content(home) == before and len(list(home.iterdir())) == 1
    save()
    assert len(runs.list_runs()[0]) == 2


def test_unwritable_folder_is_named(save, home):
    home.touch()
    with pytest.raises(
        UserError, match=f"because {home} cannot be written to: change its permissions, or set KD_HOME"
    ):
        save()
    assert home.read_bytes() == b""


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_interrupted_save_leaves_no_partial_run(save, home, monkeypatch, error):
    def end(*_):
        raise error

    monkeypatch.setattr(runs, "save_file", end)
    with pytest.raises(error):
        save()
    assert list(home.iterdir()) == []


def test_nan_measure_is_not_stored(save, home):
    with pytest.raises(ValueError):
        save(measures={"kl": math.nan})
    assert list(home.iterdir()) == []


# -- owners ----------------------------------------------------------------------------------


def test_owner_may_rename_and_delete(save, home):
    run = save()
    runs.rename(run.id, "my best", OWNER)
    assert runs.load(run.id).name == "my best"
    assert runs.load(run.id).config == CONFIG and runs.load(run.id).metrics() == ROWS
    runs.delete(run.id, OWNER)
    assert list(home.iterdir()) == []
    with pytest.raises(UserError, match="no longer there"):
        runs.load(run.id)


@pytest.mark.parametrize("token", [OTHER, "", None, runs.owner_digest(OWNER)])
def test_others_may_not_rename_or_delete(save, home, token):
    run = save()
    before = content(home)
    for command in (lambda: runs.rename(run.id, "mine now", token), lambda: runs.delete(run.id, token)):
        with pytest.raises(UserError, match="belongs to somebody else; only they can rename or delete it"):
            command()
    assert content(home) == before


@pytest.mark.parametrize("token", [OWNER, "", None])
def test_command_line_run_is_managed_in_its_folder(save, home, token):
    run = save(owner=None)
    before = content(home)
    for command in (lambda: runs.rename(run.id, "mine now", token), lambda: runs.delete(run.id, token)):
        with pytest.raises(
            UserError, match=f"was started from the command line; manage it in its folder, {run.folder}"
        ):
            command()
    assert content(home) == before


@pytest.mark.parametrize("call", ["write_text", "os.replace"])
def test_full_disk_keeps_the_old_name(save, home, monkeypatch, call):
    run = save()
    before = content(home)
    monkeypatch.setattr(runs.os if "." in call else Path, call.split(".")[-1], full_disk)
    with pytest.raises(UserError, match="was not renamed because the disk is full: .* try again"):
        runs.rename(run.id, "other", OWNER)
    assert content(home) == before


def test_failed_delete_keeps_the_run(save, home, monkeypatch):
    run = save()
    before = content(home)
    monkeypatch.setattr(runs.os, "rename", full_disk)
    with pytest.raises(UserError, match="could not be deleted: No space left on device"):
        runs.delete(run.id, OWNER)
    assert content(home) == before


# -- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("  two \t words\n", "two words"),
        ("one\r\nline\x00\x1b[31m", "one line[31m"),
        ("right\u202eleft\u200bnone", "rightleftnone"),
        ("zwölf 数字 ×5", "zwölf 数字 ×5"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),  # plain text, escaped where it is shown
        ("../../etc/passwd", "../../etc/passwd"),  # a name is never used as a path
        ("x" * 60, "x" * 60),
    ],
)
def test_name_is_one_clean_line(save, home, name, cleaned):
    run = save()
    runs.rename(run.id, name, OWNER)
    assert runs.load(run.id).name == cleaned == runs.clean_name(cleaned)
    assert [path.name for path in home.iterdir()] == [run.id]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "needs a name"),
        (" \n\x00\u200b", "needs a name"),
        ("x" * 61, "at most 60 characters; this one has 61"),
    ],
)
def test_empty_or_long_name_is_refused(save, name, message):
    run = save()
    with pytest.raises(UserError, match=message):
        runs.rename(run.id, name, OWNER)
    assert runs.load(run.id).name == run.name


def test_default_names_are_valid():
    longest = DistilConfig(student="mlp-2048-2048-2048", temperature=19.123456789, epochs=200)
    for config in (CONFIG, longest, TeacherConfig(teacher="mlp-2048-2048-2048", epochs=200)):
        assert runs.clean_name(name := kinds.of(config).default_name(config)) == name


def test_settings_given_away_do_not_hold_the_owners_digest(home, save):
    run = save()
    given = json.loads(settings_file.content(run))
    assert runs.owner_digest(OWNER) not in str(given) and given["owner"] is None
    folder = home / runs.new_id()
    shutil.copytree(run.folder, folder)
    (folder / "config.json").write_text(json.dumps(given | {"id": folder.name}))
    assert runs.load(folder.name).config == run.config, "it still is a run's settings"


@pytest.mark.parametrize(
    "state, steps, brief", [("stopped", 7, True), ("stopped", 8, False), ("done", 7, False)]
)
def test_run_stopped_in_its_first_epoch_is_brief(home, save, state, steps, brief):
    measures = MEASURES | {"steps": steps, "train_images": 8 * CONFIG.batch_size}
    assert save(state=state, measures=measures).brief is brief
    assert not save(state=state).brief, "runs of earlier versions do not say"
