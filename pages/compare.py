"""Stored runs against each other: what each network costs, how well it does, and which to choose."""

from __future__ import annotations

from typing import Any

import streamlit as st
import torch

from kd import access, compare, compare_figures, runs, speed, teacher
from kd.errors import UserError
from kd.ui import entry, keys, owner, panels, state
from kd.ui.chart import live_chart, live_charts, packed
from kd.ui.text import plain

entry.through_app()
st.title("Compare", anchor=False)
st.markdown(
    "A model is deployed for its **latency** and **size** as well as its **accuracy**. Here all three are measured of each stored run, on this machine and on the test "
    "set, teacher and student in alternating rounds and each in its quickest form. Tick one run to look closer, or two to lay them over each other."
)
found = [run for run in runs.list_runs()[0] if run.kind not in runs.IN_LAB and run.measures]
if not found:
    st.info("There is nothing to compare yet. Each run that finishes on the **Distil** page appears here.")
    st.page_link("pages/distil.py", label="Distil a student", icon=":material/school:")
    st.stop()
measured = {run.id: measures for run in found if (measures := compare.stored(run))}


def want(ids: list[str]) -> None:
    """Lets these runs be measured. A callback, since a rerun that follows at once would undo what a click itself says."""
    if not access.allowed(owner.digest()):
        state.notify("error", access.ONLY.format("measure runs"))
    elif state.manager().active():
        state.notify("warning", "Something trains on this machine, so that no time measured now could be trusted. Measure when it has ended.")
    else:
        st.session_state[keys.MEASURE] = list(ids)


def measure() -> None:
    """Measures what is wanted, one run after the other, and keeps what came out with each."""
    wanted = st.session_state[keys.MEASURE]
    bar, count = place.progress(0.0), len(wanted)
    while wanted:
        run = next((run for run in found if run.id == wanted[0]), None)
        if run is not None:
            bar.progress(1 - len(wanted) / count, f"Measuring {plain(run.name)}" + (f", {len(wanted) - 1} to go" if len(wanted) > 1 else ""))
            try:
                compare.measured(run, state.manager().source.mnist(), state.find_teacher(compare.teacher_of(run)))
            except UserError as error:
                state.notify("error", f"{run.name}: {error}")
        wanted.pop(0)
    st.rerun()


def curve_of(name: str) -> list[dict[str, float]]:
    """How a teacher learned, epoch by epoch; empty where that is not known, or where there are several."""
    try:
        if runs.is_id(name):
            return runs.load(name).metrics()
        return teacher.describe(name).get("curve", []) if name in teacher.shipped() else []
    except UserError:
        return []


def kilobytes(count: int | None) -> float | None:
    return None if count is None else round(count / 1024, 1)


def row(run: runs.Run) -> dict[str, Any]:
    """A line of the table; what was not measured is empty."""
    role = run.models[0]
    settings = run.config.to_dict()
    line: dict[str, Any] = {
        "run": run.name, "network": run.architecture, "method": settings.get("method", {"teacher": "labels", "compress": "compressed"}.get(run.kind, "imported")), "T": settings.get("temperature"),
        "accuracy": run.measures["models"][role]["test_accuracy"],
    }
    measures = measured.get(run.id)
    model = measures["models"][role] if measures else {}
    took = compare.latency(model, batch, threads) if model else None
    exported = compare.latency(model, batch, threads, speed.ONNX) if model else None
    worth = compare.verdict(measures, batch, threads) if measures else None
    line |= {
        "± 95%": (model["interval"][1] - model["interval"][0]) / 2 if model else None,
        "control": run.measures["models"].get("control", {}).get("test_accuracy"),
        "ms": 1e3 * took["median"] if took else None, "± ms": 500 * took["iqr"] if took else None, "images/s": took["images_per_second"] if took else None,
        "ONNX ms": 1e3 * exported["median"] if exported else None, "× teacher's speed": worth["faster"] if worth else None, "points lost": worth["points"] if worth else None,
        "weights": model.get("parameters"), "multiplications": model.get("macs"), "file KB": kilobytes(model.get("file_bytes")),
        "memory KB": kilobytes(model.get("memory")), "agreement": run.measures["models"][role].get("agreement"), "ECE": model.get("ece"),
        "epochs": run.config.epochs, "seed": settings.get("seed"), "data": run.measures.get("source", ""),
    }
    return line


with st.container(horizontal=True, vertical_alignment="bottom"):
    batch = st.segmented_control("Images at once", speed.BATCHES, default=1, required=True, key="compare_batch", help="1 is an answer to one person; 256 is a queue.")
    counts = sorted({1, torch.get_num_threads()})
    threads = st.segmented_control("Threads", counts, default=counts[-1], required=True, key="compare_threads", help="Processor cores that an answer may use.")
    missing = [run for run in found if run.id not in measured]
    st.button(
        f"Measure {len(missing)} new" if missing else "All are measured", key="measure", type="primary" if missing else "secondary", icon=":material/timer:",
        disabled=not missing, on_click=want, args=([run.id for run in missing],),
        help="Some seconds a run. Nothing else should run on the machine.",
    )
place = st.empty()  # of the progress bar; what was measured before stays on the page below it
state.show_notice()
percent = st.column_config.NumberColumn(format="percent")
numbers = {
    "ms": ("%.3g", "Milliseconds for a batch, median."), "± ms": ("%.2g", "Half the interquartile range."), "images/s": ("%d", None),
    "ONNX ms": ("%.3g", "The same by ONNX Runtime, of the exported file, which also normalizes."),
    "× teacher's speed": ("%.1f", "The teacher's time over the student's, each in its quickest form."), "points lost": ("%.2f", "Percent of the test images."),
    "weights": ("localized", None), "multiplications": ("compact", "To classify one image."), "file KB": ("%d", "On disk, safetensors."),
    "memory KB": ("%d", "Weights, and the most that one layer reads and writes for one image."), "ECE": ("percent", "Expected calibration error."),
}
table = st.dataframe(
    [row(run) for run in found], hide_index=True, width="stretch", on_select="rerun", selection_mode="multi-row", key="compare_table",
    column_config={"accuracy": percent, "± 95%": percent, "control": percent, "agreement": percent}
    | {name: st.column_config.NumberColumn(format=form, help=help) for name, (form, help) in numbers.items()},
)
chosen = [found[place] for place in table.selection.rows if place < len(found)]
st.caption("The table's own buttons search it, hide columns and download it as CSV; a click on a heading sorts. Accuracies are on the test set, on which nothing was chosen.")

shown = compare.points({run.id: (run.name, measured[run.id]) for run in found if run.id in measured}, batch, threads)
if shown:
    spoken = "; ".join(f"{point.role} {point.name} {1e3 * point.seconds:.3g} ms, {point.accuracy:.2%}" for point in compare.frontier(shown))
    live_chart(compare_figures.pareto(shown, batch), "pareto", f"Accuracy against time. None beats: {spoken}.")
    worth = {run.id: compare.verdict(measured[run.id], batch, threads) for run in found if run.id in measured}
    worth = {id: found for id, found in worth.items() if found and found["faster"] > 1}
    if worth:
        by_points = sorted(worth, key=lambda id: (worth[id]["points"], -worth[id]["faster"]))
        best = next((id for id in by_points if worth[id]["points"] >= 0), by_points[0])
        quickest = max((id for id in worth if worth[id]["points"] <= 1), key=lambda id: worth[id]["faster"], default=None)
        for id in dict.fromkeys(filter(None, [best, quickest])):
            of, run = worth[id], next(run for run in found if run.id == id)
            st.markdown(
                f"**{run.architecture}** ({plain(run.name)}) takes **{of['less_time']:.0%} less time** than its teacher, {of['faster']:.1f} times as fast, for "
                f"**{of['points']:.2f} points** of accuracy, and is {of['smaller']:.2g} times smaller. The article: {compare.ARTICLE}."
            )
    machines = {measures["machine"] for measures in measured.values()}
    st.caption(f"Measured on: {'; '.join(sorted(machines))}. A mark's area is its size in bytes; a line joins the networks that none beats.")

if len(chosen) == 1:
    run = chosen[0]
    st.subheader(plain(run.name), anchor=False)
    measures = measured.get(run.id)
    st.button("Measure again" if measures else "Measure", key="measure_one", icon=":material/timer:", on_click=want, args=([run.id],))
    if measures:
        st.dataframe(
            [
                {"network": who, "images at once": at["batch"], "threads": at["threads"], "run by": at["runtime"], "ms": 1e3 * at["median"], "± ms": 500 * at["iqr"],
                 "images/s": at["images_per_second"], "in its quickest form": at["form"]}
                for who, model in measures["models"].items() for at in model["latency"]
            ],
            hide_index=True, width="stretch", column_config={name: st.column_config.NumberColumn(format=numbers[name][0]) for name in ("ms", "± ms", "images/s")},
        )
        st.caption(f"Measured {measures['when'][:16].replace('T', ' ')}, on {measures['machine']}; medians of {speed.ROUNDS} alternating rounds, and half the interquartile range.")
        live_charts(
            packed({
                f"confusion_{who}": (
                    compare_figures.confusion(model["confusion"], who),
                    f"Errors of the {who} by digit: {', '.join(f'{digit}: {count}' for digit, count in enumerate(model['errors_by_class']))}.",
                )
                for who, model in measures["models"].items() if who != "teacher" or run.kind == "teacher"
            }), "confusions",
        )
    if run.kind == "distil":
        learned = curve_of(run.config.teacher)
        if learned:
            loss, accuracy = compare_figures.article(learned, run.metrics())
            st.markdown("Teacher and student, epoch by epoch. Their losses measure different things: the student's is mostly its distance from the teacher.")
            live_charts(packed({"article_loss": (loss, "Training loss by epoch."), "article_accuracy": (accuracy, "Validation accuracy by epoch.")}), "article")
        else:
            panels.charts(state.snapshot(run.id))
elif len(chosen) > 1:
    pair = chosen[:4]
    st.subheader(" beside ".join(plain(run.name) for run in pair), anchor=False)
    try:
        curves = {f"{i}. {run.name}": (run.metrics(), run.config.total_epochs) for i, run in enumerate(pair, 1)}
        live_chart(compare_figures.overlaid(curves), "overlaid", "Validation accuracy of the chosen runs, each with its control.")
    except UserError as error:
        st.error(plain(error))
    apart = compare.differences(pair[0].config.to_dict(), pair[1].config.to_dict())
    st.dataframe(
        [{"setting": key, **{f"{i}. {run.name}": str(run.config.to_dict().get(key, "")) for i, run in enumerate(pair, 1)}} for key in apart]
        or [{"setting": "They differ in nothing."}],
        hide_index=True, width="stretch",
    )
    if len(chosen) > len(pair):
        st.caption(f"The first {len(pair)} of the ticked runs are shown.")
if st.session_state.get(keys.MEASURE):
    measure()
