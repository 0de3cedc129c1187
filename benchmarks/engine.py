"""Measure how fast training is, relative to the conventional loop and to the machine: python -m kd bench.

Every figure is a ratio of two things measured in one process in alternating rounds, so that a busy or slow
machine affects both. Times are medians; ``low`` and ``high`` are the fastest and the slowest round.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from torch import nn

from benchmarks import conventional, watched
from benchmarks.engine_table import table
from kd import paths
from kd.config.distil import DistilConfig
from kd.data import sources
from kd.data.augmentation import SHIFTS, shifted
from kd.data.digits import Digits, Mnist
from kd.metrics.size import network_size
from kd.models import inference, registry
from kd.objectives import hinton, labels_only
from kd.sweeps.together import BatchedTraining
from kd.teachers import catalogue
from kd.teachers.cached import CachedTeacher
from kd.training.loop import Learner, Plan, Training, accuracy

__all__ = ["run", "table"]

SETTINGS = {"temperature": 4.0, "soft_weight": 0.9}
RATE = DistilConfig().learning_rate
GOOD = 0.975
CONFIGURATIONS = [
    ("mlp-128", 128),
    ("mlp-128", 512),
    ("mlp-800x2", 128),
    ("mlp-800x2", 512),
    ("cnn-tiny", 128),
]
TEMPERATURES = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)  # of the sweep
SOFT_WEIGHTS = (0.5, 0.7, 0.9, 1.0)
WORKERS = (0, 2)  # of the conventional loop's loader; the faster one counts

Times = dict[str, list[float]]


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(rounds: int, **works: Callable[[], Any]) -> Times:
    """Return the seconds of each work in each round; the works take turns."""
    times: Times = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(seconds(work))
    return times


def spread(values: list[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def ratio(slow: list[float], fast: list[float]) -> float:
    return statistics.median(slow) / statistics.median(fast)


class Bench:
    """All measurements on ``mnist``; the conventional loop reads the same images from the data folder."""

    def __init__(self, mnist: Mnist, rounds: int):
        self.mnist, self.rounds = mnist, rounds
        self.reference = catalogue.load("cnn")
        self.reference.logits(mnist.train)
        self.default_layout = catalogue.load("cnn").model.to(memory_format=torch.contiguous_format)

    # -- ours ----------------------------------------------------------------------

    def training(
        self, student: str, batch_size: int, who: str = "student", mnist: Mnist | None = None
    ) -> Training:
        learners = []
        if "student" in who:
            learners.append(Learner("student", registry.build(student, 0), hinton))
        if "control" in who:
            learners.append(Learner("control", registry.build(student, 0), labels_only))
        asked = self.reference if "student" in who else None
        return Training(learners, mnist or self.mnist, Plan(1, batch_size, RATE, 0), SETTINGS, asked)

    def ours(self, *arguments: Any, **more: Any) -> Callable[[], Any]:
        """Return our epoch, with validation, as a function; each call trains from the start."""
        list(self.training(*arguments, **more).records())  # warm up
        return lambda: list(self.training(*arguments, **more).records())

    # -- the conventional loop -------------------------------------------------------

    def conventional(
        self, student: str, batch_size: int, workers: int, taught: bool = True
    ) -> Callable[[], Any]:
        batches = conventional.loader(paths.data_folder(), batch_size, self.mnist.train.ids.tolist(), workers)
        model = registry.build(student, 0)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        return lambda: conventional.epoch(model, optimizer, batches, self.default_layout if taught else None)

    # -- the figures -------------------------------------------------------------------

    def gemm(self) -> list[float]:
        """Measure the FLOP per second of large matrix products."""
        size, count = 1024, 20
        matrix = torch.randn(size, size)

        def work() -> None:
            for _ in range(count):
                matrix @ matrix

        work()
        return [2 * size**3 * count / seconds(work) for _ in range(5)]

    def epochs(self, student: str, batch_size: int, plain: bool = True) -> dict[str, Any]:
        """Compare our epoch with the conventional one and with the machine's matrix products."""
        roof = self.gemm()
        works = {"ours": self.ours(student, batch_size)}
        for workers in WORKERS:
            works[f"taught {workers}"] = self.conventional(student, batch_size, workers)
            if plain:
                works[f"plain {workers}"] = self.conventional(student, batch_size, workers, taught=False)
        times = alternate(self.rounds, **works)
        # Our epochs are short, so a few more rounds of them cost little.
        times["ours"] += [seconds(works["ours"]) for _ in range(2 * self.rounds)]
        roof += self.gemm()

        def usual(kind: str) -> list[float]:
            return min((times[f"{kind} {workers}"] for workers in WORKERS), key=statistics.median)

        found = {
            "student": student,
            "batch_size": batch_size,
            "epoch_ratio": ratio(usual("taught"), times["ours"]),
            "seconds": {"ours": spread(times["ours"]), "conventional": spread(usual("taught"))},
            "images_per_second": len(self.mnist.train) / statistics.median(times["ours"]),
        }
        if plain:
            found["plain_ratio"] = ratio(usual("plain"), times["ours"])
            found["seconds"]["conventional without teacher"] = spread(usual("plain"))
        flops = multiplications(student)
        if flops:
            found["roof"] = (
                flops * len(self.mnist.train) / statistics.median(times["ours"]) / statistics.median(roof)
            )
            found["gemm_gflops"] = statistics.median(roof) / 1e9
        return found

    def teacher_pass(self) -> dict[str, Any]:
        """Compare the teacher's pass in channels_last chunks with 1,000 images in the default layout."""
        train = self.mnist.train

        def ours() -> None:
            inference.logits_in_chunks(self.reference.model, train.inputs())

        def usual() -> None:
            with torch.inference_mode():
                for part in train.inputs().split(1000):
                    self.default_layout(part)

        roof = self.gemm()
        times = alternate(self.rounds, ours=ours, usual=usual)
        roof += self.gemm()
        flops = 2 * network_size(self.reference.architecture).macs * len(train)
        rate = flops / statistics.median(times["ours"])
        return {
            "ratio": ratio(times["usual"], times["ours"]),
            "roof": rate / statistics.median(roof),
            "images": len(train),
            "seconds": {name: spread(values) for name, values in times.items()},
        }

    def with_control(self) -> dict[str, Any]:
        """Compare training student and control together with two separate trainings."""
        times = alternate(
            3 * self.rounds,
            together=self.ours("mlp-128", 128, "student control"),
            student=self.ours("mlp-128", 128, "student"),
            control=self.ours("mlp-128", 128, "control"),
        )
        apart = [a + b for a, b in zip(times["student"], times["control"])]
        return {
            "ratio": ratio(times["together"], apart),
            "seconds": {name: spread(values) for name, values in times.items()},
        }

    def grid(self, student: str = "mlp-30", batch_size: int = 128) -> dict[str, Any]:
        """Compare 32 students with their own temperature and soft weight, together and one after another.

        ``loop`` is the loop of `kd distil`, which records losses and training accuracies; ``alone`` is the
        sweep's own loop with one student.
        """
        settings = [{"temperature": t, "soft_weight": w} for t in TEMPERATURES for w in SOFT_WEIGHTS]

        def learner(own: dict[str, float]) -> Learner:
            return Learner(str(own), registry.build(student, 0), hinton, settings=own)

        plan = Plan(1, batch_size, RATE, 0)

        def together(*owns: dict[str, float]) -> None:
            learners = [learner(own) for own in owns]
            list(BatchedTraining(learners, self.mnist, plan, self.reference).records())

        def loop() -> None:
            for own in settings:
                list(Training([learner(own)], self.mnist, plan, {}, self.reference).records())

        together(*settings)  # warm up
        roof = self.gemm()
        times = alternate(
            self.rounds,
            together=lambda: together(*settings),
            loop=loop,
            alone=lambda: [together(own) for own in settings],
        )
        times["together"] += [seconds(lambda: together(*settings)) for _ in range(2 * self.rounds)]
        roof += self.gemm()
        flops = multiplications(student) * len(settings) * len(self.mnist.train)
        return {
            "student": student,
            "students": len(settings),
            "ratio": ratio(times["loop"], times["together"]),
            "ratio_alone": ratio(times["alone"], times["together"]),
            "roof": flops / statistics.median(times["together"]) / statistics.median(roof),
            "seconds": {name: spread(values) for name, values in times.items()},
        }

    def time_to_good(self, usual_epoch: float) -> dict[str, Any]:
        """Compare the time to 97.5% validation accuracy with the conventional loop's first epoch."""

        def reach(cached: bool) -> float:
            start = time.perf_counter()
            teacher = catalogue.load("cnn")
            if not cached:
                teacher = CachedTeacher("cnn", "cnn", teacher.model)
            learner = Learner("student", registry.build("mlp-128", 0), hinton)
            training = Training([learner], self.mnist, Plan(3, 128, RATE, 0), SETTINGS, teacher)
            for record in training.records(lambda step: step % 20 == 0):
                if (
                    record.validation_accuracy["student"] >= GOOD
                    and accuracy(learner.model, self.mnist.validation) >= GOOD
                ):
                    return time.perf_counter() - start
            return float("nan")

        # An empty cache folder, so that no logits of another run are used.
        with tempfile.TemporaryDirectory() as empty, mock.patch.dict(os.environ, KD_CACHE_DIR=empty):
            shipped = [reach(True) for _ in range(3)]
            computed = [reach(False) for _ in range(min(2, self.rounds))]
        return {
            "ratio": statistics.median(shipped) / usual_epoch,
            "ratio_without_shipped_logits": statistics.median(computed) / usual_epoch,
            "seconds": {"shipped logits": spread(shipped), "logits computed on the way": spread(computed)},
        }

    def growth(self) -> dict[str, Any]:
        """Measure the time per image by the number of images, and the memory that training adds."""
        sizes = [size for size in (5000, 15000, 60000, 240000) if size <= 5 * len(self.mnist.train)]
        sets = {str(size): self.ours("mlp-128", 128, mnist=enlarged(self.mnist, size)) for size in sizes}
        times = alternate(2 * self.rounds, **sets)
        per_image = {size: statistics.median(values) / int(size) * 1e6 for size, values in times.items()}
        return {
            "microseconds_per_image": per_image,
            "ratio": max(per_image.values()) / min(per_image.values()),
            "added_mb": added_memory(),
            "images_mb": self.mnist.train.images.numel() / 1e6,
        }


def multiplications(student: str) -> int | None:
    """Return the FLOP of an MLP's matrix products per training image; None for other networks.

    A layer has two products in the forward pass and for its weights, and all but the first a third one.
    """
    layers = list(registry.skeleton(student).children())
    if not all(isinstance(layer, (nn.Flatten, nn.Linear, nn.ReLU)) for layer in layers):
        return None
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return sum(2 * layer.weight.numel() * (3 if i else 2) for i, layer in enumerate(linear))


def enlarged(mnist: Mnist, size: int) -> Mnist:
    """Return ``mnist`` with ``size`` training images: fewer, or each of them in several shifted views."""
    train = mnist.train
    digits = train.take(torch.arange(size) % len(train))
    views = (torch.arange(size) // len(train)) % len(SHIFTS)
    moved = torch.cat([shifted(i, s) for i, s in zip(digits.images.split(5000), views.split(5000))])
    few = mnist.validation.take(slice(0, 100))  # keeps validation short
    return dataclasses.replace(
        mnist, train=Digits(moved, digits.labels, digits.ids, digits.file), validation=few
    )


MEMORY = """
import torch
from kd import paths
from kd.config.distil import DistilConfig
from kd.data import sources
from kd.experiments.distil import Distillation
from kd.teachers import catalogue
peak = lambda: int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1e3
torch.ones(9, 9) @ torch.ones(9, 9)
before = peak()
mnist = sources.load_full(paths.data_folder())
list(Distillation(DistilConfig(epochs=2), mnist, catalogue.load("cnn")).records())
print(peak() - before)
"""


def added_memory() -> float:
    """Return the MB that the data and two epochs add to a process's peak memory; NaN without /proc."""
    if not os.path.exists("/proc/self/status"):
        return float("nan")
    return float(
        subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    )


def run(rounds: int = 3, note: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Measure all figures; ``note`` is called with a description of each measurement."""
    bench = Bench(sources.load_full(paths.data_folder()), rounds)
    found: dict[str, Any] = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "rounds": rounds,
        "epochs": [],
    }
    for student, batch_size in CONFIGURATIONS:
        note(f"epochs of {student}, batch size {batch_size}")
        found["epochs"].append(bench.epochs(student, batch_size, plain=student == "mlp-128"))
    note("the teacher's pass")
    found["teacher_pass"] = bench.teacher_pass()
    first = found["epochs"][0]["seconds"]
    usual, ours = first["conventional"]["median"], first["ours"]["median"]
    pass_seconds = found["teacher_pass"]["seconds"]["ours"]["median"]
    found["epoch_ratio_with_cache"] = 5 * usual / (pass_seconds + 5 * ours)
    note("student and control together")
    found["with_control"] = bench.with_control()
    note("32 students together")
    found["grid"] = bench.grid()
    note("time to 97.5%")
    found["time_to_975"] = bench.time_to_good(usual)
    note("growth")
    found["growth"] = bench.growth()
    note("training with viewers")
    found["watched"] = watched.watched(rounds)
    return found
