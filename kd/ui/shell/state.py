"""What all sessions share, and how a page finds the run that it shows."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeVar

import streamlit as st
import torch
from torch import Tensor, nn

from kd.data import digits, sources
from kd.device import training_device
from kd.drawing import familiarity
from kd.errors import UserError
from kd.jobs.manager import BY_HAND, JobManager, Snapshot
from kd.models import inference
from kd.store import checkpoints, runs
from kd.teachers import catalogue
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.ui.shell import session_keys, url_state, visitor
from kd.ui.shell.escape import plain

# Seconds after which a thread that runs Python makes way for another. A page's script gets its turn at each operation of
# the training; the training had to wait 5 ms for each turn of its own. Measured on two crowded cores with a thread that runs
# Python all the time: training keeps 45% of its speed instead of 27%, and no more with an even shorter interval.
SWITCH = 0.0005

T = TypeVar("T")


@st.cache_resource(show_spinner="Loading the teacher and MNIST…")
def manager() -> JobManager:
    """The process's one job manager, with its data source."""
    sys.setswitchinterval(SWITCH)
    return JobManager(sources.Source())


@st.cache_resource(max_entries=12, show_spinner=False)
def stored_model(run_id: str, which: str) -> nn.Module:
    """A stored run's "student", "control" or "teacher", in eval mode."""
    return runs.load(run_id).model(which)


def distinct(names: Mapping[str, str]) -> dict[str, str]:
    """The names of runs, by id, with the time of their start where several are alike: a select box knows an option by its words alone."""
    found = dict(names)
    for tell in (
        lambda id: f"{id[:4]}-{id[4:6]}-{id[6:8]} {id[9:11]}:{id[11:13]}:{id[13:15]}",
        lambda id: id[-4:],
    ):
        count = Counter(found.values())
        found = {id: f"{name}, {tell(id)}" if count[name] > 1 else name for id, name in found.items()}
    return found


def measured_before(load: Callable[[], T | None]) -> T | None:
    """A table that was measured and stored; None where there is none. A damaged one is told in a sentence."""
    try:
        return load()
    except UserError as error:
        st.error(plain(error))
        return None


def notify(kind: str, sentence: str) -> None:
    """Keeps a sentence, which is shown as it stands, without Markdown, to be shown once, after the rerun that follows. ``kind``: error, warning, success or info."""
    st.session_state[session_keys.NOTICE] = (kind, sentence)


def show_notice() -> None:
    if notice := st.session_state.pop(session_keys.NOTICE, None):
        kind, sentence = notice
        getattr(st, kind)(plain(sentence))


def shown_run() -> str | None:
    """The id of the run on show: from this session, else from the link."""
    if session_keys.RUN not in st.session_state:
        linked = st.query_params.get("run")
        st.session_state[session_keys.RUN] = linked if runs.is_id(linked) else None
        if len(url_state.own()) > 1:  # the link has settings of its own, which stay
            st.session_state[session_keys.ADOPTED] = linked
        if linked and not runs.is_id(linked):
            notify(
                "error",
                "The link's run is not a run's id; start a run of your own or choose one from the Runs page.",
            )
    return st.session_state[session_keys.RUN]


def snapshot(run_id: str | None) -> Snapshot | None:
    """A run as it is now, whether it is training, stored or unfinished.

    Raises:
        UserError: the run is none of these.
    """
    if run_id is None:
        return None
    live = manager().snapshot(run_id, visitor.token())
    if live is not None:
        return dataclasses.replace(live, message=plain(live.message)) if live.message else live
    if checkpoints.exists(run_id):
        return _from_checkpoint(checkpoints.load(run_id, state=False))
    return snapshot_of(runs.load(run_id))


def snapshot_of(run: runs.Run) -> Snapshot:
    """A stored run as it is on the disk."""
    rows = tuple(run.metrics())
    message = run.message or {"done": "", "interrupted": "This run was cut short by the server's end."}.get(
        run.state, BY_HAND
    )
    per_epoch = rows[-1]["step"] / rows[-1]["epoch"] if rows else 0
    return Snapshot(
        id=run.id,
        kind=run.kind,
        config=run.config,
        state=run.state,
        message=message,
        place=0,
        mine=run.owner == runs.owner_digest(visitor.token()),
        version=-1,
        rows=rows,
        steps=round(per_epoch * run.config.total_epochs),
        changes=getattr(run.config, "schedule", ()),
        settings={},
        saved=True,
        measures=run.measures,
        source=run.measures.get("source"),
    )


def _from_checkpoint(kept: checkpoints.Checkpoint) -> Snapshot:
    last = kept.rows[-1]
    mine = kept.owner is not None and kept.owner == runs.owner_digest(visitor.token())
    if elsewhere := checkpoints.in_training(kept.id):
        message = f"{checkpoints.ELSEWHERE} This is its last checkpoint; reload the page for a newer one."
    else:
        what = "command" if kept.owner is None else "server"
        where = (
            f"{last['epoch']:.0%} of the {runs.WHOLES[kept.kind]}"
            if kept.kind in runs.WHOLES
            else f"epoch {last['epoch']:.2f} of {kept.config.total_epochs}"
        )
        message = f"This run was interrupted by the {what}'s end or by an error. It is kept as of {where}. "
        if mine:
            message += "**Resume** goes on from there with its own settings, to the same weights as if nothing had happened."
        elif kept.owner is None:
            message += (
                f"To go on: `python -m kd {runs.COMMANDS.get(kept.kind, kept.kind)} --resume {kept.id}`"
            )
        else:
            message += "Only the person who started it can resume it."
    return Snapshot(
        id=kept.id,
        kind=kept.kind,
        config=kept.config,
        state="elsewhere" if elsewhere else "interrupted",
        message=message,
        place=0,
        mine=mine,
        version=-1 - int(last["step"]),
        rows=tuple(kept.rows),
        steps=round(last["step"] / last["epoch"] * kept.config.total_epochs),
        changes=getattr(kept.config, "schedule", ()),
        settings={},
        saved=False,
        measures={},
        source=None,
    )


def look(snap: Snapshot, read: Callable[[nn.Module], T]) -> dict[str, T]:
    """What ``read`` gives for a run's student and control as they are now; empty where they have not begun."""
    live = manager().look(snap.id, read)
    if live or not snap.saved:
        return live
    with torch.inference_mode():
        return {
            which: read(stored_model(snap.id, which))
            for which in ("student", "control")
            if which in runs.load(snap.id).models
        }


def said(snap: Snapshot, inputs: Tensor) -> dict[str, Tensor]:
    """Logits (N, 10) of a run's student and control as they are now; empty where they have not begun."""
    return look(
        snap, lambda model: inference.logits_in_chunks(model, inputs.to(training_device()), 512).cpu()
    )


@dataclasses.dataclass(frozen=True)
class Answers:
    """What each model says of one picture: raw logits (10,), by "teacher", "student", "control"."""

    logits: dict[str, Tensor]
    is_digit: bool  # False where the teacher's features are like those of no digit


def answers(pixels, snap: Snapshot | None, teacher_name: str) -> Answers:
    """Teacher, student and control on one picture.

    Args:
        pixels: (28, 28) uint8.
        snap: the run whose student and control answer, or None for the teacher alone.
    """
    inputs = digits.normalize(torch.from_numpy(pixels).unsqueeze(0))
    taught, is_digit = _teacher_says(teacher_name, inputs, pixels.tobytes())
    logits = {"teacher": taught}
    if snap is not None and snap.kind in runs.WITH_STUDENT:
        logits |= said(snap, inputs)
    return Answers({name: value[0] for name, value in logits.items()}, is_digit)


@st.cache_resource(show_spinner=False, max_entries=64)
def _teacher_says(teacher_name: str, _inputs: Tensor, picture: bytes) -> tuple[Tensor, bool]:
    """The teacher's logits (1, 10), and whether it looks like a digit to it. Kept, since while a student learns the
    same picture is asked about several times a second, and the teacher costs the most."""
    inputs = _inputs.to(training_device())
    said = inference.logits_in_chunks(manager().teacher(teacher_name).model, inputs).cpu()
    return said, bool(familiar(teacher_name).knows(inputs)[0])


@st.cache_resource(show_spinner=False, max_entries=4)
def familiar(teacher_name: str) -> familiarity.Familiar:
    """Tells what looks like a digit to the teacher, of several the first; its limit is set on validation images."""
    found = manager().teacher(teacher_name.split("+")[0])
    return familiarity.Familiar(found.model, manager().source.mnist().validation)


@st.cache_data(show_spinner=False, max_entries=12)
def teacher_level(teacher: str, source: str) -> float:
    """The share of the validation images of ``source`` that a teacher classifies right."""
    return manager().teacher(teacher).accuracy(manager().source.mnist().to(training_device()).validation)


def teachers() -> dict[str, str]:
    """The teachers to choose from: name or run id -> what to call it."""
    found = {name: f"{name} (shipped)" for name in catalogue.shipped()}
    for run in runs.list_runs()[0]:
        if "teacher" in run.models and run.measures:
            found[run.id] = f"{run.name}, {run.measures['models']['teacher']['test_accuracy']:.2%}"
    return distinct(found)


def teacher_name(name: str) -> str:
    """What to call a teacher in a sentence: a shipped one's name, or the name of the run that trained it; several joined by and."""
    if "+" in name:
        return " and ".join(map(teacher_name, name.split("+")))
    try:
        return plain(runs.load(name).name if runs.is_id(name) else name)
    except UserError:
        return plain(name)


def find_teacher(name: str) -> CachedTeacher | MeanTeacher:
    """The teacher called ``name``; where that one is gone or damaged a shipped one, with a notice.

    Raises:
        UserError: no teacher can be loaded.
    """
    try:
        return manager().teacher(name)
    except UserError as error:
        for other in catalogue.shipped():
            with contextlib.suppress(UserError):
                found = manager().teacher(other)
                st.warning(f"{plain(error)} The shipped teacher {other} answers instead.")
                return found
        raise
