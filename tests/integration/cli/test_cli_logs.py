"""``--tensorboard`` and ``--mlflow``: what is logged, continuing after a stop, and errors."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from kd.cli import logs
from kd.store import checkpoints, runs
from kd.training import loop
from tests.helpers import identical

LONGER = ["--student", "mlp-30", "--epochs", "4", "--batch-size", "100", "--seed", "5", "--json"]


def curves(folder):
    """Return the curves of a folder as TensorBoard reads them: tag -> [(step, value)]."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]
    }


def started(run, command, *arguments):
    """Run a command, assert that it succeeds, and return its result and what it printed to stderr."""
    code, out, err = run(command, *arguments)
    assert code == 0, err
    return json.loads(out), err


@pytest.fixture
def interrupted(run, monkeypatch):
    """Return a function that starts a run, stops it after a checkpoint of two epochs, and returns its id."""

    def start(*arguments):
        judged, real = [], loop.Training._evaluate

        def judge(*given):
            judged.append(1)
            if len(judged) > 3:
                raise KeyboardInterrupt
            return real(*given)

        monkeypatch.setattr(checkpoints.Keeper, "due", lambda self, record: record.epoch == 2)
        monkeypatch.setattr(loop.Training, "_evaluate", judge)
        id = run("distil", *LONGER, *arguments)[2].split("--resume ")[-1].strip().rstrip(".")
        monkeypatch.setattr(loop.Training, "_evaluate", real)
        return id

    return start


def test_tensorboard_shows_the_curves_of_a_run(run, tmp_path):
    plain, _ = started(run, "distil", *LONGER)
    result, _ = started(run, "distil", *LONGER, "--tensorboard", str(tmp_path))
    rows = runs.load(result["run"]).metrics()
    for name in ("student", "control"):
        found = curves(tmp_path / result["run"] / name)
        assert [value for _, value in found["accuracy/validation"]] == pytest.approx(
            [row[f"validation {name}"] for row in rows]
        )
        assert found["test/test_accuracy"][0][1] == pytest.approx(result[name]["test_accuracy"])
        assert any(tag.startswith("loss/") for tag in found) and "fidelity/agreement" in found
        assert identical(runs.load(plain["run"]).model(name), runs.load(result["run"]).model(name))


def test_resumed_run_continues_its_tensorboard_log(run, interrupted, tmp_path):
    id = interrupted("--tensorboard", str(tmp_path / "logs"))
    before = curves(tmp_path / "logs" / id / "student")["accuracy/validation"]
    assert len(before) == 3, "the third epoch was logged after the last checkpoint"
    started(run, "distil", "--resume", id, "--json", "--tensorboard", str(tmp_path / "logs"))
    after = curves(tmp_path / "logs" / id / "student")["accuracy/validation"]
    assert [path.name for path in (tmp_path / "logs").iterdir()] == [id]
    assert after[:3] == before and [step for step, _ in after] == [before[0][0] * n for n in (1, 2, 3, 4)]


def test_long_training_is_logged_within_an_epoch(run, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "EVERY", 0.0)
    arguments = ["--teacher", "mlp-30", "--epochs", "1", "--batch-size", "100", "--json"]
    result, _ = started(run, "teacher", *arguments, "--tensorboard", str(tmp_path))
    found = curves(tmp_path / result["run"] / "teacher")["accuracy/validation"]
    assert [step for step, _ in found] == list(range(1, len(found) + 1)) and len(found) > 4


def test_sweep_logs_each_cell_with_its_settings(run, tmp_path):
    arguments = ["--student", "mlp-30", "--temperature", "2,8", "--seeds", "1", "--epochs", "2", "--json"]
    result, _ = started(run, "sweep", *arguments, "--tensorboard", str(tmp_path))
    folder = tmp_path / result["run"]
    assert {path.name for path in folder.iterdir()} == {f"cell {cell['cell']}" for cell in result["cells"]}
    for cell in result["cells"]:
        found = curves(folder / f"cell {cell['cell']}")
        assert len(found["accuracy/validation"]) == 2
        assert found["test/test_accuracy"][-1][1] == pytest.approx(cell["test_accuracy"])


def test_search_logs_each_trial(run, tmp_path):
    arguments = ["--student", "mlp-30", "--methods", "hinton", "--trials", "5", "--epochs", "1", "--json"]
    result, _ = started(run, "search", *arguments, "--tensorboard", str(tmp_path / "logs"))
    (folder,) = (tmp_path / "logs").iterdir()
    names = {f"trial {trial['number'] + 1}" for trial in result["trials"]}
    assert names <= {path.name for path in folder.iterdir()}
    first = curves(folder / "trial 1")["accuracy/validation"]
    assert first[-1][1] == pytest.approx(result["trials"][0]["value"])


def test_deleted_log_folder_does_not_end_the_training(run, tmp_path, monkeypatch):
    folder, real = tmp_path / "logs", loop.Training._evaluate

    def judge(*given):
        shutil.rmtree(folder, ignore_errors=True)
        return real(*given)

    monkeypatch.setattr(loop.Training, "_evaluate", judge)
    result, err = started(run, "distil", *LONGER, "--tensorboard", str(folder))
    assert err.count("the log for TensorBoard ends here") == 1 and "Traceback" not in err
    assert len(runs.load(result["run"]).metrics()) == 4


def test_folder_that_cannot_be_written_is_refused(run, home, tmp_path):
    (tmp_path / "file").write_text("")
    code, out, err = run("distil", *LONGER, "--tensorboard", str(tmp_path / "file"))
    assert (code, out) == (2, "") and "Give another folder to --tensorboard." in err and not home.exists()


@pytest.mark.parametrize(
    "option, module", [("--tensorboard", "torch.utils.tensorboard"), ("--mlflow", "mlflow")]
)
def test_missing_package_is_named_with_its_command(run, home, tmp_path, monkeypatch, option, module):
    monkeypatch.setitem(sys.modules, module, None)
    if module.startswith("torch"):
        import torch.utils

        monkeypatch.delattr(torch.utils, "tensorboard", raising=False)
    code, out, err = run("distil", *LONGER, option, str(tmp_path))
    assert (code, out) == (2, "") and f"Install it with: pip install {option[2:]}" in err
    assert not home.exists()


def test_command_line_imports_no_logging_package():
    program = (
        "import sys, kd.cli.main; kd.cli.main.parser(); "
        "print([name for name in sys.modules if name.split('.')[0] in ('tensorboard', 'mlflow')])"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert done.stdout.strip() == "[]", done.stderr


class Client:
    """A stand-in for MLflow's client, which keeps everything in ``runs``."""

    runs: dict = {}
    fails = False

    def __init__(self, tracking_uri):
        if tracking_uri == "http://nobody":
            raise ConnectionError("connection refused\nmore")

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="1")

    def search_runs(self, experiments, text):
        return [run for run in self.runs.values() if f"'{run.tags['kd.run']}'" in text]

    def create_run(self, experiment, tags, run_name):
        id = f"id{len(self.runs)}"
        self.runs[id] = SimpleNamespace(
            info=SimpleNamespace(run_id=id),
            tags=tags,
            params={},
            points=[],
            data=SimpleNamespace(metrics={}),
            status="RUNNING",
        )
        return self.runs[id]

    def update_run(self, id, status):
        self.runs[id].status = status

    def get_metric_history(self, id, key):
        return [point for point in self.runs[id].points if point.key == key]

    def log_batch(self, id, metrics=(), params=()):
        if self.fails and metrics:
            raise ConnectionError("the server has gone")
        self.runs[id].points += metrics
        self.runs[id].data.metrics |= {point.key: point.value for point in metrics}
        self.runs[id].params |= {param.key: param.value for param in params}

    def set_terminated(self, id):
        self.runs[id].status = "FINISHED"


@pytest.fixture
def mlflow(monkeypatch):
    """Put a stand-in in place of the package MLflow, and return its client."""
    client = type("Client", (Client,), {"runs": {}})
    package, tracking, entities = (ModuleType(name) for name in ("mlflow", "tracking", "entities"))
    package.tracking, package.entities, tracking.MlflowClient = tracking, entities, client
    entities.Param = lambda key, value: SimpleNamespace(key=key, value=value)
    entities.Metric = lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value, step=step)
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    return client


def test_resumed_run_continues_its_mlflow_run(run, interrupted, mlflow):
    id = interrupted("--mlflow", "http://server")
    started(run, "distil", "--resume", id, "--json", "--mlflow", "http://server")
    (logged,) = mlflow.runs.values()
    steps = [point.step for point in logged.points if point.key == "accuracy/validation student"]
    assert len(steps) == 4 and steps == sorted(set(steps)) and logged.status == "FINISHED"
    assert logged.params["student"] == "mlp-30" and "test/test_accuracy student" in logged.data.metrics


def test_sweep_is_an_mlflow_run_for_each_cell(run, mlflow):
    arguments = ["--student", "mlp-30", "--temperature", "2,8", "--seeds", "1", "--epochs", "1", "--json"]
    result, _ = started(run, "sweep", *arguments, "--mlflow", "http://server")
    parent, *children = mlflow.runs.values()
    assert [child.data.metrics["test/test_accuracy"] for child in children] == [
        cell["test_accuracy"] for cell in result["cells"]
    ]
    assert {child.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    assert {child.params.get("temperature") for child in children} == {None, "2.0", "8.0"}


def test_training_outlives_the_mlflow_server(run, mlflow):
    mlflow.fails = True
    result, err = started(run, "distil", *LONGER, "--mlflow", "http://server")
    assert err.count("the log for MLflow ends here: the server has gone. Training continues.") == 1
    assert len(runs.load(result["run"]).metrics()) == 4


def test_mlflow_that_cannot_be_reached_is_reported(run, home, mlflow):
    code, out, err = run("distil", *LONGER, "--mlflow", "http://nobody")
    assert (code, out) == (2, "") and "MLflow cannot be used at http://nobody: connection refused" in err
    assert not home.exists()
