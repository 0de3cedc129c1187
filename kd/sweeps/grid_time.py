"""How long a grid will take, from a moment's training of each kind of its groups on this machine."""

from __future__ import annotations

import math
import time
from typing import Any

from kd.config.grid import GridConfig
from kd.config.search import SearchConfig
from kd.data.digits import Mnist
from kd.experiments.base import Distillation
from kd.sweeps.grid import Group, groups, start

MOMENT = 0.3  # seconds of training that are measured of each kind of group
STRETCH = 4  # steps between two looks at the clock
MAX_KINDS = 8
FRESH = 60.0  # seconds after which it is measured again: the machine may have had other work then
_measured: dict[tuple, tuple[float, float]] = {}  # kind -> seconds of a step, and when they were measured


def known(config: GridConfig) -> bool:
    """Whether seconds() would measure nothing."""
    return all(kind in _measured for kind in _kinds(config))


def seconds(config: GridConfig, mnist: Mnist, teacher: Any, again: bool = True) -> float | None:
    """About how long the grid takes if nothing else runs; None where its groups are of too many kinds to measure.

    Args:
        again: measure once more what is no longer fresh, since nothing trains that would be held up; the fastest counts.

    Raises:
        UserError: the settings do not fit the data.
    """
    kinds = _kinds(config)
    if len(kinds) > MAX_KINDS:
        return None
    judged = (
        ((config.epochs + 1) * len(mnist.validation) + len(mnist.test)) / config.batch_size / 2
    )  # in steps: without the way back
    steps = config.epochs * math.ceil(len(mnist.train) / config.batch_size) + judged
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
    """About how long a trial of a search takes at most; ``again`` as for seconds(), None where nothing is known and nothing may be measured.

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
        step = moment(run, len(mnist.glance) / config.batch_size)  # student and control, without the way back
        _measured[kind] = min(step, _measured.get(kind, (math.inf, 0.0))[0]), time.monotonic()
    if kind not in _measured:
        return None
    steps = (
        config.epochs * math.ceil(len(mnist.train) / config.batch_size)
        + config.epochs * len(mnist.validation) / config.batch_size
    )
    return _measured[kind][0] * steps


def _kinds(config: GridConfig) -> dict[tuple, list[Group]]:
    """Groups that take as long: of one network and size, with as many images a batch."""
    found: dict[tuple, list[Group]] = {}
    for group in groups(config):
        its = group.cells[0].config
        method = its.method if len(group.cells) == 1 and not group.cells[0].control else ""
        found.setdefault(
            (its.student, len(group.cells), method, its.batch_size, min(its.labels, its.batch_size)), []
        ).append(group)
    return found


def _step(group: Group, mnist: Mnist, teacher: Any) -> float:
    """Seconds of an optimizer step: the fastest of some short stretches, since others that use the machine only make it slower.

    The first steps, which are slower anyway, are not counted.
    """
    judging = (
        len(mnist.glance) / group.cells[0].config.batch_size / 2
    )  # that each record takes, in steps: without the way back
    return moment(start(group, mnist, teacher), judging)


def moment(training: Any, judging: float) -> float:
    """Seconds of an optimizer step of ``training``, of which a moment is trained.

    Args:
        judging: what each record takes, in steps.
    """
    before, fastest, until = None, math.inf, time.monotonic() + MOMENT
    for record in training.records(lambda step: step % STRETCH == 0):
        if before:
            fastest = min(fastest, (record.seconds - before.seconds) / (record.step - before.step + judging))
        if before and time.monotonic() > until:
            return fastest
        before = record
    return min(fastest, before.seconds / before.step)
