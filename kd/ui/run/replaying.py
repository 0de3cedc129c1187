"""The Distil page while it replays a stored run. Nothing trains, and the worker is not used."""

from __future__ import annotations

import dataclasses
import time

import streamlit as st

from kd.errors import UserError
from kd.jobs.snapshot import TICK, Snapshot
from kd.store import replay, runs
from kd.ui.drawing.your_digit import your_digit
from kd.ui.run import curves, results, snapshots, titles
from kd.ui.shell import layout, notices, present, session_keys, url_state, visitor


def begin(id: str, playing: bool) -> None:
    """Make the Distil page show a run's replay when it is next opened.

    Raises:
        UserError: it cannot be replayed.
    """
    player = replay.Player(replay.load(id).length)
    st.session_state[session_keys.REPLAY] = id
    st.session_state[session_keys.PLAYER] = player.play(time.monotonic()) if playing else player


def begin_last() -> bool:
    """Replay the last finished run, as a fallback when a live training fails on stage.

    Returns:
        Whether it can be replayed; if not, a notice says why.
    """
    try:
        begin(replay.last_finished(runs.owner_digest(visitor.token())), playing=True)
        return True
    except UserError as error:
        notices.notify("error", str(error))
        return False


def chosen() -> replay.Recording | None:
    """Return the recording to replay, initially the one in the link; None if there is none.

    A notice says why a recording cannot be replayed.
    """
    if session_keys.REPLAY not in st.session_state:
        st.session_state[session_keys.REPLAY] = None
        if linked := st.query_params.get(url_state.REPLAY):
            try:
                begin(linked, playing=False)
            except UserError as error:
                notices.notify("error", str(error))
    if st.session_state[session_keys.REPLAY] is None:
        return None
    try:
        return replay.load(st.session_state[session_keys.REPLAY])
    except UserError as error:  # it has just been deleted
        notices.notify("error", str(error))
        leave()
        return None


def leave() -> None:
    st.session_state[session_keys.REPLAY] = None


def _player() -> replay.Player:
    return st.session_state[session_keys.PLAYER]


def _move(how: str, *arguments: float) -> None:
    """Replace the player with the one that its method ``how`` returns."""
    st.session_state[session_keys.PLAYER] = getattr(_player(), how)(*arguments, time.monotonic())


def _step(recording: replay.Recording) -> None:
    """Move to the next record, and pause there."""
    _move("pause")
    _move("seek", recording.next(_player().at))


def _from_widget(how: str, widget: str) -> None:
    if st.session_state[widget] is not None:
        _move(how, st.session_state[widget])


def show(recording: replay.Recording) -> None:
    """Draw the whole page."""
    with st.container():
        notices.show()
    with st.container(key="kd_replay"):
        _show(recording, snapshots.of_stored(recording.run))
    url_state.write({url_state.REPLAY: recording.run.id})


def _show(recording: replay.Recording, snap: Snapshot) -> None:
    label, about = f"Replay of a run recorded on {recording.day}", titles.title(snap)
    still = "These are stored measurements; nothing is training now."
    if url_state.presenting():  # large enough for the last row, and in one line
        st.title(f":material/history: {label}", anchor=False)
        caption = f"{about}. {still}"
    else:
        st.title("Watch a recorded run again", anchor=False)
        st.warning(f"**{label}.** {still}", icon=":material/history:")
        caption = f"{label}: {about}"
    playing, ended = _player().playing(time.monotonic()), _player().ended(time.monotonic())
    _buttons(recording, playing)
    st.caption(caption)
    charts_at, digit_at = layout.side_by_side(recording.run.about.leaves_student)

    def live() -> None:
        if playing and _player().ended(time.monotonic()):
            st.rerun()
        now = _player().position(time.monotonic())
        _progress(recording, snap, now)
        curves.show(_as_of(recording, snap, now), " (replay)")

    with charts_at:
        st.fragment(live, run_every=TICK if playing else None)()
    if recording.run.about.leaves_student:
        with digit_at:
            waiting = (
                "Student and control answer at the end of the replay: only their final weights are stored."
            )
            st.caption(
                waiting
                if not ended
                else "Student and control answer with the weights stored at the end of the run."
            )
            your_digit(snap if ended else None, snap.config.teacher, snap.config.temperature, waiting)
    if ended:
        results.show(snap)


def _buttons(recording: replay.Recording, playing: bool) -> None:
    player, now = _player(), time.monotonic()
    begun = 0 < player.position(now) < player.length
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if playing:
            st.button(
                "Pause",
                key="replay_pause",
                icon=":material/pause:",
                shortcut=present.key("P"),
                on_click=_move,
                args=("pause",),
            )
        else:
            st.button(
                "Resume" if begun else "Play",
                key="replay_play",
                type="primary",
                icon=":material/play_arrow:",
                shortcut=present.key("P" if begun else "S"),
                on_click=_move,
                args=("play",),
            )
        st.button(
            "Step",
            key="replay_step",
            icon=":material/skip_next:",
            shortcut=present.key("T"),
            disabled=player.ended(now),
            on_click=_step,
            args=(recording,),
            help="Moves to the next measurement.",
        )
        st.session_state["replay_speed"] = player.speed
        st.segmented_control(
            "Speed",
            replay.SPEEDS,
            key="replay_speed",
            format_func=lambda speed: f"{speed:g}×",
            required=True,
            on_change=_from_widget,
            args=("at_speed", "replay_speed"),
            label_visibility="collapsed",
        )
        st.session_state["replay_seek"] = round(player.position(now), 2)
        st.slider(
            "Go to, in seconds of training",
            0.0,
            max(0.01, round(player.length + 0.005, 2)),
            key="replay_seek",
            format="%.1f s",
            width=240,
            label_visibility="collapsed",
            on_change=_from_widget,
            args=("seek", "replay_seek"),
        )
        st.button("Leave the replay", key="replay_leave", icon=":material/close:", on_click=leave)
        present.offer()


def _as_of(recording: replay.Recording, snap: Snapshot, seconds: float) -> Snapshot:
    """Return the run as it was after ``seconds`` of training."""
    rows = recording.until(seconds)
    # Another id, because other charts are cached for the run itself.
    return dataclasses.replace(snap, id=f"replay of {snap.id}", version=len(rows), rows=rows)


def _progress(recording: replay.Recording, snap: Snapshot, seconds: float) -> None:
    rows = recording.until(seconds)
    epoch = (
        f"epoch {rows[-1]['epoch']:.2f} of {snap.config.total_epochs}"
        if rows
        else f"{snap.config.total_epochs} epochs"
    )
    st.progress(
        min(1.0, seconds / max(recording.length, 1e-9)),
        f"Replay at {_player().speed:g}× · {epoch} · {seconds:.1f} s of {recording.length:.1f} s of training",
    )
