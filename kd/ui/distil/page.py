"""The Distil page: settings, buttons, the run with its charts, your digit and the result."""

from __future__ import annotations

import streamlit as st

from kd import paths, permissions
from kd.config.base import Config
from kd.data.task import MNIST
from kd.errors import UserError
from kd.jobs.snapshot import Snapshot
from kd.ui.distil import networks, room, settings
from kd.ui.drawing.your_digit import your_digit
from kd.ui.run import curves, progress, replaying, results, snapshots, teachers, titles
from kd.ui.run.run_view import RunView
from kd.ui.shell import layout, notices, present, session_keys, shared, url_state, visitor

VIEW = RunView(
    session_keys.RUN,
    "",
    lambda kind: kind.page == "distil",
    "a run",
    elsewhere=lambda kind: f"This run {kind.elsewhere}.",
)


def open_run(id: str, config: Config) -> None:
    """Go to this page and show a run and its settings."""
    settings.show_run(id)
    st.switch_page(paths.page("distil"))


def show() -> None:
    """Draw the whole page."""
    if recording := replaying.chosen():
        replaying.show(recording)
        return
    mode = settings.restore()
    with st.container():
        snap = VIEW.find()
        notices.show()  # what was wrong with the link
    if VIEW.brings_settings(snap):
        mode = st.session_state[session_keys.MODE] = snap.kind
        settings.adopt(snap.config, mode)
    with st.sidebar:
        _mode_switch(mode, VIEW.mine(snap))
        config = settings.draw(mode, VIEW.mine(snap), _change_live)
    _intro(mode)
    _buttons(snap, config)
    with st.container():
        _head(snap, config, mode)
    _body(snap, config, mode)
    if config is not None:
        settings.write_link(config, mode, st.session_state[session_keys.RUN])


def _mode_switch(mode: str, locked: bool) -> None:
    st.session_state[session_keys.MODE_WIDGET] = mode
    st.segmented_control(
        "What to do",
        ["distil", "teacher"],
        key=session_keys.MODE_WIDGET,
        disabled=locked,
        on_change=_switch_mode,
        width="stretch",
        format_func={"distil": "Distil", "teacher": "Train a teacher"}.get,
        label_visibility="collapsed",
    )


def _switch_mode() -> None:
    st.session_state[session_keys.MODE] = st.session_state[session_keys.MODE_WIDGET] or "distil"
    st.session_state[session_keys.RUN] = None


def _change_live(name: str) -> None:
    VIEW.command(shared.manager().change, name, settings.FORMS["distil"].values[name])


def _intro(mode: str) -> None:
    if mode == "distil":
        st.title("Watch a small network learn from a big one", anchor=False)
        intro = (
            "Press **Start**. The student copies the teacher's full answer – 'a 7, but a bit like a 1'. An "
            "identical network (the control) only gets the correct label. Which learns better? Draw a digit "
            "and watch both networks change their answer."
        )
    else:
        st.title("Train a teacher from scratch", anchor=False)
        intro = (
            "Press **Start**: a network learns MNIST from its labels. When it has finished, choose it as "
            "the teacher under *Distil*. This takes several minutes; you only need to do it once."
        )
    if not url_state.presenting():  # on stage the presenter says it
        st.markdown(intro)


# -- buttons -----------------------------------------------------------------------------


def _buttons(snap: Snapshot | None, config: Config | None) -> None:
    """Draw Start, Pause or Resume, then Step, Stop and Reset."""
    mine, interrupted = VIEW.mine(snap), VIEW.interrupted(snap)
    startable = config is not None and permissions.allowed(visitor.digest())
    with st.container(horizontal=True):
        if mine or interrupted:
            VIEW.pause_button(snap)
        elif st.button(
            "Start",
            key="start",
            type="primary",
            icon=":material/play_arrow:",
            shortcut=present.key("S"),
            disabled=not startable,
        ):
            _start(config, snap, False)
        _step_button(snap, config, startable)
        VIEW.stop_button(snap, "Ends training, then measures and stores the networks as they are now.")
        st.button(
            "Reset",
            key="reset",
            icon=":material/restart_alt:",
            disabled=snap is None,
            on_click=VIEW.forget,
            help=(
                "Clears the page for a new run. An active run is stopped, and stored if it has finished an "
                "epoch; an interrupted one stays on the Runs page."
            ),
        )
        if interrupted:
            progress.discard_button(snap)
        present.offer()


def _step_button(snap: Snapshot | None, config: Config | None, startable: bool) -> None:
    paused = VIEW.mine(snap) and snap.state == "paused"
    # A callback runs before the rest of the page: on a busy server a click on Resume may already be waiting.
    stepped = st.button(
        "Step",
        key="step",
        icon=":material/skip_next:",
        shortcut=present.key("T"),
        disabled=not startable or (snap is not None and not paused),
        help="One optimizer step, on one batch.",
        on_click=_step if snap is not None else None,
    )
    if stepped and snap is None:  # after the end it does nothing: a key must not replace a finished run
        _start(config, None, True)


def _step() -> None:
    VIEW.command(shared.manager().step)
    # A click on Resume right after this may be part of the same script run, before or after it.
    if st.session_state.get("resume"):
        VIEW.command(shared.manager().resume)


def _start(config: Config | None, shown: Snapshot | None, one_step: bool) -> None:
    """Start a run; the curves of the finished run ``shown`` stay behind its own."""
    if config is not None:
        VIEW.start(config, one_step)
        if shown is not None and not shown.active:
            st.session_state[session_keys.PREVIOUS] = (st.session_state[session_keys.RUN], shown.id)
        st.rerun()


def _previous(snap: Snapshot) -> Snapshot | None:
    """Return the finished run that this visitor saw when starting ``snap``; None if there was none."""
    started, before = st.session_state.get(session_keys.PREVIOUS, (None, None))
    if started != snap.id or before == snap.id:
        return None
    try:
        found = snapshots.find(before)
    except UserError:  # deleted meanwhile
        return None
    return found if found.kind == snap.kind else None


# -- the run -----------------------------------------------------------------------------


def _head(snap: Snapshot | None, config: Config | None, mode: str) -> None:
    """Show which run it is and how it ended; before a run, what the student costs."""
    if snap is not None:
        VIEW.watching(snap)
        st.caption(titles.title(snap))
        progress.outcome(snap)
        if url_state.presenting() and snap.state in ("failed", "interrupted"):
            st.info("To go on with your talk, press **L**: it replays the last run that finished.")
        VIEW.save_button(snap)
        return
    room.show()
    if config is not None and mode == "distil":
        teacher = teachers.find(config.teacher).architecture
        st.caption(f"**{config.student}** has {networks.cost(config.student, teacher)}.")


def _body(snap: Snapshot | None, config: Config | None, mode: str) -> None:
    """Show charts, your digit, the result and the networks."""
    # Containers keep the canvas and its strokes in place while other elements come and go.
    charts_at, digit_at = layout.side_by_side(mode == "distil")
    introduced = url_state.presenting() and snap is None and config is not None and mode == "distil"
    with charts_at:
        if snap is not None:
            previous = _previous(snap)
            VIEW.follow(snap, lambda now: curves.show(now, previous=previous), spectate=curves.follow)
        elif introduced:  # half a screen would be empty until Start
            networks.layers(config)
    with digit_at:
        if mode == "distil":
            teacher = snap.config.teacher if snap else config.teacher if config else MNIST.teacher
            your_digit(snap, teacher, config.temperature if config else 1.0)
    if snap is not None:
        results.show(snap)
    if config is None:
        return
    if not introduced:
        st.header("Layer by layer", anchor=False)
        networks.layers(config)
    if mode == "distil" and snap is None:
        st.header("The students, and what they cost", anchor=False)
        networks.students_table(teachers.find(config.teacher).architecture)
