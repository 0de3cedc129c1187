"""Estimate how long a sweep or a trial will take, from a short training on this machine."""

from __future__ import annotations

import math
import time
from typing import Any

from kd.config.search import SearchConfig
from kd.config.sweep import SweepConfig
from kd.data.digits import Mnist
from kd.experiments.distil import Distillation
from kd.sweeps.sweep_cells import Group, groups
from kd.sweeps.sweep_groups import start
from kd.training.loop import Record

MOMENT = 0.3  # seconds of training that are measured for each kind of group
STRETCH = 4  # steps between two readings of the clock
MAX_KINDS = 8
FRESH = 60.0  # seconds until a measurement is repeated: the machine may have been busy at the time
_measured: dict[tuple, tuple[float, float]] = {}  # kind -> seconds per step, and when it was measured


def known(config: SweepConfig) -> bool:
    """Return whether seconds() can answer without measuring."""
    return all(kind in _measured for kind in _kinds(config))


def seconds(config: SweepConfig, mnist: Mnist, teacher: Any, again: bool = True) -> float | None:
    """Estimate how long a sweep takes, in seconds, if nothing else runs.

    Args:
        config: the sweep.
        mnist: the data.
        teacher: the teacher, as for sweep_groups.start().
        again: whether old measurements may be repeated; the fastest counts. False while something trains,
            which this would slow down.

    Returns:
        The seconds, or None if the sweep has too many kinds of groups to measure.

    Raises:
        UserError: the settings do not fit the data.
    """
    kinds = _kinds(config)
    if len(kinds) > MAX_KINDS:
        return None
    # Evaluations in steps: they have no backward pass, which is half of a step.
    evaluation = ((config.epochs + 1) * len(mnist.validation) + len(mnist.test)) / config.batch_size / 2
    steps = config.epochs * math.ceil(len(mnist.train) / config.batch_size) + evaluation
    total = 0.0
    for kind, same in kinds.items():
        if kind not in _measured or again and time.monotonic() - _measured[kind][1] > FRESH:
            _measured[kind] = (
                min(_step(same[0], mnist, teacher), _measured.get(kind, (math.inf, 0.0))[0]),
                time.monotonic(),
            )
        total += _measured[kind][0] * steps * len(same)
    return total


def trial(config: SearchConfig, mnist: Mnist, teacher: Any, again: bool = True) -> float | None:
    """Estimate how long a trial of a search takes at most, in seconds.

    Args:
        config: the search.
        mnist: the data.
        teacher: the teacher.
        again: as for seconds().

    Returns:
        The seconds, or None if nothing is known and nothing may be measured.

    Raises:
        UserError: the settings do not fit the data.
    """
    kind = (
        "trial",
        config.student,
        config.methods.split(",")[0],
        config.batch_size,
        min(config.labels, config.batch_size),
    )
    if again and (kind not in _measured or time.monotonic() - _measured[kind][1] > FRESH):
        run = Distillation(config.distillation({"method": config.methods.split(",")[0]}), mnist, teacher)
        # An evaluation reads student and control, without the backward pass.
        step = moment(run, len(mnist.glance) / config.batch_size)
        _measured[kind] = min(step, _measured.get(kind, (math.inf, 0.0))[0]), time.monotonic()
    if kind not in _measured:
        return None
    steps = (
        config.epochs * math.ceil(len(mnist.train) / config.batch_size)
        + config.epochs * len(mnist.validation) / config.batch_size
    )
    return _measured[kind][0] * steps


def _kinds(config: SweepConfig) -> dict[tuple, list[Group]]:
    """Return the groups that take equally long: one network and size, with as many images per batch."""
    kinds: dict[tuple, list[Group]] = {}
    for group in groups(config):
        first = group.cells[0]
        settings = first.config
        method = settings.method if len(group.cells) == 1 and not first.control else ""
        key = (
            settings.student,
            len(group.cells),
            method,
            settings.batch_size,
            min(settings.labels, settings.batch_size),
        )
        kinds.setdefault(key, []).append(group)
    return kinds


def _step(group: Group, mnist: Mnist, teacher: Any) -> float:
    """Return the seconds per optimizer step of a group.

    This is the fastest of some short stretches, because other load on the machine only slows it
    down. The first steps are slower and do not count.
    """
    evaluation = len(mnist.glance) / group.cells[0].config.batch_size / 2  # has no backward pass
    return moment(start(group, mnist, teacher), evaluation)


def moment(training: Any, evaluation: float) -> float:
    """Train for a moment and return the seconds per optimizer step.

    Args:
        training: a Training or an experiment.
        evaluation: the cost of the evaluation for each record, in steps.
    """
    before: Record | None = None
    fastest, until = math.inf, time.monotonic() + MOMENT
    for record in training.records(lambda step: step % STRETCH == 0):
        if before:
            steps = record.step - before.step + evaluation
            fastest = min(fastest, (record.seconds - before.seconds) / steps)
            if time.monotonic() > until:
                return fastest
        before = record
    assert before is not None, "a training yields at least one record"
    return min(fastest, before.seconds / before.step)
