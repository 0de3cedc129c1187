"""The paper's table: cells are computed once and stored, and the table is made from them."""

import dataclasses
import json
import math

import pytest
import torch

from kd.cli import main as command_line
from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.data import sources
from kd.tables import cells, paper


@pytest.fixture
def small(mnist, monkeypatch):
    """The table with 1,000 images and small networks."""
    monkeypatch.setattr(sources, "load_full", lambda folder: mnist)
    student = DistilConfig(student="mlp-30", temperature=20, soft_weight=1, epochs=2)
    rows = {
        "cnn": TeacherConfig(teacher="cnn", augmentation="none", epochs=1),
        "soft": student,
        "jittered": student.replace(augmentation="jitter"),
        "no-3": student.replace(omitted="3"),
    }
    monkeypatch.setattr(paper, "ROWS", rows)
    return mnist


def test_everything_has_all_60000_training_images(full_mnist):
    train = paper.everything(full_mnist).train
    assert sorted(train.ids.tolist()) == list(range(60_000)) and train.file == "train"


def test_cell_has_student_and_control_and_is_stored(small):
    paper.run_cell("cnn", 0)
    cell = paper.run_cell("soft", 0)
    assert json.loads(paper.cell_path("soft", 0).read_text()) == cell
    assert cell["config"]["seed"] == 0 and 0 <= cell["models"]["student"]["errors"] <= 200
    test = cell["mcnemar"]
    assert (
        cell["models"]["student"]["errors"] - cell["models"]["control"]["errors"]
        == test["student_only"] - test["control_only"]
    )


def test_frequency_offset_uses_no_labels(small, monkeypatch):
    """Wrong labels in validation and test change the counts, not the offset."""
    paper.run_cell("cnn", 0)
    one = paper.run_cell("no-3", 0)["models"]["student"]
    judged = dataclasses.replace(small.test, labels=(small.test.labels + 1) % 10)
    monkeypatch.setattr(sources, "load_full", lambda folder: dataclasses.replace(small, test=judged))
    other = paper.run_cell("no-3", 0)["models"]["student"]
    assert one["by_frequency"]["offsets"] == other["by_frequency"]["offsets"]
    assert one["by_frequency"]["offsets"][3] > 0
    assert one["errors"] != other["errors"]
    assert one["by_test_labels"]["errors"] <= one["errors"]


def test_resumed_cell_gives_the_same_result(small, monkeypatch):
    paper.run_cell("cnn", 0)
    whole = paper.run_cell("jittered", 0)
    monkeypatch.setattr(cells, "KEEP", -1.0)

    class Stopped(Exception):
        pass

    def stop(share):
        if share == 1.0:
            raise Stopped

    with pytest.raises(Stopped):
        paper.run_cell("jittered", 0, stop)
    shares = []
    again = paper.run_cell("jittered", 0, shares.append)
    assert shares == [1.0], "only the second epoch was left"
    assert again["models"] == whole["models"]


def test_cell_path_depends_on_all_its_recipes(small, monkeypatch):
    before = paper.cell_path("soft", 0), paper.cell_path("cnn", 0)
    monkeypatch.setitem(paper.ROWS, "cnn", paper.ROWS["cnn"].replace(epochs=3))
    assert paper.cell_path("soft", 0) != before[0] and paper.cell_path("cnn", 0) != before[1], (
        "a student depends on its teacher"
    )


def test_mcnemar_is_a_binomial_test_of_discordant_images():
    student = torch.tensor([True] * 2 + [False] * 8 + [True] * 5)
    control = torch.tensor([False] * 2 + [True] * 8 + [True] * 5)
    by_hand = 2 * sum(math.comb(10, k) for k in range(3)) / 2**10
    assert paper.mcnemar(student, control) == {
        "student_only": 2,
        "control_only": 8,
        "p": pytest.approx(by_hand),
    }
    assert paper.mcnemar(control, control)["p"] == 1.0


def cell(seed, student, control):
    models = {"student": {"errors": student}, "control": {"errors": control}}
    return {
        "row": "soft",
        "seed": seed,
        "config": {},
        "models": models,
        "seconds": 60,
        "mcnemar": {"p": 0.01},
    }


def test_table_has_mean_sd_and_difference():
    result = paper.table([cell(0, 70, 140), cell(1, 80, 146), cell(2, 75, 160)])
    control, student = result["lines"]
    assert (student["mean"], student["sd"], student["values"]) == (75, 5, [70, 80, 75])
    assert control["mean"] == student["control"]["mean"] == pytest.approx(446 / 3, abs=1e-6)
    assert student["difference"]["mean"] == pytest.approx(-221 / 3, abs=1e-6)
    assert student["difference"]["sd"] == pytest.approx(10.02, abs=0.01)
    assert result["core_minutes"] == {"teachers": 0, "students": 3}
    assert "75.0 ± 5.0" in paper.text(result)


def test_adding_seeds_equals_training_all_at_once():
    one, two, three = cell(0, 70, 140), cell(1, 80, 146), cell(2, 75, 160)
    before = json.loads(json.dumps(paper.table([one, two])))
    assert paper.table([three], before) == paper.table([one, two, three])


def test_only_missing_seeds_of_current_recipes_are_trained(small, monkeypatch):
    monkeypatch.setattr(paper, "ROWS", {"soft": paper.ROWS["soft"]})
    asked = []

    def compute(cost, *rest):
        asked.append([seed for _, seed in cost])
        return [
            cell(seed, 70 + seed, 140 + 2 * seed) | {"config": paper.ROWS["soft"].to_dict()}
            for _, seed in cost
        ]

    monkeypatch.setattr(cells, "compute", compute)
    before = json.loads(json.dumps(paper.run(1)))
    assert paper.run(3, before=before) == paper.run(3)
    assert paper.run(1, before=before)["lines"] == before["lines"]
    before["recipes"]["soft"]["epochs"] = 99
    assert paper.run(2, before=before) == paper.run(2)
    assert asked == [[0], [1, 2], [0, 1, 2], [], [0, 1], [0, 1]]


def test_stored_table_can_be_extended():
    stored = paper.load()
    assert paper.still_made(stored)
    again = paper.table([], stored)
    assert {**again, "machine": ""} == {**stored, "machine": ""}
    assert list(paper.curve(stored)) == [1, 2, 3, 4, 8, 20]


def test_every_line_reads_a_trained_row():
    assert {line.row for line in paper.LINES} == set(paper.ROWS)


def test_paper_command_without_mnist_explains_what_to_do(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KD_DATA_DIR", str(tmp_path))
    assert command_line.main(["paper"]) == 2
    assert "needs all of MNIST. Set KD_DATA_DIR" in capsys.readouterr().err


def test_stored_cells_are_not_computed_again(small, monkeypatch):
    for row in paper.ROWS:
        paper.run_cell(row, 0)
    monkeypatch.setattr(paper, "run_cell", None)
    monkeypatch.setattr(cells, "_work", None)
    shares = []
    result = paper.run(1, shares.append)
    assert [line["what"] for line in result["lines"]] == [
        line.what for line in paper.LINES if line.row in paper.ROWS
    ]
