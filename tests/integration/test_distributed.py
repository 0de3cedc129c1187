"""Distributed training: compare torchrun with two CPU processes and training in this process."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from kd.cli import main as cli
from kd.data import digits, sources
from kd.data.digits import Mnist
from kd.models import layers, registry
from kd.objectives import labels_only
from kd.store import runs
from kd.training import distributed
from kd.training.loop import Learner, Plan, Training
from tests.helpers import Given, identical

ROOT = Path(__file__).parents[2]
NETWORKS = {  # with batch normalization, with random numbers, and with neither
    "normalized": lambda: layers.cnn((4, 6, 8), (2, 1, 2), dropout=0.3),
    "with dropout": lambda: layers.regularized_mlp(20, bound=0.5, dropout=(0.1, 0.4)),
    "stacked": lambda: layers.mlp(20),
}
LEARNING_RATE = 4e-3
COMMAND = ["teacher", "--teacher", "mlp-30", "--epochs", "2", "--batch-size", "130", "--json"]


def few(sample: Mnist) -> Mnist:
    """Return data with 301 training images: with batches of 60, one process gets none of the last batch."""
    judged = sample.test.take(slice(None, None, 10))
    return Mnist(sample.train.take(slice(0, 4000, 13)).take(slice(0, 301)), judged, judged, "sample")


def trained(name: str, mnist: Mnist, dtype: torch.dtype) -> tuple[dict, list[dict]]:
    """Return the weights after two epochs on augmented images, and the rows of the charts."""
    model = registry.initialize(NETWORKS[name](), torch.Generator().manual_seed(0)).to(
        dtype, memory_format=torch.channels_last
    )
    plan = Plan(epochs=2, batch_size=60, learning_rate=LEARNING_RATE, seed=0, augmentation="affine")
    training = Training([Learner("teacher", model, labels_only)], mnist, plan, {})
    rows = [record.row() for record in training.records()]
    return {key: value.clone() for key, value in model.state_dict().items()}, rows


def all_trained(sample: Mnist) -> dict:
    found = {}
    real = digits.normalize
    for dtype in (torch.float32, torch.float64):
        digits.normalize = lambda images, dtype=dtype: real(images).to(dtype)
        try:
            found |= {(name, dtype): trained(name, few(sample), dtype) for name in NETWORKS}
        finally:
            digits.normalize = real
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Return the results of the two processes, and the folder with their stored run."""
    folder = tmp_path_factory.mktemp("two")
    environment = os.environ | {
        "KD_HOME": str(folder / "home"),
        "KD_CACHE_DIR": str(folder / "cache"),
        "KD_DEVICE": "cpu",
    }
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.integration.test_distributed",
        str(folder),
    ]
    process = subprocess.Popen(
        launch,
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=150)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # torchrun's own processes too
    assert process.returncode == 0, err
    assert err.count("Only a teacher can be trained by several processes") == 2
    return folder, out


def in_process_of_torchrun(folder: Path) -> None:
    torch.set_num_threads(1)
    sample = sources.load_sample()
    with distributed.joined(torch.device("cpu")):
        torch.save(all_trained(sample), folder / f"rank{distributed.rank()}.pt")
        sources.Source = lambda: Given(replace(few(sample), source="full"))
        assert cli.main(COMMAND) == 0
        assert cli.main(["distil", "--epochs", "1"]) == 2


def differences(one: dict, other: dict) -> torch.Tensor:
    """Return the absolute differences of all weights as one flat tensor."""
    return torch.cat([(one[key].double() - other[key].double()).abs().flatten() for key in one])


def assert_equal_but_for_rounding(one: dict, other: dict) -> None:
    """Compare float32 weights that AdamW trained on gradients summed in another order.

    Rounding changes gradients by less than 1e-7 here (most are above 1e-3). AdamW divides each gradient by
    its running size plus 1e-8, so almost all weights differ by less than 1e-7. A gradient as small as
    rounding errors, such as that of a pixel with almost no ink in any image, can change a step by up to the
    learning rate in either direction: measured 1e-5 for one weight of 23,860.
    """
    apart = differences(one, other)
    assert apart.quantile(0.999) < 1e-6
    assert apart.max() < 2 * LEARNING_RATE


def test_two_processes_give_the_weights_of_one(two, sample):
    folder, _ = two
    first, second = (torch.load(folder / f"rank{rank}.pt") for rank in (0, 1))
    alone = all_trained(sample)
    for (name, dtype), (weights, rows) in alone.items():
        spread, shown = first[name, dtype]
        assert identical(spread, second[name, dtype][0]), "the processes have different weights"
        # In float32 PyTorch's own batch normalization on the CPU rounds by up to 1e-3.
        bound = 1e-9 if dtype is torch.float64 else 1e-2 if name == "normalized" else 1e-5
        if bound == 1e-5:
            assert_equal_but_for_rounding(weights, spread)
        else:
            assert differences(weights, spread).max() < bound, (name, dtype)
        for row, same in zip(rows, shown, strict=True):
            assert {key: same[key] for key in row if "teacher" in key} == pytest.approx(
                {key: row[key] for key in row if "teacher" in key}, abs=0.02
            )
            assert same["loss teacher hard"] == pytest.approx(row["loss teacher hard"], abs=bound), (
                "the charts show one process's share"
            )


def test_torchrun_command_stores_and_prints_one_run(two, sample, home, capsys, monkeypatch):
    folder, out = two
    (result,) = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    monkeypatch.setattr(sources, "Source", lambda: Given(replace(few(sample), source="full")))
    assert cli.main(COMMAND) == 0
    alone = json.loads(capsys.readouterr().out.splitlines()[-1])
    mine = runs.load(alone["run"]).model("teacher").state_dict()
    monkeypatch.setenv("KD_HOME", str(folder / "home"))
    assert os.listdir(folder / "home") == [result["run"]]
    assert_equal_but_for_rounding(mine, runs.load(result["run"]).model("teacher").state_dict())
    assert result["teacher"]["test_errors"] == pytest.approx(alone["teacher"]["test_errors"], abs=1)


def test_normalization_in_one_process_equals_pytorch():
    torch.manual_seed(0)
    inputs = (torch.randn(6, 3, 4, 4, dtype=torch.float64) * 3 + 1).requires_grad_()
    layer = nn.BatchNorm2d(3).double()
    nn.init.uniform_(layer.weight)
    ranks = distributed.Ranks()
    ranks.begin(inputs)
    ours, mean, _ = distributed._Normalize.apply(inputs, layer.weight, layer.bias, ranks, 6 * 16, layer.eps)
    theirs = layer(inputs)
    torch.testing.assert_close(ours, theirs)
    wanted = [inputs, layer.weight, layer.bias]
    for one, other in zip(
        torch.autograd.grad(ours.square().sum(), wanted), torch.autograd.grad(theirs.square().sum(), wanted)
    ):
        torch.testing.assert_close(one, other)


if __name__ == "__main__":
    in_process_of_torchrun(Path(sys.argv[1]))
