"""Commands for stored runs: runs, show, report and delete; how a run is found; and files that are written."""

import io
import json
import re
import shutil
import sys

import pytest

from kd.cli import files
from kd.config.distil import DistilConfig
from kd.config.sweep import SweepConfig
from kd.models import registry
from kd.reports import report
from kd.store import checkpoints, runs
from tests.helpers import MEASURES
from tests.stored_run import CONFIG, ROWS, content

NOBODY = "20260101-120000-0123456789abcdef"


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Return a folder with one stored run, whose networks are untrained."""
    folder = tmp_path_factory.mktemp("library")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KD_HOME", str(folder))
        networks = {"student": registry.build("mlp-30", 1), "control": registry.build("mlp-30", 2)}
        runs.save(runs.new_id(), CONFIG, "done", ROWS, networks, MEASURES, name="first")
    return folder


@pytest.fixture
def stored(library, home):
    """Return a copy of the stored run in an empty home."""
    shutil.copytree(library, home)
    return runs.list_runs()[0][0]


@pytest.fixture
def answered(monkeypatch):
    """Return a function that answers the next question on the console."""

    class Console(io.StringIO):
        def isatty(self):
            return True

    return lambda text: monkeypatch.setattr(sys, "stdin", Console(text))


def again(name, **values):
    """Store another run, without networks."""
    return runs.save(
        runs.new_id(), values.pop("config", SweepConfig()), "done", [], {}, MEASURES, name=name, **values
    )


# -- finding a run ---------------------------------------------------------------------------------


def test_run_is_found_by_id_name_and_beginning_of_its_id(run, stored):
    again("second")
    for text in (stored.id, "first", stored.id[:-3]):
        code, out, err = run("show", text, "--json")
        assert (code, json.loads(out)["id"], err) == (0, stored.id, "")


def test_ambiguous_run_is_refused_with_candidates(run, stored):
    other = again("second")
    code, out, err = run("show", stored.id[:2])
    assert (code, out) == (2, "") and err == (
        "kd: 2 runs have the name, or an id that begins with, '20': "
        f"{other.id} (second), {stored.id} (first). Give enough of an id to tell them apart.\n"
    )
    third = again("first")
    code, _, err = run("show", "first")
    assert code == 2 and f"{third.id} (first), {stored.id} (first)" in err and other.id not in err


def test_many_candidates_are_cut_short(run, home):
    for number in range(7):
        again(f"run {number}")
    err = run("show", "2")[2]
    assert "7 runs have" in err and "(run 6), " in err and "(run 2) and 2 more." in err and "run 1" not in err


def test_unknown_run_is_refused_with_the_newest(run, stored):
    code, out, err = run("show", "nobody")
    assert (code, out) == (2, "") and err == (
        f"kd: No run has the name 'nobody', or an id that begins like this. There is {stored.id} (first).\n"
    )
    assert "This run is no longer there" in run("show", NOBODY)[2]


def test_no_run_at_all_is_told(run, home):
    assert run("show", "nobody")[::2] == (2, f"kd: No run is stored in {home}.\n")
    assert run("runs") == (0, "", f"kd: no run is stored in {home}\n")


@pytest.mark.parametrize("command", ["show", "report", "delete", "compare"])
def test_empty_name_is_refused(run, stored, command):
    code, out, err = run(command, "")
    assert (code, out) == (2, "") and ("it is empty" in err)


def test_interrupted_run_says_how_to_resume_it(run, home, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    real = checkpoints.Keeper.keep

    def interrupted(self, *arguments):
        assert not real(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Keeper, "keep", interrupted)
        run("distil", "--student", "mlp-30", "--epochs", "2", "--batch-size", "100")
    kept = checkpoints.list_interrupted()[0][0]
    told = f"kd: {kept.id} was interrupted and is not finished; resume it with python -m kd distil --resume"
    for text in (kept.id, kept.id[:8]):
        assert run("show", text)[2] == f"{told} {kept.id}.\n"
    listed = json.loads(run("runs", "--json")[1])
    assert listed["runs"] == [] and [row["id"] for row in listed["interrupted"]] == [kept.id]
    assert kept.id in run("runs")[1]


# -- runs and show ---------------------------------------------------------------------------------


def test_runs_lists_the_newest_first_and_names_damaged_ones(run, stored):
    other, broken = again("second"), again("third")
    (broken.folder / "config.json").write_text("{")
    code, out, err = run("runs", "--json")
    found = json.loads(out)
    assert code == 0 and [row["id"] for row in found["runs"]] == [other.id, stored.id]
    assert found["interrupted"] == [] and len(found["problems"]) == 1
    assert found["runs"][1]["networks"] == ["student", "control"] and found["runs"][0]["networks"] == []
    assert found["runs"][1]["models"]["student"] == {
        "test_accuracy": 0.9,
        "test_errors": 20,
        "agreement": 0.9,
    }
    assert f"The run {broken.id} is damaged" in err
    lines = run("runs")[1].splitlines()
    assert lines[1].startswith(other.id) and lines[2].startswith(stored.id) and len(lines) == 3
    assert lines[2].split()[1:3] == ["distil", "done"] and lines[2].endswith(
        "90.00%   90.00%   90.00%  first"
    )


def test_show_tells_settings_and_results_but_no_owner(run, stored):
    code, out, _ = run("show", "first")
    assert code == 0 and f"id                    {stored.id}\n" in out
    assert "temperature           7.0\n" in out and "student           90.00%      20" in out
    owned = again("owned", owner="d" * 64)
    found = json.loads(run("show", owned.id, "--json")[1])
    assert "d" * 64 not in json.dumps(found)
    found = json.loads(run("show", stored.id, "--json")[1])
    assert DistilConfig.from_dict(found["settings"]) == CONFIG and found["measures"] == MEASURES


def test_show_of_a_run_that_measured_nothing_tells_its_settings(run, home):
    id = runs.save(runs.new_id(), CONFIG, "interrupted", ROWS, {}, {}, message="The disk was full.").id
    code, out, _ = run("show", id)
    assert code == 0 and "message               The disk was full." in out and "accuracy" not in out


# -- report ----------------------------------------------------------------------------------------


def plain(page):
    """Return a page without the random ids of its charts."""
    return re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "", page)


def test_report_is_the_page_of_the_app(run, stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("report", "first", "--json")
    file = tmp_path / f"{stored.id}-report.html"
    assert code == 0 and plain(file.read_text()) == plain(report.page(stored))
    assert json.loads(out) == {"run": stored.id, "file": file.name, "bytes": file.stat().st_size}
    code, out, _ = run("report", "first", "-o", "mine.html")
    assert code == 0 and out.startswith("mine.html: ") and (tmp_path / "mine.html").exists()


def test_report_of_a_sweep_is_refused(run, stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again("a sweep")
    code, out, err = run("report", "a sweep")
    assert (code, out) == (2, "") and "a sweep has no report" in err and not list(tmp_path.glob("*.html"))


# -- files that are written ------------------------------------------------------------------------


def test_file_is_replaced_only_by_force(run, stored, tmp_path):
    file = tmp_path / "page.html"
    file.write_text("mine")
    code, out, err = run("report", "first", "-o", str(file))
    assert (code, out) == (2, "") and err == (
        f"kd: {file} exists; choose another name with -o, or replace it with --force.\n"
    )
    assert file.read_text() == "mine"
    assert run("report", "first", "-o", str(file), "--force")[0] == 0 and "first" in file.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["page.html"]


@pytest.mark.parametrize(
    "name, told",
    [
        ("nowhere/page.html", "There is no folder"),
        ("file/page.html", "file/page.html cannot be written (Not a directory)"),
        ("folder", "is not an ordinary file"),
        ("x" * 300, "cannot be written (File name too long)"),
        ("", "it is empty"),
    ],
)
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_unwritable_file_is_refused_before_any_work(run, stored, tmp_path, monkeypatch, name, told, force):
    monkeypatch.setattr(report, "page", lambda *_: pytest.fail("the work was begun"))
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    before = content(tmp_path)
    code, out, err = run("report", "first", "-o", name and str(tmp_path / name), *force)
    assert (code, out) == (2, "") and told in err and content(tmp_path) == before


def test_device_is_never_replaced(run, stored):
    assert "/dev/null is not an ordinary file" in run("report", "first", "-o", "/dev/null", "--force")[2]


@pytest.mark.parametrize("force", [False, True])
def test_written_file_is_whole_or_absent(tmp_path, monkeypatch, force):
    class Unfinished(io.FileIO):
        def write(self, content):
            super().write(content[:2])
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "open", Unfinished, raising=False)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "page.html", b"content", force)
    assert list(tmp_path.iterdir()) == []


# -- delete ----------------------------------------------------------------------------------------


def test_delete_removes_a_run_that_is_confirmed(run, stored, answered):
    answered("y\n")
    code, out, err = run("delete", "first")
    assert (code, out) == (
        0,
        "first was deleted.\n",
    ) and f"Delete first ({stored.id}) and its weights?" in err
    assert not stored.folder.exists() and runs.list_runs() == ([], [])


@pytest.mark.parametrize("answer", ["n\n", "\n", "", "perhaps\n"])
def test_delete_keeps_a_run_without_a_yes(run, stored, answered, answer):
    answered(answer)
    code, out, err = run("delete", "first", "--json")
    assert (code, out) == (1, "") and err.endswith("kd: nothing was deleted\n") and stored.folder.exists()


def test_delete_without_a_console_needs_yes(run, stored, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, out, err = run("delete", "first")
    assert (code, out) == (2, "") and "add --yes" in err and stored.folder.exists()
    code, out, _ = run("delete", "first", "--yes", "--json")
    assert code == 0 and json.loads(out) == {"deleted": stored.id, "name": "first"}
    assert not stored.folder.exists()


def test_delete_warns_of_pinned_runs_and_those_of_visitors(run, home, answered):
    answered("no\n")
    owned = again("theirs", owner=runs.owner_digest("a visitor"))
    runs.pin(owned.id, True, "a visitor")
    assert "It is pinned. A visitor of the app made it. [y/N]" in run("delete", "theirs")[2]


def test_delete_never_removes_the_recorded_run(run, home):
    recorded = runs.recorded()
    code, _, err = run("delete", recorded.id, "--yes")
    assert code == 2 and "ships with the program" in err and recorded.folder.is_dir()
