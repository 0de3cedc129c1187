"""A compressed network's recovery with a teacher, and what it costs and knows before and after."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from kd.config.compress import CompressConfig
from kd.data.digits import Digits, Mnist
from kd.device import training_device
from kd.errors import UserError
from kd.experiments.base import Experiment, few_labels
from kd.metrics import classification, latency
from kd.models import compression, inference, pruning, quantization, registry
from kd.models.stored_size import stored_size
from kd.objectives import hinton, labels_only
from kd.store import runs
from kd.teachers import catalogue
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.training.learner import Learner
from kd.training.loop import Plan, Record, Teacher
from kd.training.stages import Stage

BATCHES, THREADS, ROUNDS = (1, 256), (1,), 9  # of the latencies


@dataclass(frozen=True)
class Whole:
    """What is compressed. ``alone``: the control of a run, which never saw a teacher; None where there is none."""

    name: str
    architecture: str
    student: nn.Module
    alone: nn.Module | None = None

    @property
    def networks(self) -> dict[str, nn.Module]:
        return {"student": self.student} | ({"alone": self.alone} if self.alone is not None else {})


def whole(network: str) -> Whole:
    """The networks of a shipped teacher by name, or of a run by id.

    Raises:
        UserError: there is no such network, or it is one that is compressed already.
    """
    if network in catalogue.shipped():
        found = catalogue.load(network)
        return Whole(network, found.architecture, found.model)
    if not runs.is_id(network):
        raise UserError(
            f"There is no network called {network[:40]!r} to compress; choose one of {', '.join(catalogue.shipped())}, or the id of a run."
        )
    run = runs.load(network)
    if run.about.comparable and not run.about.compressible:
        raise UserError(f"{run.name} is compressed already; choose the run that it came from.")
    if not run.models or not run.about.compressible:
        raise UserError(
            f"{run.name} is an experiment of the Dark knowledge page; choose a run of a student or a teacher."
        )
    return Whole(
        run.name,
        run.architecture,
        run.model(run.models[0]),
        run.model("control") if "control" in run.models else None,
    )


def compressed(model: nn.Module, config: CompressConfig, digits: Digits) -> nn.Module:
    """``model`` after all techniques of ``config`` but int8, which comes after the recovery; on the device of ``digits``."""
    images = digits.take(slice(compression.CALIBRATION)).inputs()
    model = model.to(images.device).eval()
    for _, model in compression.steps(model, config.percents, images):
        pass
    return model


class Recovery(Experiment):
    """A compressed network that learns from a teacher, and beside it the same from the labels alone, on the same batches.

    Where the network is a run's student, that run's control is a third: compressed likewise
    and recovered from the labels, it is what the techniques come to without any distillation.

    Args:
        source: what is compressed, where it is not what ``config`` names.

    Raises:
        UserError: as whole(), or nothing is taken away.
    """

    def __init__(
        self,
        config: CompressConfig,
        mnist: Mnist,
        teacher: CachedTeacher | MeanTeacher,
        source: Whole | None = None,
    ):
        self.config, self.mnist, self.reference, self.teacher = (
            config,
            mnist.to(training_device()),
            teacher,
            teacher,
        )
        if not any(config.percents.values()):
            raise UserError(
                "Nothing is taken away, so that there is nothing to recover from: raise neurons, activation, rank or weights above 0."
            )
        self.whole = source or whole(config.network)
        self.architecture = compression.compressed_name(self.whole.architecture, config.percents)
        self.begun = {
            name: compressed(model, config, self.mnist.validation)
            for name, model in self.whole.networks.items()
        }
        self.transfer = dataclasses.replace(self.mnist, train=few_labels(self.mnist.train, config))
        self.stages: list[Stage] = [self._stage]
        self.plan = Plan(
            config.epochs, config.batch_size, config.learning_rate, config.seed, optimizer=config.optimizer
        )
        self.settings = {"temperature": config.temperature, "soft_weight": config.soft_weight}

    def _stage(self, earlier: Mapping[str, nn.Module]) -> tuple[list[Learner], Teacher]:
        def begins(name: str) -> nn.Module:
            return pruning.with_masks(self.begun[name]).requires_grad_(True)

        learners = [
            Learner("student", begins("student"), hinton),
            Learner("control", begins("student"), labels_only),
        ]
        if "alone" in self.begun:
            learners.append(Learner("alone", begins("alone"), labels_only))
        return learners, self.teacher

    def measures(self, last: Record | None) -> dict[str, Any]:
        """As of any experiment, with the new ``architecture`` and the ``stages``: what each network costs and knows before, after and recovered."""
        return super().measures(last) | {"architecture": self.architecture, "stages": self.measured()}

    def measured(self, latencies: bool = True) -> list[dict[str, Any]]:
        """Who, stage, size, latency and quality of each. All on the CPU, where int8 is, and latencies of the student's alone: the others have its shapes."""
        images = self.mnist.validation.take(slice(compression.CALIBRATION)).inputs()
        networks: dict[tuple[str, str], nn.Module] = {}
        for name, model in self.whole.networks.items():
            networks[name, "original"], networks[name, "compressed"] = on_cpu(model), on_cpu(self.begun[name])
        for name, model in self.trained.items():
            networks[name, "recovered"] = registry.as_stored(model, self.architecture)
            if self.config.int8 != "off":
                networks[name, "int8"] = quantization.quantize(
                    networks[name, "recovered"], self.config.int8, images
                )
        timed: dict[str, Any] = {}
        if latencies:
            timed = latency.compare(
                {stage: model for (name, stage), model in networks.items() if name == "student"},
                BATCHES,
                THREADS,
                ROUNDS,
            )
        test = self.mnist.test
        taught, labels, inputs = self.reference.logits(test).cpu(), test.labels.cpu(), test.inputs().cpu()
        found = []
        for (name, stage), model in networks.items():
            quality = classification.quality(inference.logits_in_chunks(model, inputs, 512), labels, taught)
            found.append(
                {
                    "who": name,
                    "stage": stage,
                    **dataclasses.asdict(stored_size(model)),
                    "latency": timed.get(stage) if name == "student" else None,
                    **{
                        key: quality[key]
                        for key in ("test_accuracy", "test_errors", "interval", "agreement", "kl")
                    },
                }
            )
        return found


def on_cpu(model: nn.Module) -> nn.Module:
    """A copy on the CPU where ``model`` is elsewhere."""
    return copy.deepcopy(model).cpu() if next(model.parameters()).is_cuda else model


def called(row: Mapping[str, Any], distilled: bool) -> str:
    """A row of the stages in words.

    Args:
        distilled: the network was a student, beside which its control was compressed too.
    """
    who, stage = row["who"], row["stage"]
    before = "never distilled, " if who == "alone" else "distilled, " if distilled else ""
    if stage in ("original", "compressed"):
        return before + stage
    return f"{before}recovered {'with the teacher' if who == 'student' else 'from labels'}" + (
        ", int8" if stage == "int8" else ""
    )


def clock(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """How much faster or slower by the clock: rows with median and iqr, of timings that alternated. A difference within their spread is none."""
    if abs(after["median"] - before["median"]) <= before["iqr"] + after["iqr"]:
        return "as fast, within the clock's noise"
    faster = before["median"] / after["median"]
    return f"{faster:.2g} times as fast" if faster > 1 else f"{1 / faster:.2g} times slower"


def text(stages: Sequence[Mapping[str, Any]]) -> str:
    """The stages to read in a terminal."""
    distilled = any(row["who"] == "alone" for row in stages)
    lines = [
        f"{'':56}{'weights':>10}{'not 0':>10}{'KB':>8}{'zipped':>8}{'accuracy':>10}"
        + "".join(f"{f'ms at {batch}':>12}" for batch in BATCHES)
    ]
    for row in stages:
        took = (
            [f"{1e3 * at['median']:.3g}" for at in row["latency"]] if row["latency"] else [""] * len(BATCHES)
        )
        lines.append(
            f"{called(row, distilled):56}{row['parameters']:>10,}{row['nonzero']:>10,}{row['file_bytes'] / 1024:>8,.0f}{row['zipped_bytes'] / 1024:>8,.0f}"
            f"{row['test_accuracy']:>10.2%}" + "".join(f"{value:>12}" for value in took)
        )
    return "\n".join(lines)
