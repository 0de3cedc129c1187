"""The table of compression techniques: its rows, and how it is made from the cells."""

import dataclasses
import json

import pytest

from kd.errors import UserError
from kd.models import compression
from kd.tables import cells, techniques
from tests.helpers import small_teacher


@pytest.fixture
def small(mnist, monkeypatch):
    """The table with 100 images, a small student and a small teacher."""
    few = dataclasses.replace(
        mnist,
        train=mnist.train.take(slice(0, 100)),
        validation=mnist.validation.take(slice(0, 20)),
        test=mnist.test.take(slice(0, 20)),
        source="full",
    )
    monkeypatch.setattr(techniques, "_data_and_teacher", lambda: (few, small_teacher()))
    monkeypatch.setattr(cells, "full_mnist", lambda: few)
    monkeypatch.setattr(techniques, "STUDENT", "mlp-30")
    monkeypatch.setattr(techniques, "LABELS", {"all": 0, "few": 10})
    monkeypatch.setattr(
        techniques, "BASE", techniques.BASE.replace(student="mlp-30", epochs=1, batch_size=20)
    )
    monkeypatch.setattr(
        techniques,
        "ROWS",
        {
            row: (title, config.replace(epochs=1, batch_size=20))
            for row, (title, config) in techniques.ROWS.items()
        },
    )


def test_every_technique_has_a_row():
    alone = {
        row: [name for name, percent in config.percents.items() if percent]
        for row, (_, config) in techniques.ROWS.items()
    }
    assert [[name] for name in compression.TECHNIQUES] == [alone[name] for name in compression.TECHNIQUES]
    assert {config.int8 for row, (_, config) in techniques.ROWS.items() if not alone[row]} == {
        "dynamic",
        "static",
    }
    assert len(alone["chain"]) > 1 and techniques.ROWS["chain"][1].int8 != "off"


def test_table_is_computed_from_its_cells(small):
    outcomes = [techniques.run_cell(row, seed) for row in ("base", *techniques.ROWS) for seed in (0, 1)]
    assert all(techniques.cell_path((row, 1)).exists() for row in ("base", *techniques.ROWS))
    latencies = {
        row: [{"batch": batch, "median": 1e-3 * place, "iqr": 0.0} for batch in (1, 256)]
        for place, row in enumerate(("base", *techniques.ROWS), 1)
    }
    found = json.loads(json.dumps(techniques.table(outcomes, latencies)))
    assert found["seeds"] == 2 and found["base"]["parameters"] == 23_860
    errors = [cell["models"]["student"]["test_errors"] for cell in outcomes if cell["row"] == "base"]
    assert found["base"]["student"]["mean"] == sum(errors) / 2
    rows = found["rows"]
    assert rows["neurons"]["parameters"] == 6 * 785 + 7 * 10
    assert rows["weights"]["nonzero"] == 23_860 - round(0.95 * 30 * 794)
    assert rows["int8 static"]["file_bytes"] < 0.4 * found["base"]["file_bytes"]
    assert set(rows["neurons"]["errors"]["few"]) == {
        "student compressed",
        "student recovered",
        "control recovered",
        "alone compressed",
        "alone recovered",
    }
    assert set(rows["int8 static"]["errors"]["all"]) == {"student compressed", "alone compressed"}
    chain = next(cell for cell in outcomes if cell["row"] == "chain" and cell["seed"] == 1)["stages"]["few"]
    assert (
        techniques.final(rows["chain"]["errors"]["few"], "student")
        == rows["chain"]["errors"]["few"]["student int8"]
    )
    assert {stage["stage"] for stage in chain} == {"original", "compressed", "recovered", "int8"}

    lines = techniques.lines(found)
    assert [line["technique"] for line in lines] == [
        "none",
        *(title for title, _ in techniques.ROWS.values()),
    ]
    assert lines[2]["ms at 1"] == 3.0 and lines[5]["with the teacher"] == ""
    text = techniques.text(found).splitlines()
    assert len({line.count("|") for line in text[:-2]}) == 1 and "mlp-30, 2 seeds" in text[-1]


def test_every_row_has_latencies(small):
    assert set(techniques.costs()) == {"base", *techniques.ROWS}


def test_cell_path_depends_on_the_recipe(monkeypatch):
    before = techniques.cell_path(("rank", 0))
    monkeypatch.setattr(techniques, "BASE", techniques.BASE.replace(epochs=1))
    assert techniques.cell_path(("rank", 0)) != before != techniques.cell_path(("rank", 1))


def test_missing_or_damaged_table(tmp_path, monkeypatch):
    monkeypatch.setattr(techniques, "STORED", tmp_path / "table.json")
    assert techniques.load() is None
    techniques.STORED.write_text("{")
    with pytest.raises(
        UserError, match="table.json is damaged. Restore it, or make it again with: python -m kd"
    ):
        techniques.load()
