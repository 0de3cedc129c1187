"""Fine-tune a compressed network with a teacher, and measure cost and quality before and after."""

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
from kd.experiments.base import Experiment, NetworkTeacher, few_labels
from kd.metrics import classification, latency
from kd.models import compression, inference, pruning, quantization, registry
from kd.models.stored_size import stored_size
from kd.objectives import hinton, labels_only
from kd.store import runs
from kd.teachers import catalogue
from kd.training.learner import Learner
from kd.training.loop import Plan, Record, Teacher

BATCHES, THREADS, ROUNDS = (1, 256), (1,), 9  # of the latency measurements


@dataclass(frozen=True)
class SourceNetworks:
    """The networks to compress. ``alone`` is a run's control, which never saw a teacher, if there is one."""

    name: str
    architecture: str
    student: nn.Module
    alone: nn.Module | None = None

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The networks by role."""
        return {"student": self.student} | ({"alone": self.alone} if self.alone is not None else {})


def source_networks(network: str) -> SourceNetworks:
    """Return the networks of a shipped teacher (by name) or of a run (by id).

    Raises:
        UserError: there is no such network, or it is already compressed.
    """
    if network in catalogue.shipped():
        teacher = catalogue.load(network)

        return SourceNetworks(network, teacher.architecture, teacher.model)
    if not runs.is_id(network):
        raise UserError(
            f"There is no network called {network[:40]!r} to compress. "
            f"Choose one of {', '.join(catalogue.shipped())}, or the id of a run."
        )
    run = runs.load(network)
    if run.about.comparable and not run.about.compressible:
        raise UserError(f"{run.name} is already compressed. Choose the run that it was made from.")
    if not run.models or not run.about.compressible:
        raise UserError(
            f"{run.name} is an experiment of the Dark knowledge page. Choose a run of a student or a teacher."
        )
    return SourceNetworks(
        run.name,
        run.architecture,
        run.model(run.models[0]),
        run.model("control") if "control" in run.models else None,
    )


def compressed(model: nn.Module, config: CompressConfig, digits: Digits) -> nn.Module:
    """Return the model after all techniques of ``config`` but int8, which comes after fine-tuning.

    It is on the device of ``digits``, whose first images calibrate the techniques.
    """
    images = digits.take(slice(compression.CALIBRATION)).inputs()
    model = model.to(images.device).eval()
    for _, step in compression.steps(model, config.percents, images):
        model = step
    return model


class FineTuning(Experiment):
    """A compressed network fine-tuned with a teacher, and its control, which learns from labels alone.

    If the network is a run's student, that run's control is a third network: compressed in the same
    way and fine-tuned on labels, it shows the techniques without any distillation.

    Args:
        config: the compression.
        mnist: the data.
        teacher: the teacher to learn from.
        source: the networks to compress, if not those that ``config`` names.

    Raises:
        UserError: as source_networks(), or nothing is compressed.
    """

    config: CompressConfig
    reference: NetworkTeacher
    teacher: NetworkTeacher

    def __init__(
        self,
        config: CompressConfig,
        mnist: Mnist,
        teacher: NetworkTeacher,
        source: SourceNetworks | None = None,
    ):
        self.config, self.mnist = config, mnist.to(training_device())
        self.reference = self.teacher = teacher
        if not any(config.percents.values()):
            raise UserError(
                "Nothing is removed, so there is nothing to fine-tune: "
                "raise neurons, activation, rank or weights above 0."
            )
        self.source = source or source_networks(config.network)
        self.architecture = compression.compressed_name(self.source.architecture, config.percents)
        self.compressed = {
            name: compressed(model, config, self.mnist.validation)
            for name, model in self.source.networks.items()
        }
        self.transfer = dataclasses.replace(self.mnist, train=few_labels(self.mnist.train, config))
        self.stages = [self._stage]
        self.plan = Plan(
            config.epochs, config.batch_size, config.learning_rate, config.seed, optimizer=config.optimizer
        )
        self.settings = {"temperature": config.temperature, "soft_weight": config.soft_weight}

    def _stage(self, earlier: Mapping[str, nn.Module]) -> tuple[list[Learner], Teacher]:
        def initial(name: str) -> nn.Module:
            return pruning.with_masks(self.compressed[name]).requires_grad_(True)

        learners = [
            Learner("student", initial("student"), hinton),
            Learner("control", initial("student"), labels_only),
        ]
        if "alone" in self.compressed:
            learners.append(Learner("alone", initial("alone"), labels_only))
        return learners, self.teacher

    def measures(self, last: Record | None) -> dict[str, Any]:
        """Measure as any experiment does, and add ``architecture`` and ``stages`` (see measured())."""
        return super().measures(last) | {"architecture": self.architecture, "stages": self.measured()}

    def measured(self, latencies: bool = True) -> list[dict[str, Any]]:
        """Measure each network at each stage: original, compressed, fine-tuned and int8.

        Everything is measured on the CPU, because int8 runs there, and only the student's latency: the
        other networks have its shapes.

        Args:
            latencies: whether to measure latencies.

        Returns:
            One dict per network and stage: who (the role), stage, sizes, latency and quality.
        """
        images = self.mnist.validation.take(slice(compression.CALIBRATION)).inputs()
        networks: dict[tuple[str, str], nn.Module] = {}
        for name, model in self.source.networks.items():
            networks[name, "original"] = on_cpu(model)
            networks[name, "compressed"] = on_cpu(self.compressed[name])
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
        teacher, labels, inputs = self.reference.logits(test).cpu(), test.labels.cpu(), test.inputs().cpu()
        rows = []
        for (name, stage), model in networks.items():
            quality = classification.quality(inference.logits_in_chunks(model, inputs, 512), labels, teacher)
            rows.append(
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
        return rows


def on_cpu(model: nn.Module) -> nn.Module:
    """Return the model, or a copy on the CPU if it is on another device."""
    return copy.deepcopy(model).cpu() if next(model.parameters()).is_cuda else model


def row_title(row: Mapping[str, Any], distilled: bool) -> str:
    """Describe a row of FineTuning.measured() in words.

    Args:
        row: the row.
        distilled: whether the network was a student, so that its control was compressed too.
    """
    role, stage = row["who"], row["stage"]
    if role == "alone":
        origin = "never distilled, "
    else:
        origin = "distilled, " if distilled else ""
    if stage in ("original", "compressed"):
        return origin + stage
    title = f"{origin}fine-tuned {'with the teacher' if role == 'student' else 'on labels'}"
    return f"{title}, int8" if stage == "int8" else title


def speed_change(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Say how much faster or slower a network has become.

    Args:
        before: median and iqr of its latency, in seconds.
        after: the same after the change, timed in alternation. A difference within the interquartile
            ranges counts as noise.
    """
    if abs(after["median"] - before["median"]) <= before["iqr"] + after["iqr"]:
        return "as fast, within measurement noise"
    faster = before["median"] / after["median"]
    return f"{faster:.2g} times as fast" if faster > 1 else f"{1 / faster:.2g} times slower"


def text(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of FineTuning.measured() as a plain-text table."""
    distilled = any(row["who"] == "alone" for row in stages)
    lines = [
        f"{'':56}{'weights':>10}{'nonzero':>10}{'KB':>8}{'zipped':>8}{'accuracy':>10}"
        + "".join(f"{f'ms at {batch}':>12}" for batch in BATCHES)
    ]
    for row in stages:
        latencies = [""] * len(BATCHES)
        if row["latency"]:
            latencies = [f"{1e3 * measured['median']:.3g}" for measured in row["latency"]]
        lines.append(
            f"{row_title(row, distilled):56}{row['parameters']:>10,}{row['nonzero']:>10,}"
            f"{row['file_bytes'] / 1024:>8,.0f}{row['zipped_bytes'] / 1024:>8,.0f}"
            f"{row['test_accuracy']:>10.2%}" + "".join(f"{value:>12}" for value in latencies)
        )
    return "\n".join(lines)
