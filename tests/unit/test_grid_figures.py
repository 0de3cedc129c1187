"""The heat map: what stands in its cells, their colours' range, and the words beside it."""

import json

import plotly.graph_objects as go
import pytest

from kd.config.grid import GridConfig
from kd.figures import grid
from kd.sweeps import grid_store
from kd.sweeps.grid_summary import best, by_place, place, seeds

CONFIG = GridConfig(temperature="1,4", soft_weight="0.5,1", seeds=2)
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


def heat(measure, live={}, **how):
    figure = grid.heat(CONFIG, by_place(CELLS), live, measure=measure, **HOW | how)
    go.Figure(figure)
    return figure["data"][0]


def test_each_cell_is_the_mean_over_its_seeds_and_the_controls_row_is_the_same_at_all_temperatures():
    trace = heat("test_errors")
    assert (trace["x"], trace["y"]) == (["1", "4"], ["control", "0.5", "1"])
    assert trace["z"] == [[650, 650], [None, None], [480, 570]] and trace["text"][2] == ["480", "570"]
    assert (
        trace["customdata"][2][1]
        == "<b>T = 4, soft weight 1</b><br>570.0 ± 99.0 errors, 2 seeds<br>−80.0 ± 28.3 errors against the control"
    )
    assert (trace["zmin"], trace["zmax"], trace["reversescale"]) == (
        400,
        800,
        True,
    )  # few errors are as bright as many right


def test_against_the_control_pairs_are_compared_and_zero_is_the_middle():
    trace = heat("validation_accuracy", gain=True)
    assert (
        trace["y"] == ["0.5", "1"]
        and trace["z"][1] == [pytest.approx(1.2), pytest.approx(0.8)]
        and trace["text"][1] == ["+1.20", "+0.80"]
    )
    assert trace["zmin"] == -trace["zmax"] == -1.5


def test_what_is_under_way_is_shown_as_such_and_does_not_move_the_colours():
    live = {
        place(
            {"student": "mlp-30", "labels": 0, "method": "hinton", "temperature": 1.0, "soft_weight": 0.5}
        ): {"validation_accuracy": 0.3}
    }
    before, now = heat("validation_accuracy"), heat("validation_accuracy", live)
    assert now["text"][1] == ["30.0…", ""] and (now["zmin"], now["zmax"]) == (before["zmin"], before["zmax"])


def test_the_best_is_chosen_on_the_validation_images_among_those_with_most_seeds():
    found = best(CELLS)
    assert (found["temperature"], found["n"]) == (4.0, 2)  # T = 1 has one seed yet
    said = grid.verdict(found, ["temperature"])
    assert said.startswith(
        "Best on the validation images, where it may be chosen: **T = 4**, 94.30 ± 0.99% right there; on the test set **570.0 ± 99.0 errors**, −80.0 ± 28.3 errors"
    )
    assert best(CELLS[:2]) is None


def test_a_cell_is_told_seed_by_seed_beside_its_control():
    rows = seeds([*CELLS, cell(1, 0, 1.0, 1.0) | {"diverged": 1}], place(CELLS[4]))
    assert [
        (row["seed"], row.get("control's errors"), row.get("fewer than the control"), row.get("state"))
        for row in rows
    ] == [(0, 600, 120, None), (1, None, None, "out of bounds")]


def test_the_stored_grids_are_what_their_commands_gave_and_are_told_as_they_are(tmp_path, monkeypatch):
    found = grid_store.load()
    for stored in found:
        assert (
            len(stored["cells"]) == stored["config"].count and stored["command"] == stored["config"].command
        )
        for t in stored["config"].values("temperature"):
            assert f"at T = {t:g}" in stored["said"]
    monkeypatch.setattr(grid_store, "FOLDER", tmp_path)
    assert grid_store.load() == []
    config = GridConfig(temperature="8,20", soft_weight="1", seeds=2)
    cells = [
        cell(0, 90),
        cell(1, 80),
        cell(0, 100, 8.0, 1.0),
        cell(1, 110, 8.0, 1.0),
        cell(0, 104, 20.0, 1.0),
        cell(1, 120, 20.0, 1.0),
    ]
    grid_store.path("mlp-30").write_text(
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
    assert grid_store.load()[0]["said"] == (
        "Here, after 3 epochs, with soft weight 1, test errors are 105 ± 7 at T = 8, 112 ± 11 at T = 20; fewest at **T = 8**. "
        "From T = 8 to 20 they change by +7 ± 4 in pairs of the same seed." + grid_store.NOTES["mlp-30"]
    )
    grid_store.path("mlp-30").write_text("{}")
    with pytest.raises(grid_store.UserError, match="damaged"):
        grid_store.load()


def test_what_nothing_is_known_of_has_its_place_all_the_same():
    figure = grid.heat(CONFIG, {}, {}, measure="test_errors", **HOW)
    go.Figure(figure)
    layout = figure["layout"]
    assert (
        layout["xaxis"]["tickvals"] == ["1", "4"]
        and layout["yaxis"]["range"] == [-0.5, 2.5]
        and layout["annotations"][0]["text"] == "Known when a cell has ended"
    )
