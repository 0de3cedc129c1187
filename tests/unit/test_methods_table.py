"""The table of methods: its rows, and how it is made from the cells."""

import dataclasses

import pytest

from kd.cli import main as command_line
from kd.experiments.distil import Distillation
from kd.objectives import METHODS
from kd.tables import cells, methods
from kd.teachers import catalogue


@pytest.fixture
def small(mnist, monkeypatch):
    """The table with 200 images and an MLP."""
    few = dataclasses.replace(mnist, train=mnist.train.take(slice(0, 200)))
    monkeypatch.setattr(methods, "_data_and_teacher", lambda: (few, catalogue.load("cnn")))
    monkeypatch.setattr(cells, "full_mnist", lambda: few)
    monkeypatch.setattr(methods, "STUDENT", "mlp-30")
    monkeypatch.setattr(methods, "METHODS", {name: METHODS[name] for name in ("hinton", "pkt")})


def test_rows_cover_all_methods():
    rows = methods.rows()
    assert {config.method for config in rows.values()} == set(METHODS)
    for name, method in METHODS.items():
        few, every = rows[f"{name}-100"], rows[f"{name}-all"]
        assert few.labels == 100 and every.labels == 0 and few.replace(labels=0) == every
        assert (f"{name}-alone-100" in rows) == bool(method.feature_view)
    assert rows["pkt-alone-100"].soft_weight == 0


def test_methods_share_one_control(small, monkeypatch, one_thread):
    monkeypatch.setattr(methods, "STUDENT", "cnn-tiny")
    one, other = (methods.run_cell(1, row, 0) for row in ("hinton-100", "pkt-alone-100"))
    assert set(one["models"]) == {"student", "control", "teacher"}
    assert set(other["models"]) == {"student", "teacher"}
    whole = Distillation(methods.rows(1)["pkt-alone-100"], *methods._data_and_teacher())
    list(whole.records())
    assert whole.measures(None)["models"]["student"] == other["models"]["student"]
    assert whole.measures(None)["models"]["control"] == one["models"]["control"]
    assert methods.cell_path(1, "hinton-100", 0).exists()
    assert not methods.cell_path(2, "hinton-100", 0).exists()


def test_stored_cells_are_not_computed_again(small, monkeypatch):
    for row in methods.rows(1):
        methods.run_cell(1, row, 0)
    monkeypatch.setattr(cells, "_work", None)
    shares = []
    result = methods.run(1, 1, shares.append)
    assert set(result["methods"]) == {"hinton", "pkt"} and result["epochs"] == result["seeds"] == 1
    assert methods.text(result).count("\n") == 4


def cell(row, seed, student, control):
    def model(share):
        return {"test_accuracy": share, "agreement": share - 0.01}

    models = {"student": model(student), "control": model(control), "teacher": model(0.99)}
    return {"row": row, "seed": seed, "config": {"epochs": 5}, "models": models, "seconds": 90.0}


def test_table_has_means_and_paired_gains(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", {"hinton": METHODS["hinton"], "pkt": METHODS["pkt"]})
    students = {
        "hinton-100": (0.9, 0.94),
        "hinton-all": (0.98, 0.98),
        "pkt-100": (0.92, 0.92),
        "pkt-all": (0.98, 0.97),
        "pkt-alone-100": (0.8, 0.9),
    }
    controls = {"100": (0.7, 0.8), "all": (0.97, 0.98)}
    result = methods.table(
        [
            cell(row, seed, student[seed], controls[row.split("-")[-1]][seed])
            for row, student in students.items()
            for seed in (0, 1)
        ]
    )
    few = result["methods"]["hinton"]["few"]
    assert few["mean"] == 92.0 and few["sd"] == pytest.approx(2.83, abs=0.005)
    assert few["values"] == pytest.approx([90, 94])
    assert few["gain"] == {"mean": 17.0, "sd": pytest.approx(4.24, abs=0.005)}
    assert few["agreement"]["mean"] == 91.0
    assert result["control"]["few"]["mean"] == 75.0 and result["control"]["all"]["mean"] == 97.5
    assert set(result["methods"]["hinton"]) == {"few", "all"}
    assert result["methods"]["pkt"]["alone"]["gain"]["mean"] == 10.0
    assert (result["seeds"], result["core_minutes"], result["teacher"]) == (2, 15.0, 99.0)
    assert "92.00 ± 2.83 (+17.00)" in methods.text(result)


def test_methods_command_explains_errors(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KD_DATA_DIR", str(tmp_path))
    assert command_line.main(["methods"]) == 2
    assert "needs all of MNIST. Set KD_DATA_DIR" in capsys.readouterr().err
    assert command_line.main(["methods", "--seeds", "0"]) == 2
    assert "--seeds must be between 1 and 100." in capsys.readouterr().err
