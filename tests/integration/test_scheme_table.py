"""The table of schemes: its rows, and how it is made from the cells."""

import dataclasses
import math

import pytest

from kd.config.schemes import SCHEMES
from kd.tables import cells, schemes
from kd.teachers import catalogue


@pytest.fixture
def small(mnist, monkeypatch):
    """The table with 200 images."""
    few = dataclasses.replace(mnist, train=mnist.train.take(slice(0, 200)))
    monkeypatch.setattr(schemes, "_mnist", lambda: few)
    monkeypatch.setattr(schemes, "_teacher", lambda name: catalogue.load(name))
    monkeypatch.setattr(cells, "full_mnist", lambda: few)


def test_rows_cover_all_schemes_with_few_and_all_labels():
    rows = schemes.rows()
    assert {config.scheme for config in rows.values()} == set(SCHEMES)
    assert [config.generations for config in rows.values() if config.scheme == "born-again"] == [1, 2, 1, 2]
    assert {config.teacher for config in rows.values()} == {"cnn", "cnn+vit"}
    for i in range(len(schemes.SCHEMES)):
        few, every = rows[f"few-{i}"], rows[f"all-{i}"]
        assert few.labels == 100 and every.labels == 0 and few.replace(labels=0) == every


def test_control_is_the_same_in_every_scheme(small):
    found = [schemes.run_cell(1, f"few-{i}", 0)["models"] for i in range(len(schemes.SCHEMES))]
    assert len({models["control"]["test_errors"] for models in found}) == 1
    # The KL from the teacher identifies a network; with two teachers it is measured from another one.
    same_teacher = [
        models for models, changes in zip(found, schemes.SCHEMES.values()) if "teacher" not in changes
    ]
    assert len({models["control"]["kl"] for models in same_teacher}) == 1
    assert len({models["student"]["kl"] for models in same_teacher}) == len(same_teacher), (
        "each student learned something different"
    )


def test_table_has_means_and_paired_gains():
    def cell(row, seed, student, control):
        models = {"student": {"test_accuracy": student}, "control": {"test_accuracy": control}}
        return {"row": row, "seed": seed, "config": {"epochs": 3}, "models": models, "seconds": 60.0}

    names = [f"{column}-{i}" for column in schemes.COLUMNS for i in range(len(schemes.SCHEMES))]
    found = schemes.table(
        [cell(name, seed, 0.9 + 0.02 * seed, 0.7 + 0.04 * seed) for name in names for seed in (0, 1)]
    )
    few = found["schemes"]["Two students together"]["few"]
    sd = math.sqrt(2)
    assert (few["mean"], few["sd"]) == (91.0, pytest.approx(sd, abs=1e-6))
    assert few["gain"] == pytest.approx({"mean": 19.0, "sd": sd}, abs=1e-6), "20 and 18 points"
    assert found["control"]["few"] == pytest.approx({"mean": 72.0, "sd": 2 * sd}, abs=1e-6)
    assert found["seeds"] == 2 and found["core_minutes"] == len(names) * 2
    assert found["command"] == "python -m kd schemes --seeds 2 --json > kd/measured/schemes.json"
    assert "91.00 ± 1.41 (+19.00)" in schemes.text(found)


def test_stored_cells_are_not_computed_again(small, monkeypatch):
    for row in schemes.rows(1):
        schemes.run_cell(1, row, 0)
    monkeypatch.setattr(cells, "_work", None)
    result = schemes.run(1, 1)
    assert list(result["schemes"]) == list(schemes.SCHEMES) and result["epochs"] == result["seeds"] == 1


def test_stored_table_has_the_current_schemes():
    stored = schemes.load()
    assert (
        list(stored["schemes"]) == list(schemes.SCHEMES)
        and stored["seeds"] == schemes.SEEDS
        and stored["command"] == schemes.COMMAND
    )
    assert (stored["student"], stored["labels"], stored["epochs"]) == (
        schemes.STUDENT,
        schemes.FEW,
        schemes.EPOCHS,
    )
    for columns in stored["schemes"].values():
        assert all(len(column["values"]) == schemes.SEEDS for column in columns.values())
