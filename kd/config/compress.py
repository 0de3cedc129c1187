"""The settings of a compression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kd.config import fields
from kd.config.base import Config, check_labels, is_id
from kd.config.fields import setting
from kd.config.kind import NAME_LENGTH, Kind, settings_line
from kd.data.task import MNIST
from kd.errors import UserError
from kd.models import compression, quantization


@dataclass(frozen=True, kw_only=True)
class CompressConfig(Config):
    """Settings of a compression and its fine-tuning with a teacher.

    See kd.models.compression and kd.experiments.compress.
    """

    network: str = setting(
        MNIST.teacher,
        "Network",
        "The network to compress: the name of a shipped teacher or the id of a run.",
    )
    neurons: int = setting(
        50,
        "Neurons, by weight",
        "Percentage of neurons to remove from each hidden layer, or of channels from each convolution, "
        "starting with the smallest weights.",
        0,
        99,
        1,
    )
    activation: int = setting(
        0,
        "Neurons, by activation",
        "Percentage of the remaining neurons to remove, starting with those least active on 1,000 "
        "validation images.",
        0,
        99,
        1,
    )
    rank: int = setting(
        0,
        "Low rank",
        "Percentage of each layer's weights to save by splitting the layer into two thin ones. "
        "The last layer is not split.",
        0,
        99,
        1,
    )
    weights: int = setting(
        0,
        "Weights",
        "Percentage of all weights to set to zero, starting with the smallest. The network does not get "
        "faster, and its file only gets smaller when zipped.",
        0,
        99,
        1,
    )
    int8: str = setting(
        "off",
        "int8",
        "Converts linear layers to 8-bit integers after fine-tuning: dynamic computes a scale per image, "
        "static uses one for all.",
        choices=quantization.INT8,
    )
    teacher: str = fields.teacher("The smaller network learns from it in fine-tuning.")
    temperature: float = fields.temperature(4.0)
    soft_weight: float = fields.soft_weight(0.9)
    labels: int = fields.labels(0)
    epochs: int = fields.epochs(2, "fine-tuning", most=50)
    learning_rate: float = fields.learning_rate(
        1e-3, "The optimizer's peak step size, lower than for an untrained network."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if max(len(self.network), len(self.teacher)) > 600:
            raise UserError(
                "Network and teacher must each be the name of a shipped teacher or the id of a run."
            )
        check_labels(self.labels)

    @property
    def percents(self) -> dict[str, int]:
        """The percentage that each of compression.TECHNIQUES removes."""
        return {name: getattr(self, name) for name in compression.TECHNIQUES}

    @property
    def student(self) -> str:
        return self.network


def _title(config: CompressConfig, named: Callable[[str], str]) -> str:
    techniques = ", ".join(
        f"{config.setting(name)['label'].lower()} −{percent}%"
        for name, percent in config.percents.items()
        if percent
    )
    int8 = "" if config.int8 == "off" else f", int8 {config.int8}"
    soft = settings_line({"temperature": config.temperature, "soft_weight": config.soft_weight})
    labels = f"{config.labels:,}" if config.labels else "all"
    return (
        f"{named(config.network)}: {techniques}{int8}; fine-tuning with {named(config.teacher)}, {soft}, "
        f"{labels} labels, {config.epochs} epochs, seed {config.seed}"
    )


def _default_name(config: CompressConfig) -> str:
    network = "a run" if is_id(config.network) else config.network[:20]
    techniques = [f"{name} -{percent}%" for name, percent in config.percents.items() if percent]
    if config.int8 != "off":
        techniques.append(f"int8 {config.int8}")
    return f"{network} compressed: {', '.join(techniques)}"[:NAME_LENGTH]


def _models(config: CompressConfig, measures: Mapping[str, Any]) -> tuple[str, ...]:
    if not measures:
        return ("student", "control")
    return tuple(name for name in ("student", "control", "alone") if name in measures["models"])


COMPRESS = Kind(
    name="compress",
    config=CompressConfig,
    experiment="kd.experiments.compress:FineTuning",
    help="compress a trained network, then fine-tune it with a teacher and, as its control, on labels alone",
    default_name=_default_name,
    title=_title,
    stages=True,
    models=_models,
    architecture=lambda config, measures: measures.get("architecture", config.network),
    page="compress",
    elsewhere="is a compressed network; the Compress page shows it",
    replay=True,
    leaves_student=True,
    comparable=True,
    taught_by="compressed",
    control_note=lambda config: (
        "Both started from the same compressed network and saw the same batches, "
        "but the control learned from the labels alone."
    ),
)
