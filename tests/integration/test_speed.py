"""Latency: how it is measured, and that faster forms of a network give the same outputs."""

import itertools

import torch
from torch import nn

from kd.metrics import latency
from kd.models import registry
from kd.teachers.catalogue import load


def test_latency_uses_whole_batches_and_keeps_the_model():
    model, batches = registry.build("linear", 0).eval(), []
    model.register_forward_hook(
        lambda _, inputs, output: batches.append((len(inputs[0]), torch.is_inference_mode_enabled()))
    )
    found = latency.measure_latency(model, batch=3, seconds=0.01)
    assert set(batches) == {(3, True)} and len(batches) >= 9 + found.rounds
    assert found.median > 0 and found.iqr >= 0 and found.rounds == 25


def test_rounds_alternate_between_the_models():
    turns = []
    latency.alternating(
        {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, threads=1, rounds=4, seconds=0.0
    )
    in_turn = "".join(name for name, _ in itertools.groupby(turns))  # each turn calls the model several times
    assert in_turn.endswith("abababab")


def test_number_of_threads_is_set_and_restored():
    before, seen = torch.get_num_threads(), set()
    latency.alternating({"a": lambda: seen.add(torch.get_num_threads())}, threads=1, rounds=1, seconds=0.0)
    assert seen == {1} and torch.get_num_threads() == before


def test_folding_gives_the_same_outputs_with_fewer_layers(sample):
    model = load("cnn").model
    inputs = sample.test.inputs()[:200]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    quick = latency.folded(model)
    kinds = [type(layer) for layer in quick]
    assert nn.BatchNorm2d not in kinds and nn.Dropout not in kinds and kinds.count(nn.Conv2d) == 5
    with torch.inference_mode():
        assert torch.allclose(quick(inputs), model(inputs), atol=1e-4)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_every_form_of_a_network_gives_the_same_outputs(sample):
    inputs = sample.test.inputs()[:20]
    for name in registry.ARCHITECTURES:
        model = registry.build(name, 0).eval()
        with torch.inference_mode():
            expected = model(inputs)
            for form, (quick, layout) in latency.forms(model).items():
                assert torch.allclose(quick(inputs.contiguous(memory_format=layout)), expected, atol=1e-4), (
                    name,
                    form,
                )
    assert len(latency.forms(registry.build("cnn", 0).eval())) == 4 and list(
        latency.forms(registry.build("mlp-30", 0))
    ) == ["as it is"]


def test_comparison_has_all_batch_sizes_and_thread_counts():
    networks = {"student": registry.build("mlp-30", 0), "teacher": registry.build("cnn-tiny", 0)}
    found = latency.compare(networks, batches=(1, 4), threads=(1, 2), rounds=2, seconds=0.0)
    for rows in found.values():
        assert [(row["batch"], row["threads"]) for row in rows] == [(1, 1), (1, 2), (4, 1), (4, 2)]
        assert all(
            row["median"] > 0 and row["images_per_second"] == row["batch"] / row["median"] for row in rows
        )
    assert {row["form"] for row in found["student"]} == {"as it is"}
    assert all("channels" in row["form"] for row in found["teacher"])
    assert {row["runtime"] for rows in found.values() for row in rows} == {"PyTorch"}


def test_exported_network_is_timed_in_the_same_rounds():
    seen = []

    def make(threads):
        return lambda pixels: seen.append((threads, pixels.shape, pixels.dtype.name))

    networks = {"student": registry.build("linear", 0), "teacher": registry.build("mlp-30", 0)}
    found = latency.compare(
        networks, batches=(1, 4), threads=(1, 2), rounds=2, seconds=0.0, exported={"student": make}
    )
    assert [
        (row["batch"], row["threads"]) for row in found["student"] if row["runtime"] == "ONNX Runtime"
    ] == [(1, 1), (1, 2), (4, 1), (4, 2)]
    assert len(found["student"]) == 8 and len(found["teacher"]) == 4
    assert set(seen) == {(threads, (batch, 28, 28), "uint8") for threads in (1, 2) for batch in (1, 4)}
