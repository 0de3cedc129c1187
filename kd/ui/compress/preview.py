"""Compress a network while the sliders move, and cache each step of the chain of techniques."""

from __future__ import annotations

import dataclasses
from typing import Any

import streamlit as st
from torch import nn

from kd.config.compress import CompressConfig
from kd.data.digits import Mnist
from kd.device import training_device
from kd.experiments import compress
from kd.metrics import latency
from kd.metrics.classification import interval
from kd.models import inference, quantization
from kd.models.compression import CALIBRATION, TECHNIQUES
from kd.models.stored_size import stored_size
from kd.ui.shell import shared

Amounts = tuple[
    tuple[str, int], ...
]  # technique -> percent, in the order applied; for int8, its place in quantization.INT8


def _mnist() -> Mnist:
    return shared.manager().source.mnist()


@st.cache_resource(max_entries=6, show_spinner=False)
def whole(network: str) -> compress.SourceNetworks:
    return compress.source_networks(network)


@st.cache_resource(max_entries=16, show_spinner=False)
def _network(network: str, role: str, done: Amounts, source: str) -> nn.Module:
    """Return a network after these techniques, each applied to the result of the one before, int8 last."""
    if not done:
        return whole(network).networks[role].eval()
    before = _network(network, role, done[:-1], source)
    images = _mnist().to(training_device()).validation.take(slice(CALIBRATION)).inputs()
    name, amount = done[-1]
    if name == "int8":
        return quantization.quantize(before, quantization.INT8[amount], images)
    return TECHNIQUES[name].apply(before, amount / 100, images)


@st.cache_data(max_entries=256, show_spinner=False)
def _row(network: str, role: str, done: Amounts, source: str) -> dict[str, Any]:
    """Return what a network costs after these techniques, and its validation accuracy."""
    model, validation = _network(network, role, done, source), _mnist().validation
    device = next(model.parameters()).device
    guess = inference.logits_in_chunks(model, validation.inputs().to(device), 512).argmax(1).cpu()
    right = int((guess == validation.labels.cpu()).sum())
    return {
        "who": role,
        "title": _title(done),
        **dataclasses.asdict(stored_size(model)),
        "accuracy": right / len(validation),
        "wrong": 1 - right / len(validation),
        "interval": interval(right, len(validation)),
    }


def _title(done: Amounts) -> str:
    """Return the title of the technique applied last."""
    if not done:
        return "original"
    name, amount = done[-1]
    return f"int8 {quantization.INT8[amount]}" if name == "int8" else f"{TECHNIQUES[name].title} −{amount}%"


@st.cache_data(max_entries=64, show_spinner="Timing…")
def _timed(network: str, chain: tuple[Amounts, ...], batch: int, source: str) -> list[dict[str, float]]:
    """Return the latency after each technique, in alternating rounds with one thread."""
    networks = {
        str(place): compress.on_cpu(_network(network, "student", done, source))
        for place, done in enumerate(chain)
    }
    timings = latency.compare(networks, (batch,), (1,), rounds=15, seconds=0.003)
    return [timings[str(place)][0] for place in range(len(chain))]


def rows(config: CompressConfig, batch: int) -> list[dict[str, Any]]:
    """Return a row for the network, and for its control if it has one, after each technique that is on.

    Latency is measured for the network only, and is None while something is training.

    Raises:
        UserError: there is no such network.
    """
    amounts = [(name, percent) for name, percent in config.percents.items() if percent]
    if config.int8 != "off":
        amounts.append(("int8", quantization.INT8.index(config.int8)))
    chain = tuple(tuple(amounts[:count]) for count in range(len(amounts) + 1))
    source = _mnist().source
    times = _timed(config.network, chain, batch, source) if not shared.manager().busy() else [{}] * len(chain)
    lines = []
    for role in whole(config.network).networks:
        for done, took in zip(chain, times):
            took = took if role == "student" else {}
            lines.append(
                {
                    **_row(config.network, role, done, source),
                    "seconds": took.get("median"),
                    "iqr": took.get("iqr"),
                    "done": done,
                }
            )
    return lines
