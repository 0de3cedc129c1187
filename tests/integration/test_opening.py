"""Cells of a sweep opened as runs: the measured networks, once per visitor, as far as they were kept."""

import dataclasses

import pytest
import torch

from kd import permissions
from kd.config.sweep import SweepConfig
from kd.errors import UserError
from kd.figures.training import accuracy, loss
from kd.metrics import classification
from kd.metrics.size import network_size
from kd.models import inference
from kd.store import quota, runs
from kd.sweeps import cluster, opening, sweep_cells, sweep_groups, sweep_weights
from kd.sweeps.sweep import Sweep
from kd.sweeps.sweep_cells import cells
from tests.helpers import identical, small_teacher

SMALL = SweepConfig(
    student="mlp-30", temperature="1,4", soft_weight="0.5,1", seeds=2, epochs=2, batch_size=100
)
ME, OTHER = "m" * 32, "o" * 32


def stored(config, mnist, due=lambda step: step % 5 == 0, until=None):
    """Return a sweep as the worker stores it, stopped after ``until`` records, and its experiment."""
    run, rows, last = Sweep(config, mnist, small_teacher()), [], None
    for last in run.records(due):
        rows.append(last.row())
        if len(rows) == until:
            break
    saved = runs.save(
        runs.new_id(),
        config,
        "stopped" if until else "done",
        rows,
        run.trained,
        run.measures(last),
        "owner",
        tensors=run.tensors,
    )
    return saved, run


@pytest.fixture
def sweep(mnist, home):
    return stored(SMALL, mnist)[0]


def errors(run, which, mnist):
    logits = inference.logits_in_chunks(run.model(which), mnist.test.inputs(), 512)
    return int((logits.argmax(1) != mnist.test.labels).sum())


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        SMALL.replace(seeds=1, student="cnn-tiny", temperature="4", soft_weight="1", epochs=1),
        SMALL.replace(seeds=1, student="mlp-64-32", method="hinton,pkt", temperature="4"),
    ],
    ids=["batched", "one by one", "both"],
)
def test_opened_networks_make_the_errors_of_their_cell(config, mnist, home):
    run, _ = stored(config, mnist)
    assert sweep_weights.held(run) == {cell.index for cell in cells(config)}
    by_cell = {found["cell"]: found for found in run.measures["cells"]}
    for cell in cells(config):
        opened = opening.open_cell(run.id, cell.index, ME)
        control = opening.control_of(config, cell)
        assert opened.config == cell.config and opened.models == ("student", "control")
        for which, its in (("student", cell), ("control", control)):
            assert (
                errors(opened, which, mnist)
                == opened.measures["models"][which]["test_errors"]
                == by_cell[its.index]["test_errors"]
            )
            assert opened.measures["models"][which]["test_accuracy"] == by_cell[its.index]["test_accuracy"]
            assert identical(opened.model(which), sweep_weights.load(run, its))
        assert identical(opened.model("student"), opened.model("control")) == cell.control


def test_opening_a_cell_again_gives_the_same_run(sweep, mnist):
    first = opening.open_cell(sweep.id, 2, ME)
    runs.rename(first.id, "mine", ME)
    assert opening.open_cell(sweep.id, 2, ME).name == "mine" and len(runs.list_runs()[0]) == 2
    theirs = opening.open_cell(sweep.id, 2, OTHER)
    assert theirs.id != first.id and (first.owner, theirs.owner) == (
        runs.owner_digest(ME),
        runs.owner_digest(OTHER),
    )
    with pytest.raises(UserError, match="belongs to somebody else"):
        runs.delete(theirs.id, ME)
    assert theirs.name == "mlp-30 T=1, weight 1, seed 0, of a sweep" and sweep.id in theirs.message
    assert "trained there with 4 others on the same batches" in theirs.message
    taught = small_teacher().logits(mnist.test)
    assert theirs.measures["models"]["teacher"] == classification.scores(taught, mnist.test.labels, taught)
    runs.delete(first.id, ME)
    assert opening.open_cell(sweep.id, 2, ME).id == first.id, "a deleted run is made again"


def test_opened_run_has_its_own_steps_and_seconds(sweep):
    # Cell 8 is the fourth of the second seed.
    rows, all_rows = opening.open_cell(sweep.id, 8, ME).metrics(), sweep.metrics()
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert [row["epoch"] for row in rows] == [0.5, 1, 1.5, 2]
    mine = [row for row in all_rows if row["group"] == 1]
    assert [row["validation student"] for row in rows] == [row["validation 3"] for row in mine]
    assert [row["validation control"] for row in rows] == [row["validation 0"] for row in mine]
    by_cell = {found["cell"]: found for found in sweep.measures["cells"]}
    assert rows[-1]["seconds"] == pytest.approx(by_cell[8]["seconds"] + by_cell[5]["seconds"])
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert len(accuracy(rows, 2)["data"][0]["x"]) == 4
    assert "no stored losses" in loss(rows, 2)["layout"]["annotations"][0]["text"]


def test_cells_trained_apart_share_the_ends_of_epochs(mnist, home):
    config = SMALL.replace(seeds=1, student="cnn-tiny", temperature="4", soft_weight="1")
    run, _ = stored(config, mnist, due=lambda step: step % 4 == 0)
    rows = opening.open_cell(run.id, 1, ME).metrics()
    assert [row["epoch"] for row in rows] == [1, 2] and all(
        {"validation student", "validation control"} <= row.keys() for row in rows
    )


def test_continued_sweep_keeps_earlier_networks(mnist, home):
    before, _ = stored(SMALL, mnist, until=6)  # in the middle of the second seed
    assert sweep_weights.held(before) == set(range(5))
    after, _ = stored(SMALL.replace(continues=before.id), mnist)
    assert sweep_weights.held(after) == set(range(10))
    assert identical(sweep_weights.load(after, cells(SMALL)[3]), sweep_weights.load(before, cells(SMALL)[3]))
    assert opening.open_cell(after.id, 3, ME).metrics()[-1]["validation student"] == pytest.approx(
        after.measures["cells"][3]["validation_accuracy"]
    )


def a_teacher():
    """Return a teacher whose logits are bitwise the same in any order of images."""
    return small_teacher("linear")


def test_checkpoint_has_the_networks_of_ended_cells(mnist):
    whole, first = (Sweep(SMALL, mnist, a_teacher()) for _ in range(2))
    list(whole.records())
    for record in first.records():
        if record.outcomes:
            break
    again = Sweep(SMALL, mnist, a_teacher())
    list(again.records(state=first.training.state()))
    assert identical(again.tensors["cells"], whole.tensors["cells"])


def test_weights_return_from_a_cluster_task(mnist):
    group, weights = sweep_cells.groups(SMALL)[1], {}
    found = sweep_groups.run_group(SMALL.to_dict(), 1, mnist, a_teacher(), weights=weights)
    whole = Sweep(SMALL, mnist, a_teacher())
    list(whole.records())
    mine = {name: value for name, value in whole.tensors["cells"].items() if int(name.partition(".")[0]) >= 5}
    assert identical(weights, mine) and len(found) == len(group.cells)
    first = cluster.ClusterTraining(SMALL, mnist, small_teacher(), [], {}, None, 0)
    first.keep(found, weights)
    state = first.state()
    again = cluster.ClusterTraining(SMALL, mnist, small_teacher(), [], {}, None, 0)
    again.restore(state)
    assert identical(again.weights, weights) and again.outcomes.keys() == {5, 6, 7, 8, 9}


def test_kept_networks_are_bounded_by_size(monkeypatch, mnist, home):
    size = network_size("mlp-30").bytes
    many = cells(SMALL)
    assert sweep_weights.kept(many) == set(range(10)) and sweep_weights.bound(many) == ""
    monkeypatch.setattr(sweep_weights, "MAX_BYTES", 9 * size)
    assert sweep_weights.kept(many) == set(range(5))
    assert "at most 1 MB: those of seed 0." in sweep_weights.bound(many)
    monkeypatch.setattr(sweep_weights, "MAX_BYTES", 4 * size)
    assert sweep_weights.kept(many) == set()
    assert sweep_weights.bound(many).endswith("which one seed alone exceeds: none are kept.")
    run, _ = stored(SMALL, mnist)
    assert not (run.folder / "cells.safetensors").exists() and sweep_weights.held(run) == set()
    with pytest.raises(UserError, match="did not keep the network of this cell. Open the cell's settings"):
        opening.open_cell(run.id, 1, ME)


def test_usual_sweeps_keep_all_networks():
    assert sweep_weights.bound(cells(SweepConfig(seeds=30))) == ""
    large = cells(SweepConfig(student="mlp-800x2", temperature="1,4,8", soft_weight="1", seeds=4))
    assert sweep_weights.kept(large) == {0, 1, 2, 3}
    assert sum(network_size("mlp-800x2").bytes for _ in sweep_weights.kept(large)) <= sweep_weights.MAX_BYTES


def test_diverged_network_is_not_kept(mnist):
    group = sweep_cells.groups(SMALL)[0]
    training = sweep_groups.start(group, mnist, small_teacher())
    training.learners[1].model[1].weight.data.fill_(torch.inf)
    assert {int(name.partition(".")[0]) for name in sweep_weights.of(group.cells, training, {0, 1, 2})} == {
        0,
        2,
    }


def test_damaged_weights_file_is_reported(sweep):
    path = sweep.folder / "cells.safetensors"
    path.write_bytes(path.read_bytes()[:-200_000])
    with pytest.raises(UserError):
        opening.open_cell(sweep.id, 9, ME)
    path.write_text("nothing")
    assert sweep_weights.held(sweep) == set() and len(runs.list_runs()[0]) == 1


def test_opening_respects_quota_and_presenter(sweep, monkeypatch):
    monkeypatch.setenv("KD_MAX_RUNS", "1")
    with pytest.raises(UserError, match="The store is full"):
        opening.open_cell(sweep.id, 1, ME)
    monkeypatch.delenv("KD_MAX_RUNS")
    monkeypatch.setenv(permissions.PASSWORD, "long enough")
    with pytest.raises(UserError, match="Only the presenter can open a sweep's cells as runs"):
        opening.open_cell(sweep.id, 1, ME)
    assert quota.usage().runs == 1


def test_only_cells_of_sweeps_can_be_opened(sweep):
    opened = opening.open_cell(sweep.id, 1, ME)
    with pytest.raises(UserError, match="is not a sweep"):
        opening.open_cell(opened.id, 1, ME)
    with pytest.raises(UserError, match="has no such cell"):
        opening.open_cell(sweep.id, 10, ME)
    with pytest.raises(UserError, match="not the id of a run"):
        opening.open_cell("../elsewhere", 1, ME)
    measures = dict(sweep.measures)
    del measures["taught"]
    with pytest.raises(UserError, match="are damaged"):
        opening._measures(dataclasses.replace(sweep, measures=measures), {"student": cells(SMALL)[1]}, [])
