"""Sweeps: their cells, batched training, resuming, and the summary over the seeds."""

import json
import math

import pytest
import torch

from kd.config.sweep import SweepConfig
from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.jobs.manager import JobManager
from kd.models import inference
from kd.store import runs
from kd.sweeps import sweep, sweep_cells, sweep_groups, sweep_time
from kd.sweeps.sweep import Sweep, SweepTraining
from kd.sweeps.sweep_cells import cells, groups
from kd.sweeps.sweep_groups import LogitsTeacher
from kd.sweeps.sweep_summary import means
from kd.teachers import catalogue
from kd.training.loop import Training
from tests.helpers import Given, small_teacher, wait_until

SMALL = SweepConfig(
    student="mlp-30", temperature="1,4", soft_weight="0.5,1", seeds=2, epochs=2, batch_size=100
)


# -- cells ---------------------------------------------------------------------------------


def test_cells_are_all_combinations_with_their_controls():
    found = cells(
        SweepConfig(
            student="mlp-30,linear", temperature="4,2", soft_weight="0,0.9", labels="0,100", seeds=2, seed=5
        )
    )
    assert len(found) == 2 * 2 * 2 * (1 + 2) and [cell.index for cell in found] == list(range(24))
    assert [cell.config.seed for cell in found] == [5] * 12 + [6] * 12
    first = [
        (cell.config.student, cell.config.labels, cell.config.temperature, cell.config.soft_weight)
        for cell in found
        if not cell.control
    ][:4]
    assert first == [
        ("mlp-30", 0, 2.0, 0.9),
        ("mlp-30", 0, 4.0, 0.9),
        ("mlp-30", 100, 2.0, 0.9),
        ("mlp-30", 100, 4.0, 0.9),
    ]
    # A soft weight of 0 is the control, which has no temperature.
    assert [cell.config.soft_weight for cell in found if cell.control] == [0.0] * 8
    assert found[0].settings == {
        "student": "mlp-30",
        "labels": 0,
        "soft_weight": 0.0,
        "seed": 5,
        "control": True,
    }


def test_methods_vary_only_the_axes_that_they_read():
    config = SweepConfig(method="hinton,mse,label-smoothing", temperature="1,4", soft_weight="0.5,1", seeds=1)
    found = [cell.settings for cell in cells(config) if not cell.control]
    assert [(its["method"], its.get("temperature"), its.get("soft_weight")) for its in found] == [
        ("hinton", 1, 0.5),
        ("hinton", 1, 1),
        ("hinton", 4, 0.5),
        ("hinton", 4, 1),
        ("mse", None, 0.5),
        ("mse", None, 1),
        ("label-smoothing", None, None),
    ]
    assert config.count == len(found) + 1


def test_only_batchable_cells_share_a_group(monkeypatch):
    config = SweepConfig(
        student="mlp-30,cnn-tiny", method="hinton,fitnets", temperature="1,4", soft_weight="0.5", seeds=1
    )
    sizes = [len(group.cells) for group in groups(config)]
    # The control and two of hinton; fitnets uses hidden layers, and cnn-tiny is not an MLP.
    assert sizes == [3, 1, 1, 1, 1, 1, 1, 1]
    assert sorted(cell.index for group in groups(config) for cell in group.cells) == list(range(config.count))
    groups.cache_clear()
    monkeypatch.setattr(sweep_cells, "GROUP_WEIGHTS", 2.5 * 23_860)  # of two mlp-30
    assert [
        len(group.cells) for group in groups(SweepConfig(temperature="1,2,3,4", soft_weight="1", seeds=2))
    ] == [2, 2, 1, 2, 2, 1]


@pytest.mark.parametrize(
    "axes, message",
    [
        ({"temperature": "1,40"}, "Temperature must be between 1 and 20, not 40."),
        ({"temperature": " , "}, "Temperatures must have at least one value, such as 1."),
        ({"temperature": "1;4"}, "Temperature must be a number, not '1;4'."),
        ({"student": "mlp-30,resnet"}, "There is no"),
        ({"method": "hinton,magic"}, "There is no method called 'magic'; the methods are hinton"),
        ({"student": "mlp-30", "method": "attention"}, "compares feature maps"),
        ({"labels": "5"}, "Labels must be at least 10, one per digit, or 0 for all."),
        ({"seeds": 0}, "Seeds must be between 1 and 100, not 0."),
        (
            {"temperature": ",".join(map(str, range(1, 21))), "soft_weight": "0.5,1", "seeds": 49},
            "This sweep has 2,009 cells, controls included; the maximum is 2,000.",
        ),
        ({"soft_weight": ",".join(["0.5"] * 51)}, "Soft weights can have at most 50 values, not 51."),
    ],
)
def test_bad_axis_is_refused(axes, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        SweepConfig(**axes)


def test_axes_have_one_canonical_form():
    config = SweepConfig(temperature="20, 1,4.0,1", soft_weight=" .5,1")
    assert (config.temperature, config.soft_weight, config.values("temperature")) == (
        "1,4,20",
        "0.5,1",
        [1, 4, 20],
    )
    assert (
        SweepConfig.from_query(config.to_query())
        == SweepConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        == config
    )


# -- batched training ---------------------------------------------------------------------------


def trained(group, mnist, teacher):
    training = sweep_groups.start(group, mnist, teacher)
    list(training.records())
    return training


@pytest.mark.parametrize(
    "config",
    [
        SMALL.replace(seeds=1),
        SMALL.replace(seeds=1, student="mlp-64-32", labels="100"),
        SMALL.replace(seeds=1, student="linear", optimizer="sgd"),
        SMALL.replace(seeds=1, method="hinton,dkd,label-smoothing", temperature="4"),
    ],
    ids=["one hidden layer", "two, few labels", "none", "other methods"],
)
def test_batched_cells_match_cells_trained_alone(config, mnist):
    teacher, (group,) = small_teacher(), groups(config)
    together = trained(group, mnist, teacher)
    for cell, learner in zip(group.cells, together.learners):
        alone = Distillation(cell.config, mnist, teacher)  # as `kd distil` trains it
        list(alone.records())
        theirs = alone.trained["control" if cell.control else "student"]
        for ours, weight in zip(learner.model.parameters(), theirs.parameters()):
            torch.testing.assert_close(ours, weight, rtol=2e-3, atol=2e-4)
    different = [learner.model.state_dict()["1.weight"] for learner in together.learners]
    # The tolerance is small enough to distinguish cells.
    assert not torch.allclose(different[0], different[1], rtol=2e-3, atol=2e-4)


def test_unbatchable_network_matches_a_distillation(mnist):
    config = SMALL.replace(seeds=1, student="cnn-tiny", temperature="4", soft_weight="1", epochs=1)
    teacher = small_teacher()
    run = Distillation(cells(config)[1].config, mnist, teacher)
    list(run.records())
    found = [sweep_groups.run_group(config.to_dict(), i, mnist, teacher)[0] for i in range(2)]
    assert [outcome["cell"] for outcome in found] == [0, 1]
    predictions = inference.logits_in_chunks(run.trained["student"], mnist.test.inputs(), 512).argmax(1)
    assert found[1]["test_errors"] == int((predictions != mnist.test.labels).sum())


def test_diverged_cell_does_not_affect_the_others(mnist):
    group, teacher = groups(SMALL.replace(seeds=1))[0], small_teacher()
    whole = sweep_groups.outcomes(group, trained(group, mnist, teacher), mnist, teacher)
    training = sweep_groups.start(group, mnist, teacher)
    training.learners[1].model[1].weight.data.fill_(math.inf)
    list(training.records())
    spoiled = sweep_groups.outcomes(group, training, mnist, teacher)
    assert set(spoiled[1]) == {"cell", "seconds", "diverged"}
    assert [outcome["test_errors"] for outcome in (spoiled[0], spoiled[2])] == [
        outcome["test_errors"] for outcome in (whole[0], whole[2])
    ]
    rows = means([cell.settings | outcome for cell, outcome in zip(group.cells, spoiled)])
    assert [(row["n"], row["diverged"]) for row in rows][:3] == [(1, 0), (0, 1), (1, 0)]


def test_group_trains_from_plain_data(mnist):
    teacher = small_teacher()
    tables = {name: torch.zeros(count, 10) for name, count in (("train", 60_000), ("test", 10_000))}
    for digits in (mnist.train, mnist.validation, mnist.test):
        tables[digits.file][digits.ids] = teacher.logits(digits)
    config, records = json.loads(json.dumps(SMALL.to_dict())), []
    found = sweep_groups.run_group(config, 1, mnist, LogitsTeacher(tables), records.append)
    whole = SweepTraining(SMALL, mnist, teacher)
    list(whole.records())
    without = [{key: value for key, value in outcome.items() if key != "seconds"} for outcome in found]
    assert without == [
        {key: value for key, value in whole.outcomes[i].items() if key != "seconds"} for i in range(5, 10)
    ]
    assert json.loads(json.dumps(found)) == found and len(records) == 2


# -- as a run -------------------------------------------------------------------------------------


def errors(outcomes):
    return {i: outcome["test_errors"] for i, outcome in sorted(outcomes.items())}


def test_sweep_reports_its_progress_and_outcomes(mnist):
    run = Sweep(SMALL, mnist, small_teacher())
    rows = [record.row() for record in run.records(lambda step: step % 5 == 0)]
    assert rows[-1]["step"] == run.training.steps == 10 * 20 and rows[-1]["epoch"] == 1
    assert [row["step"] for row in rows] == sorted(row["step"] for row in rows)
    ended = [row for row in rows if "test_errors 0" in row]
    assert [row["group"] for row in ended] == [0, 1] and ended[1]["cell 4"] == 9
    assert {"validation 4", "validation agreement 0"} <= rows[0].keys() and len(rows) == 2 * 4
    measures = run.measures(None)
    assert sweep.read(SMALL, rows) == (measures["cells"], {})
    ended, live = sweep.read(SMALL, rows[:6])
    assert (
        [cell["cell"] for cell in ended] == list(range(5))
        and list(live) == list(range(5, 10))
        and live[9]["validation_accuracy"] == rows[5]["validation 4"]
    )
    assert [cell["cell"] for cell in measures["cells"]] == list(range(10)) and json.dumps(measures)


@pytest.mark.parametrize("stop", [5, 20, 25])
def test_resumed_sweep_gives_the_same_outcomes(mnist, stop):
    teacher = small_teacher()
    whole = Sweep(SMALL, mnist, teacher)
    list(whole.records())
    first = Sweep(SMALL, mnist, teacher)
    for record in first.records(lambda step: step % 5 == 0):
        if record.step >= 5 * stop:
            break
    again = Sweep(SMALL, mnist, teacher)
    began = []
    for record in again.records(state=first.training.state()):
        began.append(record.group)
    assert errors(again.training.outcomes) == errors(whole.training.outcomes)
    assert stop == 5 or 0 not in began  # an ended group is not repeated
    assert again.training.step == again.training.steps


def test_worker_continues_a_stopped_sweep(mnist, home, monkeypatch):
    monkeypatch.setattr(catalogue, "load", lambda name, device="cpu": small_teacher())
    manager = JobManager(Given(mnist), tick=0.0)
    try:
        id = manager.start(SMALL, "t" * 32)
        wait_until(lambda: any("test_errors 0" in row for row in manager.snapshot(id).rows))
        manager.stop(id, "t" * 32)
        wait_until(lambda: not manager.snapshot(id).active)
        kept = runs.load(id).measures["cells"]
        next_id = manager.start(SMALL.replace(continues=id), "t" * 32)
        wait_until(lambda: not manager.snapshot(next_id).active)
        assert manager.snapshot(next_id).state == "done", manager.snapshot(next_id).message
        other = manager.start(SMALL.replace(continues=id, epochs=1), "t" * 32)
        wait_until(lambda: not manager.snapshot(other).active)
        assert "has other settings than this sweep" in manager.snapshot(other).message
    finally:
        manager.close()
    run = runs.load(next_id)
    assert run.kind == "sweep" and run.models == () and len(run.measures["cells"]) == 10
    assert run.measures["cells"][: len(kept)] == kept
    assert sweep.read(run.config, run.metrics())[0] == run.measures["cells"]  # earlier cells included


# -- summary -----------------------------------------------------------------------------------------


def test_means_are_over_seeds_and_gain_over_pairs():
    def cell(seed, errors, control=False):
        about = (
            {"student": "mlp-30", "labels": 0, "soft_weight": 0.0}
            if control
            else {
                "student": "mlp-30",
                "labels": 0,
                "method": "hinton",
                "temperature": 4.0,
                "soft_weight": 1.0,
            }
        )
        return about | {
            "seed": seed,
            "control": control,
            "test_errors": errors,
            "validation_accuracy": 0.9,
            "validation_agreement": 0.9,
            "test_accuracy": 0.9,
            "agreement": 0.9,
        }

    control, student = means([cell(0, 10, True), cell(0, 7), cell(1, 20, True), cell(1, 15), cell(2, 40)])
    assert control["test_errors"] == {"mean": 15, "sd": pytest.approx(50**0.5)} and control["n"] == 2
    # The control of the third seed has not ended, so it has no pair yet.
    assert student["n"] == 3 and student["test_errors"]["mean"] == pytest.approx(62 / 3)
    assert student["test_errors"]["gain"] == {"mean": -4, "sd": pytest.approx(2**0.5)}
    assert means([cell(0, 7)])[0]["test_errors"] == {"mean": 7, "sd": None}


def test_learner_settings_take_precedence(mnist):
    config = cells(SMALL)[1].config
    runs_ = []
    for own in (None, {"temperature": 9.0, "soft_weight": 1.0}):
        run = Distillation(config, mnist, small_teacher())
        (student, _), teacher = run.stages[0]({})
        student.settings = own
        training = Training([student], run.transfer, run.plan, run.settings if own is None else {}, teacher)
        list(training.records())
        runs_.append(student.model.state_dict()["1.weight"])
    assert not torch.equal(*runs_)


def test_time_is_measured_once_per_kind_of_group(mnist, monkeypatch):
    measured = []
    monkeypatch.setattr(sweep_time, "_measured", {})
    monkeypatch.setattr(sweep_time, "_step", lambda group, *rest: measured.append(len(group.cells)) or 0.01)
    config = SMALL.replace(student="mlp-30,linear")
    assert not sweep_time.known(config)
    # Two epochs of 10 steps in 4 groups; evaluating 200 images three times and the test set once takes
    # as long as 4 steps of 0.01 s.
    assert sweep_time.seconds(config, mnist, None) == pytest.approx(4 * (20 + 4) * 0.01)
    assert measured == [5, 5] and sweep_time.known(config.replace(seeds=9))
    assert sweep_time.seconds(config, mnist, None) and len(measured) == 2


def test_short_training_measures_a_step(mnist):
    step = sweep_time._step(groups(SMALL.replace(seeds=1))[0], mnist, small_teacher())
    assert 0 < step < 10
