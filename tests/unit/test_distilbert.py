"""DistilBERT's recipe: its rows, and how its table is made from the cells."""

import dataclasses

import pytest

from kd.errors import UserError
from kd.metrics import size
from kd.models import registry
from kd.objectives.feature import COSINE
from kd.tables import cells, distilbert
from kd.teachers import cached


@pytest.fixture
def small(mnist, monkeypatch):
    """The table with 40 images and an untrained teacher."""
    few = dataclasses.replace(
        mnist,
        train=mnist.train.take(slice(0, 40)),
        validation=mnist.validation.take(slice(0, 20)),
        test=mnist.test.take(slice(0, 20)),
    )
    if "glance" in {field.name for field in dataclasses.fields(few)}:
        few = dataclasses.replace(few, glance=few.validation)
    vit = cached.CachedTeacher("vit", "vit", registry.build("vit", 0))
    monkeypatch.setattr(distilbert, "_data_and_teacher", lambda: (few, vit))
    monkeypatch.setattr(
        distilbert,
        "ROWS",
        {name: config.replace(epochs=1, batch_size=20) for name, config in distilbert.ROWS.items()},
    )


def test_recipe_matches_the_paper():
    inherited, random = distilbert.ROWS["inherited"], distilbert.ROWS["random"]
    assert inherited.replace(initialization="random") == random, "they differ only in their initialization"
    assert (random.method, random.temperature) == ("cosine", 2.0)
    # Sanh et al.: 5 for soft targets, 2 for the task, 1 for the cosine.
    weights = random.soft_weight, 1 - random.soft_weight, random.feature_weight * COSINE
    assert [weight / weights[2] for weight in weights] == pytest.approx([5, 2, 1])
    assert inherited.student == distilbert.STUDENT and inherited.teacher == distilbert.TEACHER


def test_cell_has_student_and_control_and_is_stored(small):
    one, other = (distilbert.run_cell(row, 0) for row in ("inherited", "random"))
    assert set(one["models"]) == {"student", "control", "teacher"}
    assert one["models"]["student"] != other["models"]["student"]
    assert distilbert.cell_path(("inherited", 0)).exists() and one["config"]["initialization"] == "teacher"


def cell(row, seed, student, control, reference=0.99):
    shares = {"student": student, "control": control, "teacher": reference}
    return {
        "row": row,
        "seed": seed,
        "config": {"epochs": 6},
        "models": {role: {"test_accuracy": share} for role, share in shares.items()},
        "seconds": 60.0,
    }


def test_table_is_computed_from_its_cells():
    outcomes = [
        cell("inherited", 0, 0.98, 0.97),
        cell("random", 0, 0.96, 0.95),
        cell("inherited", 1, 0.99, 0.98),
        cell("random", 1, 0.97, 0.95),
    ]
    found = distilbert.table(outcomes, {"teacher": 1000.0, "student": 1800.0})
    assert found["rows"]["inherited"]["mean"] == 98.5
    assert found["rows"]["random"]["control"] == {"mean": 95.0, "sd": 0.0}
    assert (found["points_below"], found["faster"], found["seeds"], found["core_minutes"]) == (
        0.5,
        1.8,
        2,
        4.0,
    )
    assert found["retained"] == pytest.approx(98.5 / 99)
    half, whole = size.network_size("vit-half").parameters, size.network_size("vit").parameters
    assert found["fewer_parameters"] == 1 - half / whole >= 0.4
    text = distilbert.text(found)
    assert "98.50 ± 0.71%" in text and "80%" in text and "97%" in text


def test_missing_or_damaged_table(tmp_path, monkeypatch):
    monkeypatch.setattr(distilbert, "STORED", tmp_path / "table.json")
    assert distilbert.load() is None
    distilbert.STORED.write_text("{")
    with pytest.raises(UserError, match="table.json is damaged. Restore it, or make it again with: python"):
        distilbert.load()
    assert cells.stored(tmp_path / "none", "x") is None
