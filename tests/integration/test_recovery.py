"""Fine-tuning compressed networks: zeros stay, stages are measured, and runs are stored and loaded."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.study import StudyConfig
from kd.errors import UserError
from kd.experiments import compress
from kd.experiments.compress import FineTuning
from kd.experiments.distil import Distillation
from kd.export import formats
from kd.metrics import classification
from kd.models import inference, registry
from kd.models.stored_size import stored_size
from kd.store import checkpoints, runs
from kd.teachers.cached import weights_digest
from tests.helpers import identical, same, small_teacher, weights

FAST = {"epochs": 1, "batch_size": 100}


@pytest.fixture
def distilled(home, mnist) -> runs.Run:
    """A stored run of a student and its control."""
    config = DistilConfig(student="mlp-30", **FAST)
    experiment = Distillation(config, mnist, small_teacher())
    *_, last = experiment.records()
    return runs.save(
        runs.new_id(), config, "done", [last.row()], experiment.trained, experiment.measures(last)
    )


def recovered(config: CompressConfig, mnist, stop: int | None = None) -> tuple[FineTuning, list]:
    experiment = FineTuning(config, mnist, small_teacher())
    return experiment, list(experiment.records())


def masks(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value == 0 for name, value in model.state_dict().items() if value.dim() > 1}


def test_learners_share_a_start_and_zeros_stay_zero(distilled, mnist):
    experiment, records = recovered(
        CompressConfig(network=distilled.id, neurons=20, weights=60, **FAST), mnist
    )
    assert list(experiment.trained) == ["student", "control", "alone"]
    assert not identical(
        experiment.compressed["student"], experiment.compressed["alone"]
    )  # the control of the run is another network
    for name, model in experiment.trained.items():
        begun = experiment.compressed["alone" if name == "alone" else "student"]
        assert weights(model).keys() == weights(begun).keys() and not identical(model, begun)
        for key, zero in masks(begun).items():
            assert zero.any() and not model.state_dict()[key][zero].any()
    assert not identical(experiment.trained["student"], experiment.trained["control"])
    assert set(records[-1].losses) == {"student soft", "student hard", "control hard", "alone hard"}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_zeros_stay_with_every_optimizer_and_layer(home, mnist, monkeypatch, optimizer):
    monkeypatch.setattr(
        compress,
        "source_networks",
        lambda network: compress.SourceNetworks("tiny", "cnn-tiny", registry.build("cnn-tiny", 3).eval()),
    )
    experiment, _ = recovered(
        CompressConfig(neurons=0, rank=30, weights=70, optimizer=optimizer, learning_rate=0.05, **FAST), mnist
    )
    for key, zero in masks(experiment.compressed["student"]).items():
        assert not experiment.trained["student"].state_dict()[key][zero].any()


def test_fine_tuning_without_pruning_is_reproducible(distilled, mnist):
    """A network that only lost neurons trains bitwise the same twice."""
    config = CompressConfig(network=distilled.id, neurons=50, **FAST)
    experiment, _ = recovered(config, mnist)
    again, _ = recovered(config, mnist)
    assert same(
        {name: weights(model) for name, model in experiment.trained.items()},
        {name: weights(model) for name, model in again.trained.items()},
    )
    assert [
        layer.out_features for layer in experiment.trained["student"] if isinstance(layer, nn.Linear)
    ] == [15, 10]


def test_source_network_and_teacher_stay_unchanged(distilled, mnist):
    reference = small_teacher()
    before = weights_digest(reference.model)
    experiment = FineTuning(CompressConfig(network=distilled.id, neurons=50, **FAST), mnist, reference)
    begun = weights(experiment.compressed["student"])
    list(experiment.records())
    assert weights_digest(reference.model) == before
    assert identical(experiment.compressed["student"], begun)
    assert identical(compress.source_networks(distilled.id).student, distilled.model("student"))


def test_few_labels_apply_to_all_learners(distilled, mnist):
    experiment = FineTuning(CompressConfig(network=distilled.id, labels=20, **FAST), mnist, small_teacher())
    assert int((experiment.transfer.train.labels >= 0).sum()) == 20


def test_stages_are_measured_on_the_test_set(distilled, mnist):
    config = CompressConfig(network=distilled.id, neurons=50, weights=50, int8="dynamic", **FAST)
    experiment, records = recovered(config, mnist)
    measures = experiment.measures(records[-1])
    found = {(row["who"], row["stage"]): row for row in measures["stages"]}
    assert list(found) == [
        ("student", "original"),
        ("student", "compressed"),
        ("alone", "original"),
        ("alone", "compressed"),
        ("student", "recovered"),
        ("student", "int8"),
        ("control", "recovered"),
        ("control", "int8"),
        ("alone", "recovered"),
        ("alone", "int8"),
    ]
    assert (
        found["student", "original"]["test_errors"] == distilled.measures["models"]["student"]["test_errors"]
    )
    assert found["alone", "original"]["test_errors"] == distilled.measures["models"]["control"]["test_errors"]
    for role in ("student", "control", "alone"):
        assert found[role, "recovered"]["test_errors"] == measures["models"][role]["test_errors"]
    low, high = found["student", "recovered"]["interval"]
    assert low < found["student", "recovered"]["test_accuracy"] < high
    assert found["student", "original"]["parameters"] == 23_860
    assert found["student", "compressed"]["parameters"] == 15 * 785 + 16 * 10
    assert found["student", "compressed"]["nonzero"] == 15 * 785 + 16 * 10 - round(0.5 * (15 * 784 + 150))
    assert found["student", "int8"]["file_bytes"] < 0.4 * found["student", "recovered"]["file_bytes"]
    assert [(at["batch"], at["threads"]) for at in found["student", "int8"]["latency"]] == [(1, 1), (256, 1)]
    assert found["control", "int8"]["latency"] is None


def test_compressed_run_is_stored_loaded_and_exported(distilled, mnist):
    config = CompressConfig(network=distilled.id, neurons=30, rank=20, weights=40, **FAST)
    experiment, records = recovered(config, mnist)
    measures = experiment.measures(records[-1])
    run = runs.save(runs.new_id(), config, "done", [records[-1].row()], experiment.trained, measures)
    runs_again = runs.load(run.id)
    assert runs_again.config == config and runs_again.models == ("student", "control", "alone")
    assert runs_again.architecture == "mlp-30_neurons-30_rank-20"
    model = runs_again.model("student")
    logits = inference.logits_in_chunks(model, mnist.test.inputs())
    scores = classification.scores(logits, mnist.test.labels, logits)
    assert scores["test_errors"] == measures["models"]["student"]["test_errors"]
    recorded = next(
        row for row in measures["stages"] if (row["who"], row["stage"]) == ("student", "recovered")
    )
    assert recorded["file_bytes"] == (run.folder / "student.safetensors").stat().st_size
    assert recorded["nonzero"] == stored_size(model).nonzero
    exported = formats.export(model, runs_again.architecture, "safetensors", mnist.test)
    assert exported.name == "mlp-30_neurons-30_rank-20-safetensors.zip"


def test_compressed_run_loads_without_its_source(distilled, mnist):
    config = CompressConfig(network=distilled.id, **FAST)
    experiment, records = recovered(config, mnist)
    run = runs.save(runs.new_id(), config, "done", [], experiment.trained, experiment.measures(records[-1]))
    for path in distilled.folder.iterdir():
        path.unlink()
    distilled.folder.rmdir()
    assert identical(runs.load(run.id).model("student"), experiment.trained["student"])


def test_resuming_from_a_checkpoint_gives_the_same_weights(distilled, mnist):
    config = CompressConfig(network=distilled.id, neurons=20, weights=50, epochs=2, batch_size=100)
    whole, _ = recovered(config, mnist)
    first = FineTuning(config, mnist, small_teacher())
    next(first.records())
    keeper = checkpoints.Keeper(id := runs.new_id())
    assert (
        keeper.keep(
            first,
            config,
            [
                {
                    "step": 10.0,
                    "epoch": 1.0,
                    "seconds": 1.0,
                    "images_per_second": 1000.0,
                    "whole_validation": 1.0,
                }
            ],
        )
        == ""
    )
    keeper.leave(ended=False)
    kept = checkpoints.load(id)
    assert kept.config == config and kept.kind == "compress"
    second = FineTuning(kept.config, mnist, small_teacher())
    list(second.records(state=kept.state))
    assert same(
        {name: weights(model) for name, model in whole.trained.items()},
        {name: weights(model) for name, model in second.trained.items()},
    )


def test_shipped_teacher_can_be_compressed(home, mnist):
    experiment = FineTuning(CompressConfig(network="cnn", neurons=50, **FAST), mnist, small_teacher())
    assert experiment.architecture == "cnn_neurons-50" and list(experiment.trained) == ["student", "control"]
    assert all(weight.requires_grad for weight in experiment.trained["student"].parameters())


def test_invalid_source_networks_are_refused(distilled, mnist):
    with pytest.raises(UserError, match="raise neurons, activation, rank or weights above 0"):
        FineTuning(CompressConfig(neurons=0, int8="static"), mnist, small_teacher())
    with pytest.raises(UserError, match="no network called 'nobody'"):
        compress.source_networks("nobody")
    with pytest.raises(UserError, match="no longer there"):
        compress.source_networks(runs.new_id())
    sweep = runs.save(runs.new_id(), StudyConfig(), "done", [], {}, {})
    with pytest.raises(UserError, match="Dark knowledge"):
        compress.source_networks(sweep.id)
    config = CompressConfig(network=distilled.id, **FAST)
    experiment, records = recovered(config, mnist)
    run = runs.save(runs.new_id(), config, "done", [], experiment.trained, experiment.measures(records[-1]))
    with pytest.raises(UserError, match="already compressed"):
        compress.source_networks(run.id)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("neurons", 100, "between 0 and 99"),
        ("weights", 50.5, "a whole number"),
        ("rank", -1, "between 0 and 99"),
        ("int8", "int4", "one of off, dynamic, static"),
        ("labels", 5, "at least 10"),
        ("network", "x" * 700, "the name of a shipped teacher or the id of a run"),
    ],
)
def test_bad_settings_are_refused(setting, value, message):
    with pytest.raises(UserError, match=message):
        CompressConfig(**{setting: value})


def test_config_survives_a_query_and_a_dict():
    config = CompressConfig(network="vit", neurons=0, weights=80, int8="static", temperature=2)
    assert (
        CompressConfig.from_query(config.to_query()) == config == CompressConfig.from_dict(config.to_dict())
    )


def test_speed_change_ignores_noise():
    before = {"median": 4.0, "iqr": 0.2}
    assert compress.speed_change(before, {"median": 2.0, "iqr": 0.2}) == "2 times as fast"
    assert compress.speed_change(before, {"median": 10.0, "iqr": 0.5}) == "2.5 times slower"
    assert compress.speed_change(before, {"median": 3.9, "iqr": 0.05}).endswith("measurement noise")


def test_stages_are_described_in_words():
    row = {
        "parameters": 100,
        "nonzero": 40,
        "file_bytes": 2048,
        "zipped_bytes": 1024,
        "test_accuracy": 0.5,
        "latency": None,
    }
    stages = [
        row | {"who": role, "stage": stage}
        for role, stage in (("student", "original"), ("control", "int8"), ("alone", "recovered"))
    ]
    lines = compress.text(stages).splitlines()
    assert [line[:40].strip() for line in lines[1:]] == [
        "distilled, original",
        "distilled, fine-tuned on labels, int8",
        "never distilled, fine-tuned on labels",
    ]
    assert lines[1].split()[2:] == ["100", "40", "2", "1", "50.00%"]
    assert compress.row_title(stages[0], distilled=False) == "original"
