"""The results of the Compress page: tables, headline, plot and the outcome of fine-tuning."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kd import paths
from kd.experiments import compress
from kd.figures.compression import AXES, way
from kd.jobs.snapshot import Snapshot
from kd.tables import techniques
from kd.ui.charts.chart import live_chart
from kd.ui.shell import error_boundary

COLUMNS = {
    "weights": st.column_config.NumberColumn(format="localized", help="Weights that must be stored."),
    "not 0": st.column_config.NumberColumn(format="localized"),
    "file KB": st.column_config.NumberColumn(format="%.1f", help="Size as a safetensors file."),
    "zipped KB": st.column_config.NumberColumn(
        format="%.1f", help="Size of that file when zipped, which compresses zeros."
    ),
    "ms": st.column_config.NumberColumn(format="%.3g", help="Median of alternating rounds, one thread."),
    "± ms": st.column_config.NumberColumn(format="%.1g", help="Half the interquartile range."),
    "accuracy": st.column_config.NumberColumn(format="percent"),
    "95% from": st.column_config.NumberColumn(
        format="percent", help="Wilson's 95% interval. It reflects the choice of images only, not the seed."
    ),
    "to": st.column_config.NumberColumn(format="percent"),
}


def _line(row: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a row of a table."""
    return {
        "network": name,
        "accuracy": row["accuracy"],
        "file KB": row["file_bytes"] / 1024,
        "zipped KB": row["zipped_bytes"] / 1024,
        "ms": 1e3 * row["seconds"] if row["seconds"] else None,
        "± ms": 500 * row["iqr"] if row["seconds"] else None,
        "95% from": row["interval"][0],
        "to": row["interval"][1],
        "weights": row["parameters"],
        "not 0": row["nonzero"],
    }


def _table(lines: list[dict[str, Any]]) -> None:
    st.dataframe(lines, hide_index=True, width="stretch", column_config=COLUMNS, placeholder="")


def steps(rows: list[dict[str, Any]], batch: int, images: int) -> None:
    """Show the cost and accuracy of a network and its control after each technique.

    Args:
        images: how many validation images the accuracies are measured on.
    """
    mine = [row for row in rows if row["who"] == "student"]
    _headline(mine[0], mine[-1], batch)
    if len(mine) == 1:
        st.caption("Nothing is removed yet: move a slider.")
        return
    _describe(mine)
    _way(rows, "compress_way", False, batch)
    names = (
        {"student": "distilled: ", "alone": "never distilled: "} if len(rows) > len(mine) else {"student": ""}
    )
    _table([_line(row, names[row["who"]] + row["title"].lower()) for row in rows])
    st.caption(
        f"Before any fine-tuning; a hollow mark is the original. Accuracy is measured on the {images:,} "
        "validation images, on which you may tune the sliders; the test set is used once, after "
        "fine-tuning."
    )


def _headline(first: dict[str, Any], last: dict[str, Any], batch: int) -> None:
    """Show size, latency and accuracy now, compared with the original."""
    size, time, right = st.columns(3)
    size.metric(
        "Size of the file",
        f"{last['file_bytes'] / 1024:,.0f} KB",
        f"{last['file_bytes'] / first['file_bytes'] - 1:+.0%}",
        delta_color="inverse",
    )
    if last["seconds"]:
        at = "one image" if batch == 1 else f"{batch} images"
        change = _clock(first, last) if last is not first else "unchanged"
        colour = (
            "normal"
            if "fast" in change and "noise" not in change
            else "inverse"
            if "slower" in change
            else "off"
        )
        time.metric(
            f"Time for {at}", f"{1e3 * last['seconds']:.3g} ms", change, delta_color=colour, delta_arrow="off"
        )
    else:
        time.metric("Time", "–", "measured when nothing is training", delta_color="off", delta_arrow="off")
    right.metric(
        "Validation accuracy",
        f"{last['accuracy']:.2%}",
        f"{100 * (last['accuracy'] - first['accuracy']):+.2f} points",
    )


def _clock(before: dict[str, Any], after: dict[str, Any]) -> str:
    return compress.speed_change(
        *({"median": network["seconds"], "iqr": network["iqr"]} for network in (before, after))
    )


def _describe(rows: list[dict[str, Any]]) -> None:
    """Describe how much each technique changed the file size and the latency."""
    for before, after in zip(rows, rows[1:]):
        name = after["done"][-1][0]
        size = after["file_bytes"] / before["file_bytes"]
        by_clock = _clock(before, after) if after["seconds"] else ""
        share = f"{size:.0%} of its previous size" if size < 0.995 else "as large as before"
        sentence = f"**{after['title']}**: the file is {share}"
        if name == "weights":
            zeros = 1 - after["nonzero"] / after["parameters"]
            zipped = after["zipped_bytes"] / before["zipped_bytes"]
            sentence += f" ({zeros:.0%} zeros; the zipped file is {zipped:.0%} of its previous size)"
        sentence += f"; the network is {by_clock}." if by_clock else "."
        if name == "int8" and size > 0.9:
            sentence += " Its convolutions stay in float32: PyTorch's eager int8 is for linear layers."
        st.markdown(f"- {sentence}")


def _way(rows: list[dict[str, Any]], key: str, recovered: bool, batch: int) -> None:
    axis = st.session_state.get("compress_axis") or "file_bytes"
    what = {
        "file_bytes": "file size (KB)",
        "zipped_bytes": "zipped file size (KB)",
        "seconds": f"latency for {batch} image{'s' if batch > 1 else ''} (ms)",
    }[axis]
    spoken = "; ".join(
        f"{row['who']} {row['title']}: {row['file_bytes'] / 1024:,.0f} KB, {row['accuracy']:.2%}"
        for row in rows
    )
    live_chart(way(rows, axis, what, recovered), key, f"Error rate against {AXES[axis]}. {spoken}.")


# -- a fine-tuning that has ended --------------------------------------------------------------


def outcome(snap: Snapshot) -> None:
    """Show all stages of a finished fine-tuning, measured on the test set."""
    stages = snap.measures["stages"]
    distilled = any(stage["who"] == "alone" for stage in stages)
    batch = st.session_state.get("compress_batch") or 1
    rows = []
    for stage in stages:
        took = next((at for at in stage["latency"] or [] if at["batch"] == batch), {})
        rows.append(
            {
                **stage,
                "title": stage["stage"],
                "accuracy": stage["test_accuracy"],
                "wrong": 1 - stage["test_accuracy"],
                "seconds": took.get("median"),
                "iqr": took.get("iqr"),
            }
        )
    st.header("Result on the test set", anchor=False)
    st.markdown(_verdict(rows, snap.measures["test_images"]))
    _table([_line(row, compress.row_title(row, distilled)) for row in rows])
    # Student and control are the same network until fine-tuning. Networks of one shape take the same time.
    times = {row["stage"]: row["seconds"] for row in rows if row["who"] == "student"}
    shared = [
        {**row, "who": "control"}
        for row in rows
        if row["who"] == "student" and row["stage"] in ("original", "compressed")
    ]
    _way(
        [{**row, "seconds": times[row["stage"]]} for row in shared + rows],
        "compress_outcome",
        True,
        batch,
    )
    st.caption(
        "A hollow mark is the original. The test set was used once, after fine-tuning; no setting was "
        "tuned on it. Latencies are measured on the distilled network with one thread; the others have the "
        f"same shapes. The run keeps the fine-tuned networks in float32, as {snap.measures['architecture']}; "
        "int8 is made from them and measured here."
    )
    st.page_link(paths.page("draw"), label="Draw a digit for the fine-tuned network", icon=":material/draw:")


def _verdict(rows: list[dict[str, Any]], images: int) -> str:
    errors = {(row["who"], row["stage"]): row["test_errors"] for row in rows}
    sentence = (
        f"Errors in {images:,}: **{errors['student', 'original']:,}** original, "
        f"**{errors['student', 'compressed']:,}** compressed, **{errors['student', 'recovered']:,}** "
        f"fine-tuned with the teacher, **{errors['control', 'recovered']:,}** with the labels alone"
    )
    if ("alone", "recovered") in errors:
        sentence += f"; and **{errors['alone', 'recovered']:,}** for the network that was never distilled"
    gap = errors["control", "recovered"] - errors["student", "recovered"]
    chance = 2 * max(1, errors["control", "recovered"] + errors["student", "recovered"]) ** 0.5
    return sentence + (
        f". A gap of {abs(gap):,} is within chance (up to about {chance:,.0f} here)."
        if abs(gap) <= chance
        else f". A gap of {abs(gap):,} is beyond chance (about {chance:,.0f})."
    )


def measured_before() -> None:
    """Show the stored measurements of each technique on its own."""
    measured = error_boundary.load_or_tell(techniques.load)
    if measured is None:
        return
    st.header("Each technique on its own, measured earlier", anchor=False)
    st.markdown(
        f"Errors on the 10,000 test images after each technique, and after {measured['epochs']} epochs of "
        f"fine-tuning with all labels or with {measured['few']}: for a distilled "
        f"`{measured['student']}` (originally {measured['base']['student']['mean']:,.0f} errors) "
        f"and its control, which was never distilled ({measured['base']['control']['mean']:,.0f} errors)."
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        techniques.lines(measured),
        hide_index=True,
        width="stretch",
        column_config={
            "technique": st.column_config.TextColumn(pinned=True),
            "KB": number(format="%.0f"),
            "zipped KB": number(format="%.0f"),
        }
        | {f"ms at {batch}": number(format="%.3g", help="Median, one thread.") for batch in compress.BATCHES},
    )
    seeds = (
        f"{measured['seeds']} seeds, mean and deviation"
        if measured["seeds"] > 1
        else "One seed, so small differences are within chance"
    )
    st.caption(
        f"{seeds}; the amounts were chosen beforehand, not on the test set. {measured['machine']}; "
        f"`{measured['command']}`"
    )
