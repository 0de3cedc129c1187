"""The heat map of a sweep: its cells, the range of its colours and the sentence next to it."""

import json

import plotly.graph_objects as go
import pytest

from kd.config.sweep import SweepConfig
from kd.figures import sweep
from kd.sweeps import sweep_store
from kd.sweeps.sweep_summary import best, by_place, place, seeds

CONFIG = SweepConfig(temperature="1,4", soft_weight="0.5,1", seeds=2)
HOW = {
    "x": "temperature",
    "y": "soft_weight",
    "fixed": {"student": "mlp-30", "labels": 0, "method": "hinton"},
    "gain": False,
}


def cell(seed, errors, temperature=None, soft_weight=0.0, **more):
    about = {
        "student": "mlp-30",
        "labels": 0,
        "soft_weight": soft_weight,
        "seed": seed,
        "control": soft_weight == 0,
        "seconds": 1.0,
    }
    about |= {"method": "hinton", "temperature": temperature} if temperature else {}
    share = 1 - errors / 10_000
    return (
        about
        | {
            "validation_accuracy": share,
            "validation_agreement": share,
            "test_errors": errors,
            "test_accuracy": share,
            "agreement": share,
        }
        | more
    )


CELLS = [cell(0, 600), cell(1, 700), cell(0, 500, 4.0, 1.0), cell(1, 640, 4.0, 1.0), cell(0, 480, 1.0, 1.0)]


def heat(measure, live=None, **how):
    figure = sweep.heat(CONFIG, by_place(CELLS), live or {}, measure=measure, **HOW | how)
    go.Figure(figure)
    return figure["data"][0]


def test_heat_map_shows_means_over_the_seeds():
    trace = heat("test_errors")
    assert (trace["x"], trace["y"]) == (["1", "4"], ["control", "0.5", "1"])
    assert trace["z"] == [[650, 650], [None, None], [480, 570]] and trace["text"][2] == ["480", "570"]
    assert trace["customdata"][2][1] == (
        "<b>T = 4, soft weight 1</b><br>570.0 ± 99.0 errors, 2 seeds"
        "<br>−80.0 ± 28.3 errors compared with the control"
    )
    # Few errors are as bright as a high accuracy.
    assert (trace["zmin"], trace["zmax"], trace["reversescale"]) == (400, 800, True)


def test_gain_compares_pairs_on_a_symmetric_colour_scale():
    trace = heat("validation_accuracy", gain=True)
    assert (
        trace["y"] == ["0.5", "1"]
        and trace["z"][1] == [pytest.approx(1.2), pytest.approx(0.8)]
        and trace["text"][1] == ["+1.20", "+0.80"]
    )
    assert trace["zmin"] == -trace["zmax"] == -1.5


def test_running_cells_are_marked_and_keep_the_colour_range():
    live = {
        place(
            {"student": "mlp-30", "labels": 0, "method": "hinton", "temperature": 1.0, "soft_weight": 0.5}
        ): {"validation_accuracy": 0.3}
    }
    before, now = heat("validation_accuracy"), heat("validation_accuracy", live)
    assert now["text"][1] == ["30.0…", ""] and (now["zmin"], now["zmax"]) == (before["zmin"], before["zmax"])


def test_best_is_chosen_on_validation_among_most_seeds():
    row = best(CELLS)
    assert (row["temperature"], row["n"]) == (4.0, 2)  # T = 1 has one seed so far
    assert sweep.verdict(row, ["temperature"]).startswith(
        "Best setting (chosen on validation): **T = 4** – validation accuracy 94.30 ± 0.99%; "
        "on the test set **570.0 ± 99.0 errors**, −80.0 ± 28.3 errors compared with its control"
    )
    assert best(CELLS[:2]) is None


def test_seeds_lists_each_seed_with_its_control():
    rows = seeds([*CELLS, cell(1, 0, 1.0, 1.0) | {"diverged": 1}], place(CELLS[4]))
    assert [
        (row["seed"], row.get("control errors"), row.get("fewer errors than control"), row.get("state"))
        for row in rows
    ] == [(0, 600, 120, None), (1, None, None, "diverged")]


def test_stored_sweeps_match_their_commands_and_summary(tmp_path, monkeypatch):
    for stored in sweep_store.load():
        assert len(stored["cells"]) == stored["config"].count
        assert stored["command"] == stored["config"].command
        for t in stored["config"].values("temperature"):
            assert f"at T = {t:g}" in stored["summary"]
    monkeypatch.setattr(sweep_store, "FOLDER", tmp_path)
    assert sweep_store.load() == []
    config = SweepConfig(temperature="8,20", soft_weight="1", seeds=2)
    cells = [
        cell(0, 90),
        cell(1, 80),
        cell(0, 100, 8.0, 1.0),
        cell(1, 110, 8.0, 1.0),
        cell(0, 104, 20.0, 1.0),
        cell(1, 120, 20.0, 1.0),
    ]
    sweep_store.path("mlp-30").write_text(
        json.dumps(
            {
                "config": config.to_dict(),
                "cells": cells,
                "command": config.command,
                "machine": "",
                "seconds": 1,
            }
        )
    )
    assert sweep_store.load()[0]["summary"] == (
        "Here, after 3 epochs with soft weight 1, the test errors are 105 ± 7 at T = 8, 112 ± 11 at T = 20; "
        "fewest at **T = 8**. From T = 8 to T = 20 they change by +7 ± 4, paired by seed."
        + sweep_store.NOTES["mlp-30"]
    )
    sweep_store.path("mlp-30").write_text("{}")
    with pytest.raises(sweep_store.UserError, match="damaged"):
        sweep_store.load()


def test_empty_cells_keep_their_place():
    figure = sweep.heat(CONFIG, {}, {}, measure="test_errors", **HOW)
    go.Figure(figure)
    layout = figure["layout"]
    assert (
        layout["xaxis"]["tickvals"] == ["1", "4"]
        and layout["yaxis"]["range"] == [-0.5, 2.5]
        and layout["annotations"][0]["text"] == "Available when a cell has ended"
    )
