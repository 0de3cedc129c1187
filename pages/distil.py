"""Choose teacher, student and temperature, and watch the student learn beside its control."""

import streamlit as st

from kd import permissions
from kd.config.kinds import KINDS
from kd.data.task import MNIST
from kd.errors import UserError
from kd.ui.charts.watch import watch
from kd.ui.distil import controls, networks
from kd.ui.drawing.your_digit import your_digit
from kd.ui.runs import curves, progress, replaying, results, snapshots, teachers, titles
from kd.ui.shell import layout, notices, present, session_keys, shared, url_state, visitor

if recording := replaying.wanted():
    replaying.show(recording)
    st.stop()
manager = shared.manager()
mode = controls.restore()
run_id = snapshots.shown_run()
try:
    snap = snapshots.find(run_id)
    if snap is not None and KINDS[snap.kind].page != "distil":
        raise UserError(f"This run {KINDS[snap.kind].elsewhere}.")
except UserError as error:
    notices.notify("error", str(error))
    run_id = snap = st.session_state[session_keys.RUN] = None
if snap is not None and st.session_state.get(session_keys.ADOPTED) != snap.id:
    # A run opened from the list brings its settings along.
    mode = st.session_state[session_keys.MODE] = snap.kind
    controls.adopt(snap.config, mode)
    st.session_state[session_keys.ADOPTED] = snap.id
with st.container():
    notices.show()  # what was wrong with the link
active, mine = snap is not None and snap.active, snap is not None and snap.mine
may = permissions.allowed(visitor.digest())
interrupted = mine and snap.state == "interrupted" and not snap.saved


def command(what, *arguments) -> None:
    """Gives a command to the shown run; what cannot be done is said in a sentence."""
    try:
        what(run_id, visitor.token(), *arguments)
    except UserError as error:
        notices.notify("error", str(error))


def step() -> None:
    command(manager.step)
    if st.session_state.get(
        "resume"
    ):  # clicked right after, and told to the same run of the page, in whatever order
        command(manager.resume)


def change_live(name: str) -> None:
    command(manager.change, name, st.session_state[session_keys.setting("distil", name)])


def start(config, one_step: bool) -> None:
    try:
        new = manager.start(config, visitor.token(), one_step)
        if one_step:
            manager.step(new, visitor.token())
        st.session_state[session_keys.RUN] = st.session_state[session_keys.ADOPTED] = new
    except UserError as error:
        notices.notify("error", str(error))
    st.rerun()


def reset() -> None:
    if active and mine:
        command(manager.stop)
    st.session_state[session_keys.RUN] = None


def switch_mode() -> None:
    st.session_state[session_keys.MODE] = st.session_state[session_keys.MODE_WIDGET] or "distil"
    st.session_state[session_keys.RUN] = None


with st.sidebar:
    st.session_state[session_keys.MODE_WIDGET] = mode
    st.segmented_control(
        "What to do",
        ["distil", "teacher"],
        key=session_keys.MODE_WIDGET,
        disabled=active and mine,
        on_change=switch_mode,
        width="stretch",
        format_func={"distil": "Distil", "teacher": "Train a teacher"}.get,
        label_visibility="collapsed",
    )
    config = controls.settings(mode, active and mine, change_live)

if mode == "distil":
    st.title("Watch a small network learn from a big one", anchor=False)
    intro = (
        "Press **Start**: the student learns to answer like the teacher, doubts included, while its control, an identical network, "
        "learns from the labels alone. Draw a digit below and watch both minds change."
    )
else:
    st.title("Train a teacher from scratch", anchor=False)
    intro = (
        "Press **Start**: a network learns MNIST from its labels. When it has finished, choose it as the teacher under *Distil a student*. "
        "This takes minutes, which is what distillation asks for once."
    )
if not url_state.presenting():  # there somebody says it
    st.markdown(intro)

with st.container(horizontal=True):
    if interrupted or (active and mine and snap.state == "paused"):
        st.button(
            "Resume",
            key="resume",
            type="primary",
            icon=":material/play_arrow:",
            shortcut=present.key("P"),
            on_click=command,
            args=(manager.resume,),
        )
    elif active and mine:
        st.button(
            "Pause",
            key="pause",
            icon=":material/pause:",
            shortcut=present.key("P"),
            on_click=command,
            args=(manager.pause,),
        )
    else:
        wanted = st.button(
            "Start",
            key="start",
            type="primary",
            icon=":material/play_arrow:",
            shortcut=present.key("S"),
            disabled=config is None or not may,
        )
        if wanted and config is not None:
            start(config, False)
    # Commanded before anything of the page is run again: on a busy server a click on Resume may follow that soon.
    stepped = st.button(
        "Step",
        key="step",
        icon=":material/skip_next:",
        shortcut=present.key("T"),
        disabled=config is None
        or not may
        or interrupted
        or (active and not (mine and snap.state == "paused")),
        help="One optimizer step, on one batch.",
        on_click=step if active else None,
    )
    if stepped and not active:
        start(config, True)
    st.button(
        "Stop",
        key="stop",
        icon=":material/stop:",
        disabled=not (active and mine),
        on_click=command,
        args=(manager.stop,),
        help="Ends training; what was learned is measured and stored.",
    )
    st.button(
        "Reset",
        key="reset",
        icon=":material/restart_alt:",
        disabled=snap is None,
        on_click=reset,
        help="Clears the page for a new run. A run under way is stopped and stored, an interrupted one stays on the Runs page.",
    )
    if interrupted:
        progress.discard_button(snap)
    present.offer()
with st.container():
    if active and not mine:
        st.info(
            "You are watching a run that somebody else started; only they can pause or stop it."
            + (" Press Start for one of your own." if may else "")
        )
    if snap is not None:
        st.caption(titles.title(snap))
        progress.outcome(snap)
        if url_state.presenting() and snap.state in ("failed", "interrupted"):
            st.info("The talk goes on: press **L** to replay the last run that finished.")
        if mine and not snap.saved and snap.state in ("done", "stopped") and snap.rows:
            if st.button("Save again", key="save_again"):
                command(manager.save_again)
                st.rerun()
    elif config is not None and mode == "distil":
        st.caption(
            f"**{config.student}** has {networks.cost(config.student, teachers.find(config.teacher).architecture)}."
        )


def live() -> None:
    """All that changes while a run goes on, and nothing else: each element costs every viewer's tick."""
    try:
        now = snapshots.find(run_id) if active else snap
    except UserError as error:
        notices.notify("error", str(error))
        st.session_state[session_keys.RUN] = None
        st.rerun()
    if (now.state, now.saved) != (snap.state, snap.saved):
        st.rerun()
    if now.followed:
        curves.follow(now)
    else:
        progress.bar(now)
        curves.show(now)


# Containers, so that the canvas stays where it is, strokes and all, whatever comes and goes.
charts_at, digit_at = layout.side_by_side(mode == "distil")
introduced = url_state.presenting() and snap is None and config is not None and mode == "distil"
with charts_at:
    if snap is not None:
        watch(snap, live, snap.followed)
    elif introduced:  # half a screen would be empty until Start
        networks.layers(config)
with digit_at:
    if mode == "distil":
        wanted = snap.config.teacher if snap else config.teacher if config else MNIST.teacher
        your_digit(snap, wanted, config.temperature if config else 1.0)
if snap is not None:
    results.show(snap)
if config is not None:
    if not introduced:
        st.header("Layer by layer", anchor=False)
        networks.layers(config)
    if mode == "distil" and snap is None:
        st.header("The students, and what they cost", anchor=False)
        networks.students_table(teachers.find(config.teacher).architecture)
    controls.write_link(config, mode, run_id)
