"""The benchmark in a short form: it measures what it says, on the real loops."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from benchmarks import conventional, engine
from kd import paths
from kd.cli import main as command_line
from kd.data import sources
from kd.data.task import MNIST
from kd.models import registry
from kd.training import loop


@pytest.fixture
def here(mnist, tmp_path, monkeypatch):
    """The 1,000 images as if they were all of MNIST, in a folder with torchvision's layout."""
    raw = sources.raw_folder(tmp_path)
    raw.mkdir(parents=True)
    for part, digits in (("train", mnist.train), ("t10k", mnist.test)):
        images, labels = digits.images.numpy(), digits.labels.numpy().astype(np.uint8)
        header = np.array([2051, *images.shape], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(
            np.array([2049, len(labels)], ">i4").tobytes() + labels.tobytes()
        )
    monkeypatch.setenv("KD_DATA_DIR", str(tmp_path))
    # No MNIST file has these ids, so the teacher computes its logits from the images.
    small = dataclasses.replace(
        mnist, train=dataclasses.replace(mnist.train, ids=torch.arange(len(mnist.train)), file="")
    )
    monkeypatch.setattr(sources, "load_full", lambda folder: small)
    return small


def test_conventional_loop_sees_the_same_images(here, tmp_path):
    batches = list(conventional.loader(tmp_path, 300, here.train.ids.tolist()))
    assert [len(labels) for _, labels in batches] == [300, 300, 300, 100]
    theirs = torch.cat([images for images, _ in batches])
    assert theirs.double().mean().item() == pytest.approx(
        here.train.inputs().double().mean().item(), abs=1e-6
    )
    known = {
        image.numpy().tobytes(): int(label) for image, label in zip(here.train.images, here.train.labels)
    }
    for images, labels in batches:
        pixels = ((images * MNIST.std[0] + MNIST.mean[0]) * 255).round().to(torch.uint8)
        assert [known[image.numpy().tobytes()] for image in pixels] == labels.tolist()


@pytest.mark.parametrize("taught", [True, False])
def test_conventional_loop_reaches_the_same_accuracy(here, tmp_path, taught):
    """Same data and same loss must give about the same accuracy; otherwise the ratio is meaningless."""
    teacher = registry.load(paths.WEIGHTS / "cnn.safetensors", "cnn") if taught else None
    model = registry.build("mlp-128", 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    batches = conventional.loader(tmp_path, 50, here.train.ids.tolist())
    for _ in range(4):
        conventional.epoch(model, optimizer, batches, teacher)
    assert loop.accuracy(model, here.test) > 0.8
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("student", "flops"),
    [
        ("linear", 2 * 2 * 7840),
        ("mlp-30", 2 * (2 * 784 * 30 + 3 * 300)),
        ("cnn-tiny", None),
        ("vit-half", None),
    ],
)
def test_multiplications_per_image(student, flops):
    assert engine.multiplications(student) == flops


def test_enlarged_set_has_shifted_views(here):
    larger = engine.enlarged(here, 2500).train
    assert len(larger) == 2500 and torch.equal(larger.labels[:1000], larger.labels[1000:2000])
    assert len({image.numpy().tobytes() for image in larger.images}) > 2400


def test_rounds_alternate():
    done = []
    times = engine.alternate(2, a=lambda: done.append("a"), b=lambda: done.append("b"))
    assert done == ["a", "b", "a", "b"]
    assert {name: len(values) for name, values in times.items()} == {"a": 2, "b": 2}


def test_bench_prints_every_figure(here, monkeypatch, capsys):
    monkeypatch.setattr(engine, "GOOD", 0.5)
    monkeypatch.setattr(engine, "added_memory", lambda: 100.0)
    # Two configurations stand for all.
    monkeypatch.setattr(engine, "CONFIGURATIONS", [("mlp-128", 128), ("cnn-tiny", 512)])
    monkeypatch.setattr(engine, "WORKERS", (0,))
    # This part needs a server; tests/browser covers it.
    monkeypatch.setattr(
        engine.watched, "watched", lambda rounds: [{"viewers": 10, "ratio": 0.9, "ticks_per_second": 15.0}]
    )
    assert command_line.main(["bench", "--rounds", "1", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])
    first = found["epochs"][0]
    assert first["epoch_ratio"] == pytest.approx(
        first["seconds"]["conventional"]["median"] / first["seconds"]["ours"]["median"]
    )
    for figure in ("epoch_ratio", "plain_ratio", "roof", "images_per_second"):
        assert first[figure] > 0
    for figure in ("teacher_pass", "with_control", "grid", "time_to_975", "growth"):
        assert found[figure]["ratio"] > 0
    assert 0 < found["epoch_ratio_with_cache"] < first["epoch_ratio"]
    assert found["grid"]["students"] == 32 and found["grid"]["roof"] > 0 and found["grid"]["ratio_alone"] > 0
    text = engine.table(found)
    assert "mlp-128" in text and "teacher_pass" in text and "measuring growth" in captured.err
    assert "0.90 of its speed with 10 polling" in text


@pytest.mark.parametrize("rounds", ["0", "-1", "1000"])
def test_invalid_number_of_rounds_is_refused(rounds, capsys):
    assert command_line.main(["bench", "--rounds", rounds]) == 2
    assert "--rounds must be between 1 and 100." in capsys.readouterr().err


def test_training_adds_little_memory():
    """The design limits memory: images are bytes, and one block of them is floats."""
    if not (paths.data_folder() / "MNIST").exists() or not engine.os.path.exists("/proc/self/status"):
        pytest.skip("needs all of MNIST, and /proc")
    assert engine.added_memory() < 2.5 * 47 + 300
