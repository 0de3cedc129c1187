"""The other commands: compare, teacher, compress, sweep, study and bench."""

import importlib
import json

import pytest
import torch

from kd.config.teacher import TeacherConfig
from kd.evaluation import comparison
from kd.store import checkpoints, runs
from kd.teachers import catalogue
from tests.helpers import identical

FAST = ["--student", "mlp-30", "--epochs", "1", "--batch-size", "100"]


# -- compare --------------------------------------------------------------------------------------


def test_compare_measures_runs_and_stores_the_results(run):
    id = json.loads(run("distil", *FAST, "--json")[1])["run"]
    code, out, _ = run("compare", id, "--json")
    found = json.loads(out)
    assert code == 0 and set(found) == {id} and comparison.stored(runs.load(id)) == found[id]
    code, out, err = run("compare", id)
    assert code == 0 and id in out and "faster" in out
    assert "kd: this takes about" in err and err.index("this takes about") < err.index("Timing 1 network")


def test_compare_shows_what_is_known_without_measuring(run, monkeypatch):
    id = json.loads(run("distil", *FAST, "--json")[1])["run"]
    monkeypatch.setattr(comparison, "measure", lambda *_: pytest.fail("measured"))
    code, out, _ = run("compare", id, "--known", "--json")
    assert code == 0 and json.loads(out)[id]["parameters"] == 23860
    code, out, _ = run("compare", id, "--known")
    assert code == 0 and id in out and "23,860" in out


def test_compare_refuses_a_missing_run(run):
    code, out, err = run("compare", "20260101-120000-0123456789abcdef")
    assert code == 2 and out == "" and "This run is no longer there" in err


# -- teachers ----------------------------------------------------------------------------------------

TRAIN = ["teacher", "--teacher", "cnn-tiny", "--epochs", "1", "--augmentation", "jitter", "--json"]


def test_teacher_is_stored_and_teaches_by_its_run_id(run):
    code, out, _ = run(*TRAIN)
    result = json.loads(out)
    assert code == 0 and set(result) == {"run", "seconds", "source", "teacher"}
    assert runs.load(result["run"]).config == TeacherConfig(
        teacher="cnn-tiny", epochs=1, augmentation="jitter"
    )
    code, out, _ = run("distil", *FAST, "--teacher", result["run"], "--json")
    assert code == 0 and json.loads(out)["teacher"]["test_errors"] == result["teacher"]["test_errors"]


def test_shipped_teacher_is_complete(run, tmp_path, monkeypatch, mnist):
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    code, out, _ = run(*TRAIN, "--ship", "mine")
    result = json.loads(out)
    assert code == 0 and catalogue.shipped() == ["mine"]
    assert sorted(path.name for path in tmp_path.glob("mine*")) == [
        "mine.json",
        "mine.logits.safetensors",
        "mine.safetensors",
    ]
    shipped, about = catalogue.load("mine"), catalogue.describe("mine")
    assert identical(shipped.model, runs.load(result["run"]).model("teacher"))
    assert about["weights_sha256"] == shipped.digest and about["architecture"] == "cnn-tiny"
    assert [row["epoch"] for row in about["curve"]] == [1.0] and about["curve"][0]["loss teacher hard"] > 0, (
        "the learning curve is stored too"
    )
    assert (about["train_images"], about["validation_images"], about["test_images"]) == (1000, 200, 200)
    assert about["test_errors"] == result["teacher"]["test_errors"]
    assert TeacherConfig.from_dict(about["config"]) == TeacherConfig(
        teacher="cnn-tiny", epochs=1, augmentation="jitter"
    )
    shipped.model.register_forward_hook(lambda *_: pytest.fail("the shipped logits have gaps"))
    assert torch.isfinite(shipped.logits(mnist.train)).all()


def test_curve_is_added_to_a_shipped_teacher_without_new_weights(run, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    run(*TRAIN, "--ship", "mine")
    before, weights = catalogue.describe("mine"), (tmp_path / "mine.safetensors").read_bytes()
    about = before | {"curve": []}
    (tmp_path / "mine.json").write_text(json.dumps(about))
    code, out, _ = run(*TRAIN, "--curve", "mine")
    told = catalogue.describe("mine")
    assert code == 0 and (tmp_path / "mine.safetensors").read_bytes() == weights
    assert (
        told["curve"] == before["curve"]
        and told["curve_weights_sha256"] == catalogue.load(json.loads(out)["run"]).digest
    )
    assert told["curve_validation_errors"] == before["validation_errors"]
    assert {key: value for key, value in told.items() if not key.startswith("curve")} == {
        key: value for key, value in before.items() if key != "curve"
    }
    code, _, err = run(*TRAIN, "--seed", "3", "--curve", "mine")
    assert code == 2 and "different settings" in err and catalogue.describe("mine") == told


def test_teacher_of_the_sample_is_not_shipped(run, quick, mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    quick._mnist = mnist
    code, _, err = run(*TRAIN, "--ship", "mine")
    assert code == 2 and "Only a teacher trained on all of MNIST can be shipped; set KD_DATA_DIR" in err
    assert not list(tmp_path.glob("mine*"))


def test_compress_stores_a_smaller_network_and_its_stages(run, mnist):
    _, out, _ = run("distil", *FAST, "--json")
    student = json.loads(out.splitlines()[-1])["run"]
    code, out, _ = run(
        "compress", "--network", student, "--neurons", "50", "--epochs", "1", "--batch-size", "100", "--json"
    )
    result = json.loads(out.splitlines()[-1])
    assert code == 0 and set(result) == {
        "run",
        "seconds",
        "source",
        "student",
        "control",
        "alone",
        "teacher",
        "stages",
    }
    stored = runs.load(result["run"])
    assert stored.architecture == "mlp-30_neurons-50" and stored.config.network == student
    recovered = next(
        row for row in result["stages"] if (row["who"], row["stage"]) == ("student", "recovered")
    )
    assert (
        recovered["parameters"] == 15 * 785 + 16 * 10
        and recovered["test_errors"] == result["student"]["test_errors"]
    )
    code, out, _ = run(
        "compress", "--network", student, "--weights", "50", "--epochs", "1", "--batch-size", "100"
    )
    assert code == 0 and "never distilled, fine-tuned on labels" in out


def test_compress_refuses_bad_input_in_a_sentence(run):
    assert run("compress", "--neurons", "0")[::2] == (
        2,
        "kd: Nothing is removed, so there is nothing to fine-tune: "
        "raise neurons, activation, rank or weights above 0.\n",
    )
    code, _, told = run("compress", "--network", "nobody")
    assert code == 2 and "no network called 'nobody'" in told


SWEEP = [
    "sweep",
    "--student",
    "mlp-30",
    "--temperature",
    "1,4",
    "--soft-weight",
    "0.5,1",
    "--seeds",
    "2",
    "--epochs",
    "1",
    "--batch-size",
    "100",
]


def test_sweep_prints_cells_and_means_and_stores_the_run(run):
    code, out, _ = run(*SWEEP, "--json")
    result = json.loads(out.splitlines()[-1])
    assert code == 0 and len(result["cells"]) == 2 * (1 + 4) and result["machine"]
    assert [(row.get("temperature"), row["soft_weight"], row["n"]) for row in result["means"]] == [
        (None, 0, 2),
        (1, 0.5, 2),
        (1, 1, 2),
        (4, 0.5, 2),
        (4, 1, 2),
    ]
    stored = runs.load(result["run"])
    assert stored.measures["cells"] == result["cells"] and stored.config.command == result["command"]
    assert result["command"] == "python -m kd " + " ".join(SWEEP) + " --json"
    code, out, _ = run(*SWEEP)
    assert code == 0 and [line.split()[2] for line in out.splitlines()[2:]] == ["control"] + ["hinton"] * 4


@pytest.mark.parametrize(
    "wrong, told",
    [
        (
            ["--seeds", "100", "--temperature", ",".join(map(str, range(1, 21)))],
            "kd: This sweep has 6,100 cells, controls included; the maximum is 2,000.",
        ),
        (["--temperature", "0.5,1"], "kd: Temperature must be between 1 and 20, not 0.5."),
        (["--soft-weight", ""], "kd: Soft weights must have at least one value, such as 0.5."),
        (["--student", "resnet"], "kd: There is no architecture called 'resnet'"),
    ],
)
def test_sweep_that_cannot_be_trained_is_refused(run, home, wrong, told):
    code, out, err = run("sweep", *wrong)
    assert (code, out) == (2, "") and err.startswith(told) and not home.exists()


def test_interrupted_sweep_resumes_from_its_checkpoint(run, monkeypatch):
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    real = checkpoints.Keeper.keep

    def interrupted(self, *arguments):
        assert not real(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.Keeper, "keep", interrupted)
        code, _, err = run(*SWEEP, "--json")
    assert code == 130 and "50% of the sweep are kept: python -m kd sweep --resume" in err
    id = err.split("--resume ")[-1].strip().rstrip(".")
    code, out, _ = run("sweep", "--resume", id, "--json")
    assert code == 0 and len(json.loads(out)["cells"]) == 10


def test_study_is_a_command_and_its_older_runs_still_load(run, home):
    assert run("study", "--study", "colours")[2] == "kd: Study must be one of labels, noise, not 'colours'.\n"
    folder = home / "20260131-120000-0123456789abcdef"
    folder.mkdir(parents=True)
    about = {
        "id": folder.name,
        "kind": "sweep",
        "name": "labels sweep",
        "owner": None,
        "created": "2026-01-31T12:00:00+00:00",
        "state": "done",
    }
    config = {"study": "labels", "student": "mlp-128", "teacher": "cnn", "temperature": 4.0, "seeds": 5}
    (folder / "config.json").write_text(json.dumps(about | {"config": config}))
    (folder / "measures.json").write_text("{}")
    assert runs.load(folder.name).config.study == "labels"


def test_bench_without_the_repository_says_where_to_run_it(run, monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name="benchmarks")

    monkeypatch.setattr(importlib, "import_module", missing)
    code, out, err = run("bench", "--rounds", "1")
    assert (code, out) == (2, "") and err.startswith("kd: The benchmarks are not installed with kd.")
