"""DistilBERT's recipe: what is trained, and how its table is made of the cells."""

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
    """The table's machinery on 40 images, with a teacher that knows nothing."""
    few = dataclasses.replace(
        mnist,
        train=mnist.train.take(slice(0, 40)),
        validation=mnist.validation.take(slice(0, 20)),
        test=mnist.test.take(slice(0, 20)),
    )
    few = (
        dataclasses.replace(few, glance=few.validation)
        if "glance" in {field.name for field in dataclasses.fields(few)}
        else few
    )
    vit = cached.CachedTeacher("vit", "vit", registry.build("vit", 0))
    monkeypatch.setattr(distilbert, "_given", lambda: (few, vit))
    monkeypatch.setattr(
        distilbert,
        "ROWS",
        {name: config.replace(epochs=1, batch_size=20) for name, config in distilbert.ROWS.items()},
    )


def test_the_recipe_is_the_papers():
    inherited, random = distilbert.ROWS["inherited"], distilbert.ROWS["random"]
    assert inherited.replace(initialization="random") == random, "they differ in how they begin alone"
    assert (random.method, random.temperature) == ("cosine", 2.0)
    # Sanh et al.: 5 for soft targets, 2 for the task, 1 for the cosine.
    weights = random.soft_weight, 1 - random.soft_weight, random.feature_weight * COSINE
    assert [weight / weights[2] for weight in weights] == pytest.approx([5, 2, 1])
    assert (
        distilbert.ROWS["inherited"].student == distilbert.STUDENT
        and distilbert.ROWS["inherited"].teacher == distilbert.TEACHER
    )


def test_a_cell_tells_student_and_control_and_is_kept(small):
    one, other = (distilbert.run_cell(row, 0) for row in ("inherited", "random"))
    assert (
        set(one["models"]) == {"student", "control", "teacher"}
        and one["models"]["student"] != other["models"]["student"]
    )
    assert distilbert.cell_path(("inherited", 0)).exists() and one["config"]["initialization"] == "teacher"


def cell(row, seed, student, control, reference=0.99):
    shares = {"student": student, "control": control, "teacher": reference}
    return {
        "row": row,
        "seed": seed,
        "config": {"epochs": 6},
        "models": {who: {"test_accuracy": share} for who, share in shares.items()},
        "seconds": 60.0,
    }


def test_the_table_is_computed_from_the_cells():
    outcomes = [
        cell("inherited", 0, 0.98, 0.97),
        cell("random", 0, 0.96, 0.95),
        cell("inherited", 1, 0.99, 0.98),
        cell("random", 1, 0.97, 0.95),
    ]
    found = distilbert.table(outcomes, {"teacher": 1000.0, "student": 1800.0})
    assert found["rows"]["inherited"]["mean"] == 98.5 and found["rows"]["random"]["control"] == {
        "mean": 95.0,
        "sd": 0.0,
    }
    assert (found["points_below"], found["faster"], found["seeds"], found["core_minutes"]) == (
        0.5,
        1.8,
        2,
        4.0,
    )
    assert found["retained"] == pytest.approx(98.5 / 99)
    assert (
        found["fewer_parameters"]
        == 1 - size.network_size("vit-half").parameters / size.network_size("vit").parameters
        >= 0.4
    )
    told = distilbert.text(found)
    assert "98.50 ± 0.71%" in told and "80%" in told and "97%" in told


def test_a_table_that_is_not_there_or_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr(distilbert, "STORED", tmp_path / "table.json")
    assert distilbert.load() is None
    distilbert.STORED.write_text("{")
    with pytest.raises(
        UserError, match="is damaged; restore table.json, or make it by: python -m kd distilbert"
    ):
        distilbert.load()
    assert cells.stored(tmp_path / "none", "x") is None
