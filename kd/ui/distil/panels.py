"""The pieces of the main area that several pages show."""

from __future__ import annotations

import base64
import contextlib
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator
from torch import Tensor

from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.grid import AXES, GridConfig
from kd.config.imported import ImportConfig
from kd.config.mistake import MistakeConfig
from kd.config.schemes import SCHEMES
from kd.config.search import SearchConfig
from kd.config.study import StudyConfig
from kd.config.teacher import TeacherConfig
from kd.errors import UserError
from kd.figures import training
from kd.jobs import manager
from kd.jobs.manager import Snapshot
from kd.metrics.size import network_size
from kd.models import diagrams, registry
from kd.objectives import METHODS
from kd.objectives.mistakes import MISTAKES
from kd.store import checkpoints, runs
from kd.ui.charts import broadcast
from kd.ui.charts.chart import live_chart, live_charts, packed
from kd.ui.charts.inline_svg import picture
from kd.ui.shell import session_keys, state, url_state, visitor

MARKS = training.Roles({"teacher": "◆", "student": "●", "control": "▲"}, other="■")
STREAMLIT_COLOURS = training.Roles({"teacher": "blue", "student": "orange", "control": "gray"}, other="green")


def kilobytes(count: int) -> str:
    return f"{count / 1024:,.0f} KB"


def macs(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count < 10e6 else f"{count / 1e6:.1f} M"


def ratio(part: float, whole: float) -> str:
    """ "1/73" or "×2.7": how ``part`` compares with ``whole``."""
    return f"1/{whole / part:.0f}" if part * 1.5 < whole else f"×{part / whole:.1f}"


def cost(architecture: str, teacher: str) -> str:
    """One line on what a student costs beside its teacher."""
    ours, theirs = network_size(architecture), network_size(teacher)
    return (
        f"{ours.parameters:,} weights, {kilobytes(ours.bytes)} ({ratio(ours.bytes, theirs.bytes)} of the teacher's), "
        f"{macs(ours.macs)} multiplications an image ({ratio(ours.macs, theirs.macs)})"
    )


def networks(config: DistilConfig | TeacherConfig) -> None:
    """The layers of teacher and student side by side, on one scale; of several teachers one below the other."""
    shown = {"teacher": config.teacher}
    if isinstance(config, DistilConfig):
        shown = {"student": config.student}
        with contextlib.suppress(UserError):  # a teacher that is gone is told above
            shown = {"teacher": state.manager().teacher(config.teacher).architecture} | shown
    for (who, joined), column in zip(shown.items(), st.columns(2, gap="large")):
        other = next((other.split("+")[0] for other in shown.values() if other != joined), None)
        with column:
            for i, name in enumerate(dict.fromkeys(joined.split("+"))):
                size = network_size(name)
                st.markdown(f":{STREAMLIT_COLOURS[who]}[{MARKS[who]} {who}] **{name}**")
                picture(diagrams.svg(name, training.COLOURS[who], other), f"network_{who}{i or ''}")
                st.caption(
                    f"{registry.architecture(name).purpose} {size.parameters:,} weights, {kilobytes(size.bytes)}, "
                    f"{macs(size.macs)} multiplications an image."
                )
    st.caption(
        "An image passes from top to bottom; the last ten numbers are the logits, one for each digit. The more numbers a layer gives "
        "for one image, the wider its bar: as their square root."
    )


def students_table(teacher: str) -> None:
    """All students and what they cost, before any training."""
    theirs = network_size(teacher)
    rows = []
    for name in [teacher, *registry.students()]:
        ours = network_size(name)
        rows.append(
            {
                "network": f"{name} (teacher)" if name == teacher else name,
                "what it is": "Several networks, whose answers are averaged."
                if "+" in name
                else registry.architecture(name).purpose,
                "weights": ours.parameters,
                "size": kilobytes(ours.bytes),
                "multiplications": macs(ours.macs),
                "share": "" if name == teacher else ratio(ours.macs, theirs.macs),
            }
        )
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        column_config={
            "weights": st.column_config.NumberColumn(format="localized"),
            "multiplications": st.column_config.TextColumn(
                help="Multiplications (with addition) to classify one image."
            ),
            "share": st.column_config.TextColumn(help="Its multiplications as a share of the teacher's."),
        },
    )


def progress(snap: Snapshot) -> None:
    """Where the run is, in a bar and one line."""
    st.progress(*progress_line(snap))


def progress_line(snap: Snapshot) -> tuple[float, str]:
    """How much of the run is done, as a share and in a line."""
    last = snap.rows[-1] if snap.rows else None
    share = last["step"] / snap.steps if last and snap.steps else 0.0
    parts = []
    if snap.state == "queued":
        parts.append(
            f"Waiting: {snap.place - 1} before this one" if snap.place > 1 else "Waiting: next in line"
        )
    elif snap.state == "running" and last is None:
        parts.append("Starting…")
    if last:
        parts.append(
            f"{share:.0%} of the {runs.WHOLES[snap.kind]}"
            if snap.kind in runs.WHOLES
            else f"epoch {last['epoch']:.2f} of {snap.config.total_epochs}"
        )
        if snap.active:
            parts.append(f"{last['images_per_second']:,.0f} images/s")
            if snap.state == "running":
                parts.append(f"{last['seconds'] / max(share, 1e-9) * (1 - share):.0f} s left")
        else:
            parts.append(f"{last['seconds']:.1f} s of training")
            found = snap.measures.get("models", {})
            tested = [
                f"{name} {found[name]['test_accuracy']:.2%}"
                for name in ("student", "mistaken", "control", "teacher")
                if name in found
            ]
            parts.append(
                f"{'test set' if snap.source == 'full' else 'held-out images'}: {', '.join(tested)}"
                if tested
                else ""
            )
    if snap.settings and snap.active:
        parts.append(_settings(snap.settings))
    label = {
        "running": "Training",
        "paused": "Paused",
        "done": "Finished",
        "stopped": "Stopped",
        "failed": "Failed",
        "interrupted": "Interrupted",
        "elsewhere": "Training elsewhere",
    }.get(snap.state)
    if snap.active:
        parts.append(snap.message)
    return min(1.0, share), " · ".join(filter(None, [label, *parts]))


def outcome(snap: Snapshot) -> None:
    """How the run ended, where there is something to say of it."""
    if snap.message and not snap.active:
        loud = snap.state == "failed" or "not saved" in snap.message
        quiet = snap.message == manager.BY_HAND or snap.message.startswith(runs.FROM_SWEEP)
        (st.error if loud else st.caption if quiet else st.warning)(snap.message)


def _settings(settings: Mapping[str, float]) -> str:
    """ "T = 4, soft weight = 0.9" """
    return ", ".join(f"{training.short(name)} = {value:g}" for name, value in settings.items())


def _charts(
    snap: Snapshot, teacher_accuracy: float | None, label: str, news: Mapping[str, Any] | None = None
) -> bytes:
    """Both charts as they are sent."""
    shown = [c for c in snap.changes if not snap.rows or c[0] <= snap.rows[-1]["step"]]
    last = snap.rows[-1] if snap.rows else {}
    said = training.last_accuracies(snap.rows)
    losses = ", ".join(
        f"{key.removeprefix('loss ')} {value:.3g}"
        for key, value in last.items()
        if key.startswith("loss ") and value
    )
    epochs = snap.config.total_epochs
    loss, accuracy = (
        training.loss(snap.rows, epochs, shown),
        training.accuracy(snap.rows, epochs, shown, teacher_accuracy),
    )
    for figure in (loss, accuracy):
        figure["layout"]["title"]["text"] += label
    return packed(
        {
            "chart_loss": (
                loss,
                f"Loss of each model over {epochs} epochs{label}: {losses or 'nothing measured yet'}.",
            ),
            "chart_accuracy": (
                accuracy,
                f"Accuracy on validation images{label}: {said or 'nothing measured yet'}.",
            ),
        },
        news,
    )


@st.cache_resource(max_entries=64, show_spinner=False)
def _charts_once(
    run_id: str, version: int, teacher_accuracy: float | None, label: str, _snap: Snapshot
) -> bytes:
    """The same, made once for all who look at the run."""
    return _charts(_snap, teacher_accuracy, label)


def _level(snap: Snapshot) -> float | None:
    """The teacher's accuracy, where the charts show it."""
    if snap.kind not in ("distil", "compress"):
        return None
    return state.teacher_level(
        state.find_teacher(snap.config.teacher).name, state.manager().source.mnist().source
    )


def charts(snap: Snapshot, label: str = "") -> None:
    """Loss and accuracy, in place. ``label`` stands behind their titles."""
    live_charts(_charts_once(snap.id, snap.version, _level(snap), label, snap), "charts")


def follow(snap: Snapshot) -> None:
    """Progress and charts of a run that somebody else has under way, as all see it who only watch. They go on by themselves,
    since the browser fetches what is new; when the run comes to another state, the fragment runs again.
    """
    level = _level(snap)

    def drawn(now: Snapshot, **more: str) -> bytes:
        share, text = progress_line(now)
        news = {
            "version": now.version,
            "state": f"{now.state}{', saved' * now.saved}",
            "every": now.pace,
            "progress": {"share": share, "text": text},
        }
        return _charts(now, level, "", news | more)

    live_charts(
        drawn(snap, follow=broadcast.address(state.manager(), snap, drawn)), "charts", on_turn=lambda: None
    )


def side_by_side(both: bool) -> tuple[DeltaGenerator, DeltaGenerator]:
    """Where the charts and the digit go: below each other, and on a stage beside each other where there are both, to be seen at once."""
    left, right = (
        st.columns([8, 5], gap="medium")
        if both and url_state.presenting()
        else (st.container(), st.container())
    )
    return left, right


def discard(snap: Snapshot) -> None:
    """A button by which the owner of an interrupted run deletes what is kept of it, after a question."""

    def confirmed() -> None:
        try:
            checkpoints.discard(snap.id, visitor.token())
            if st.session_state.get(session_keys.RUN) == snap.id:
                st.session_state[session_keys.RUN] = None
            state.notify("success", "The interrupted run was discarded.")
        except UserError as error:
            state.notify("error", str(error))

    with st.popover("Discard", icon=":material/delete:"):
        st.write("Discard what is kept of this run? It cannot be resumed then.")
        st.button("Discard it", key="discard", type="primary", on_click=confirmed)


def results(snap: Snapshot) -> None:
    """The outcome on the test set: student beside control beside teacher."""
    if not snap.measures:
        return
    found: Mapping[str, Mapping[str, float]] = snap.measures["models"]
    sample = snap.source == "sample"
    count = snap.measures["test_images"]
    st.header("Result" if not sample else "Result on the 1,000 held-out images", anchor=False)
    names = sorted(found, key=training.order)
    for column, name in zip(st.columns(len(names)), names):
        model = found[name]
        with column:
            st.metric(
                f":{STREAMLIT_COLOURS[name]}[{MARKS[name]}] {name}",
                f"{model['test_accuracy']:.2%}",
                help="Share of the test images that it classifies right.",
            )
            st.caption(
                f"{model['test_errors']:,.0f} errors in {count:,}"
                + (f"; agrees with the teacher on {model['agreement']:.2%}" if name != "teacher" else "")
            )
    if {"student", "control"} <= found.keys():  # a chain that was stopped early has one alone
        st.caption(_verdict(found["student"]["test_errors"], found["control"]["test_errors"], snap))


def _verdict(student: float, control: float, snap: Snapshot) -> str:
    """What the difference between student and control is worth."""
    chance = 2 * math.sqrt(max(1.0, student + control))
    gap = control - student
    same = "The control had the same initial weights and the same batches, but only the labels."
    if snap.kind == "compress":
        same = "Both began as the same compressed network and saw the same batches, but the control only with the labels."
    elif snap.config.initialization == "teacher":
        same += " Both began with the teacher's layers, so the gap is what its answers add to them; what the layers bring shows in a run with random initial weights."
    if abs(gap) <= chance:
        verdict = f"A gap of {abs(gap):.0f} errors is within chance (up to about {chance:.0f} here): try other seeds before believing it."
    else:
        verdict = f"The student made {abs(gap):.0f} {'fewer' if gap > 0 else 'more'} errors, beyond what chance explains (about {chance:.0f})."
    seconds = f" Training both took {snap.measures['seconds']:.1f} s."
    return f"{same} {verdict}{seconds}"


def answer_bars(logits: Mapping[str, Tensor], temperature: float, key: str) -> None:
    """The models' answers to one picture: a headline, and bars that move in place."""
    said = []
    for name, values in logits.items():
        shares = values.double().softmax(0)
        digit = int(shares.argmax())
        said.append(f":{STREAMLIT_COLOURS[name]}[{MARKS[name]} {name}] **{digit}** ({shares[digit]:.0%})")
    st.markdown(" &nbsp; ".join(said))
    plain = ", ".join(f"{name} says {int(values.argmax())}" for name, values in logits.items())
    live_chart(training.bars(logits, temperature), key, f"Probabilities of the ten digits: {plain}.")


def not_a_digit() -> None:
    st.warning(
        "This does not look like a digit. The teacher's features of it are farther from every class than those of 99% of the "
        "validation digits; a small network cannot tell, and answers anyway."
    )


def model_view(pixels: np.ndarray) -> None:
    """The 28x28 picture that the models see, enlarged without smoothing."""
    # In the page itself: a file of its own may be gone before a slow browser asks for it, since each stroke makes another.
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    source = base64.b64encode(content.getvalue()).decode()
    st.html(
        f'<img width="140" height="140" style="image-rendering: pixelated" alt="The picture as the models see it" src="data:image/png;base64,{source}">'
    )
    st.caption("What the models see: 28×28")


def run_title(snap: Snapshot) -> str:
    config = snap.config
    if isinstance(config, StudyConfig):
        return f"a sweep over {config.study}: {config.student} taught by {state.teacher_name(config.teacher)}, T = {config.temperature:g}, {config.seeds} seeds"
    if isinstance(config, GridConfig):
        axes = "; ".join(
            f"{GridConfig.setting(name)['label'].lower()} {getattr(config, name).replace(',', ', ')}"
            for name in AXES
            if name != "labels" or config.labels != "0"
        )
        return f"{axes}; taught by {state.teacher_name(config.teacher)}, {config.seeds} seed{'s' if config.seeds > 1 else ''} from {config.seed}, {config.epochs} epoch{'s' if config.epochs > 1 else ''}"
    if isinstance(config, SearchConfig):
        labels = f"{config.labels:,} labels, " if config.labels else ""
        return (
            f"a search among {config.methods.replace(',', ', ')} and their settings: {config.student} taught by {state.teacher_name(config.teacher)}, {labels}"
            f"up to {config.trials} trials of {config.epochs} epoch{'s' if config.epochs > 1 else ''}, seed {config.seed}"
        )
    if isinstance(config, CompressConfig):
        network = state.teacher_name(config.network)
        taken = ", ".join(
            f"{CompressConfig.setting(name)['label'].lower()} −{percent}%"
            for name, percent in config.percents.items()
            if percent
        )
        return (
            f"{network}: {taken}{'' if config.int8 == 'off' else f', int8 {config.int8}'}; recovery with {state.teacher_name(config.teacher)}, "
            f"{_settings({'temperature': config.temperature, 'soft_weight': config.soft_weight})}, "
            f"{f'{config.labels:,}' if config.labels else 'all'} labels, {config.epochs} epochs, seed {config.seed}"
        )
    if isinstance(config, ImportConfig):
        return f"{config.network}, trained elsewhere and imported as a {config.role}"
    if isinstance(config, MistakeConfig):
        return (
            f"{config.student} taught by {state.teacher_name(config.teacher)} with a mistake ({MISTAKES[config.mistake].title}), "
            f"T = {config.temperature:g}, soft weight {config.soft_weight:g}, "
            f"{f'{config.labels:,}' if config.labels else 'all'} labels, {config.epochs} epochs, seed {config.seed}"
        )
    if isinstance(config, DistilConfig):
        more = [
            *(f"{name} {getattr(config, name)}" for name in SCHEMES[config.scheme].settings),
            "begun with the teacher's layers" if config.initialization == "teacher" else "",
            f"no {', '.join(config.omitted)}" if config.omitted else "",
            f"{config.labels:,} labels" if config.labels else "",
            f"{config.label_noise:.0%} of the labels wrong" if config.label_noise else "",
            config.augmentation if config.augmentation != "none" else "",
            "SGD" if config.optimizer == "sgd" else "",
        ]
        method = METHODS[config.method]
        scheme = SCHEMES[config.scheme]
        taught = (
            f"taught by {state.teacher_name(config.teacher)}"
            if method.teacher and scheme.teacher
            else "without a teacher"
        )
        return ", ".join(
            [
                f"{config.student} {taught}: {method.title}"
                + (f", {scheme.title.lower()}" if config.scheme != "teacher" else ""),
                _settings({name: getattr(config, name) for name in method.settings}),
                *filter(None, more),
                f"seed {config.seed}",
            ]
        )
    return f"{config.teacher} trained from labels, augmentation {config.augmentation}, seed {config.seed}"
