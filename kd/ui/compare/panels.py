"""The parts of the Compare page: measuring, the picture, and a closer look at runs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import streamlit as st

from kd import permissions
from kd.config.glossary import TERMS
from kd.errors import UserError
from kd.evaluation import comparison, speeds
from kd.figures import training
from kd.figures.comparison import article, confusion, overlaid, pareto
from kd.metrics import latency
from kd.store import runs
from kd.teachers import catalogue
from kd.ui.charts.chart import live_chart, live_charts, packed
from kd.ui.compare import table
from kd.ui.compare.table import NUMBERS, Measures
from kd.ui.run import curves, snapshots, teachers
from kd.ui.shell import notices, session_keys, shared, visitor
from kd.ui.shell.escape import plain

MOST = 4  # runs in one chart
TOLD = 0.5  # seconds between updates of the progress bar, so that they do not disturb what is timed

# -- measuring ---------------------------------------------------------------------------


def queue(ids: list[str]) -> None:
    """Queue these runs for measuring. Use as a callback, so that no rerun discards the queue."""
    if not permissions.allowed(visitor.digest()):
        notices.notify("error", permissions.ONLY.format("measure runs"))
    elif shared.manager().busy():
        notices.notify(
            "warning",
            "Something is training on this machine, so latency cannot be measured reliably. Try again when "
            "it has finished.",
        )
    else:
        st.session_state[session_keys.MEASURE] = list(ids)


def expected(stored: list[runs.Run], measured: Measures) -> str:
    """Return about how long it takes to measure runs, in words."""
    names = {comparison.teacher_of(run) for run in stored}
    architectures = [run.architecture for run in stored] + [teachers.architecture(name) for name in names]
    evaluated = [run.architecture for run in stored if run.id not in measured for _ in run.models]
    images = len(shared.manager().source.mnist().test)
    return speeds.duration(speeds.expected_seconds(architectures, evaluated, images))


def cancel() -> None:
    """Forget the queue. As a callback: the rerun that it comes with ends the measurement."""
    st.session_state.pop(session_keys.MEASURE, None)
    notices.notify("info", "The measurement was cancelled. What was measured before is kept.")


def measure(stored: list[runs.Run], place: st.delta_generator.DeltaGenerator) -> None:
    """Measure the queued runs together, and store the result with each."""
    queued = st.session_state.get(session_keys.MEASURE)
    if not queued:
        return
    bar = place.progress(0.0)
    place.button("Cancel", key="measure_cancel", icon=":material/close:", on_click=cancel)
    told = 0.0

    def progress(share: float, what: str) -> None:
        nonlocal told
        if time.monotonic() - told >= TOLD:
            bar.progress(share, f"{plain(what)}…")  # ends the script here if the viewer cancels or leaves
            told = time.monotonic()

    try:
        _, problems = comparison.measure(
            [run for run in stored if run.id in queued],
            shared.manager().source.mnist(),
            lambda run: teachers.find(comparison.teacher_of(run)),
            progress=progress,
            disturbed=shared.manager().busy,
        )
        names = {run.id: run.name for run in stored}
        if problems:
            notices.notify("error", " ".join(f"{names[id]}: {error}" for id, error in problems.items()))
    except UserError as error:
        notices.notify("error", str(error))
    st.session_state.pop(session_keys.MEASURE, None)
    st.rerun()


# -- all runs -----------------------------------------------------------------------------


def picture(stored: list[runs.Run], measured: Measures, batch: int, threads: int) -> None:
    """Show accuracy against latency, and what the students gain."""
    shown = comparison.points(
        {run.id: (run.name, measured[run.id]) for run in stored if run.id in measured}, batch, threads
    )
    if not shown:
        return
    spoken = "; ".join(
        f"{point.role} {point.name} {1e3 * point.seconds:.3g} ± {500 * point.iqr:.2g} ms, "
        f"{point.accuracy:.2%}"
        for point in comparison.frontier(shown)
    )
    live_chart(pareto(shown, batch), "pareto", f"Accuracy against latency. Pareto front: {spoken}.")
    machines = {measures["machine"] for measures in measured.values()}
    st.caption(
        f"Measured on: {'; '.join(sorted(machines))}. The area of a mark is proportional to the network's "
        f"size in bytes; a horizontal line through it is the interquartile range. Dashed line: the Pareto "
        f"front. {TERMS['Pareto front']}"
    )
    headline, *prices = table.gains(stored, measured, batch, threads) or [""]
    if not headline:
        st.markdown(
            "No student is clearly faster than its teacher with these settings: the times vary too much, or "
            "were not measured together. Measure again when nothing else runs on the machine."
        )
    else:
        st.markdown(headline)
        st.markdown("\n".join(f"- {price}" for price in prices))


# -- one run --------------------------------------------------------------------------------


def details(run: runs.Run, stored: list[runs.Run], measured: Measures) -> None:
    """Show one run: its latencies, confusion matrices, and training curves next to its teacher's.

    Measuring it again measures all ``stored`` runs, so that their times can be compared.
    """
    st.header(plain(run.name), anchor=False)
    measures = measured.get(run.id)
    st.button(
        "Measure again" if measures else "Measure",
        key="measure_one",
        icon=":material/timer:",
        on_click=queue,
        args=([run.id for run in stored],),
    )
    if measures:
        st.dataframe(
            table.latencies(measures),
            hide_index=True,
            width="stretch",
            column_config={
                name: st.column_config.NumberColumn(format=NUMBERS[name][0])
                for name in ("ms", "± ms", "images/s")
            },
        )
        st.caption(
            f"Measured {_when(measures)}, on {measures['machine']}; medians of "
            f"{latency.ROUNDS} alternating rounds, ± half the interquartile range."
        )
        charts = {}
        for role, model in measures["models"].items():
            if role != "teacher" or run.kind == "teacher":
                errors = ", ".join(
                    f"{digit}: {count}" for digit, count in enumerate(model["errors_by_class"])
                )
                label = f"Errors of the {role} by digit: {errors}."
                charts[f"confusion_{role}"] = (confusion(model["confusion"], role), label)
        live_charts(packed(charts), "confusions")
    if run.kind == "distil":
        learned, again = _curve(run.config.teacher)
        if learned:
            loss, accuracy = article(learned, run.metrics())
            st.markdown(
                "Teacher and student, epoch by epoch. Their losses measure different things: the student's "
                "is mostly its distance from the teacher."
            )
            spoken = (
                f"the teacher's run ends at {training.last_accuracies(learned)}, the student's at "
                f"{training.last_accuracies(run.metrics())}."
            )
            live_charts(
                packed(
                    {
                        "article_loss": (loss, "Training loss of teacher and student by epoch."),
                        "article_accuracy": (accuracy, f"Validation accuracy by epoch: {spoken}"),
                    }
                ),
                "article",
            )
            if again:
                st.caption(again)
        else:
            curves.show(snapshots.find(run.id))


def _when(measures: Mapping[str, Any]) -> str:
    """Return when the latencies of a run's networks were measured."""
    times = sorted({model["latency_when"] for model in measures["models"].values()})
    return " and ".join(time[:16].replace("T", " ") for time in times)


def _curve(name: str) -> tuple[list[dict[str, float]], str]:
    """Return a teacher's training curve, epoch by epoch, and a caveat about it.

    Both are empty if the curve is unknown or there are several teachers. The caveat is for a curve that was
    recorded in a different training run than the one that produced the teacher's weights.
    """
    try:
        if runs.is_id(name):
            return runs.load(name).metrics(), ""
        about = catalogue.describe(name) if name in catalogue.shipped() else {}
    except UserError:
        return [], ""
    if "curve_weights_sha256" not in about:
        return about.get("curve", []), ""
    return about["curve"], (
        "The teacher's curve comes from a second training with the same recipe, which ended with "
        f"{about['curve_validation_errors']} errors on the {about['validation_images']:,} validation images; "
        f"the shipped teacher makes {about['validation_errors']}."
    )


# -- several runs ---------------------------------------------------------------------------


def overlay(chosen: list[runs.Run]) -> None:
    """Show several runs in one chart, and the settings in which they differ."""
    pair = chosen[:MOST]
    st.header(" and ".join(plain(run.name) for run in pair), anchor=False)
    try:
        curves = {
            f"{i}. {run.name}": (run.metrics(), run.config.total_epochs) for i, run in enumerate(pair, 1)
        }
        spoken = "; ".join(
            f"{name} ends at {training.last_accuracies(rows)}" for name, (rows, _) in curves.items()
        )
        live_chart(
            overlaid(curves),
            "overlaid",
            f"Validation accuracy of the chosen runs, each with its control: {spoken}.",
        )
    except UserError as error:
        st.error(plain(error))
    st.dataframe(
        table.differing_settings(pair) or [{"setting": "They have the same settings."}],
        hide_index=True,
        width="stretch",
    )
    if len(chosen) > len(pair):
        st.caption(f"Only the first {len(pair)} ticked runs are shown.")
