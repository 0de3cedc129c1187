"""Runs as pages see them: in training, stored or interrupted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import streamlit as st
import torch
from torch import Tensor, nn

from kd.device import training_device
from kd.jobs.queue import STOPPED
from kd.jobs.snapshot import Snapshot
from kd.models import inference
from kd.store import checkpoints, runs
from kd.ui.shell import notices, session_keys, shared, url_state, visitor
from kd.ui.shell.escape import plain

T = TypeVar("T")


@st.cache_resource(max_entries=12, show_spinner=False)
def stored_model(run_id: str, which: str) -> nn.Module:
    """Return a stored run's "student", "control" or "teacher", in eval mode."""
    return runs.load(run_id).model(which)


def shown_run() -> str | None:
    """Return the id of the run to show, from this session or else from the link."""
    if session_keys.RUN not in st.session_state:
        linked = st.query_params.get("run")
        st.session_state[session_keys.RUN] = linked if runs.is_id(linked) else None
        if len(url_state.own()) > 1:  # the link's own settings take precedence over those of the run
            st.session_state[session_keys.ADOPTED] = linked
        if linked and not runs.is_id(linked):
            notices.notify(
                "error",
                "This link does not contain a valid run id. Start a run of your own, or choose one on the "
                "Runs page.",
            )
    return st.session_state[session_keys.RUN]


def find(run_id: str | None) -> Snapshot | None:
    """Return a run as it is now, whether it is training, stored or interrupted.

    Raises:
        UserError: the run is none of these.
    """
    if run_id is None:
        return None
    live = in_memory(run_id)
    if live is not None:
        return dataclasses.replace(live, message=plain(live.message)) if live.message else live
    if checkpoints.exists(run_id):
        return _from_checkpoint(checkpoints.load(run_id, state=False))
    return of_stored(runs.load(run_id))


def in_memory(run_id: str) -> Snapshot | None:
    """Return a run as the worker knows it; None if it does not, or if what it stored was deleted since."""
    live = shared.manager().snapshot(run_id, visitor.token())
    if live is None or live.active:
        return live
    if live.state == "interrupted":
        return live if checkpoints.exists(run_id) else None
    return None if live.saved and not runs.exists(run_id) else live


def of_stored(run: runs.Run) -> Snapshot:
    """Return a stored run as a snapshot."""
    rows = tuple(run.metrics())
    message = run.message or {"done": "", "interrupted": "The server stopped during this run."}.get(
        run.state, STOPPED
    )
    if message.startswith("Stopped "):  # the wording of earlier versions
        message = STOPPED
    message = plain(message)
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
        command = "The command stopped or failed during this run."
        server = "The server stopped or failed during this run, or nobody was watching it."
        where = kept.about.position(last["epoch"], kept.config.total_epochs)
        message = f"{command if kept.owner is None else server} Saved up to {where}. "
        if mine:
            message += (
                "**Resume** continues from there with the run's own settings, and reaches the same weights "
                "as an uninterrupted run."
            )
        elif kept.owner is None:
            message += f"To continue: `python -m kd {kept.kind} --resume {kept.id}`"
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


def read_models(snap: Snapshot, read: Callable[[nn.Module], T]) -> dict[str, T]:
    """Return the result of ``read`` for the current student and control; empty until they exist."""
    live = shared.manager().look(snap.id, read)
    if live or not snap.saved:
        return live
    with torch.inference_mode():
        return {
            which: read(stored_model(snap.id, which))
            for which in ("student", "control")
            if which in runs.load(snap.id).models
        }


def logits(snap: Snapshot, inputs: Tensor) -> dict[str, Tensor]:
    """Return logits (N, 10) of a run's current student and control; empty until they exist."""
    return read_models(
        snap, lambda model: inference.logits_in_chunks(model, inputs.to(training_device()), 512).cpu()
    )
