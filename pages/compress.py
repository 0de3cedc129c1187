"""The companions of distillation: a trained network made smaller by sliders, and recovered with its teacher."""

from __future__ import annotations

from typing import Any

import streamlit as st

from kd import compress_figures, recovery, runs, techniques
from kd.config import CompressConfig
from kd.errors import UserError
from kd.jobs import Snapshot
from kd.ui import entry, keys, owner, panels, preview, recipe, state
from kd.ui.chart import live_chart
from kd.ui.text import plain
from kd.ui.watch import watch

entry.through_app()
manager = state.manager()

st.title("Compress: distillation's companions", anchor=False)
st.markdown(
    "Distillation makes a small network good. Others make a good network small: they take away **neurons** that weigh little "
    "([Li 2017](https://arxiv.org/abs/1608.08710)) or say little ([Hu 2016](https://arxiv.org/abs/1607.03250), [Molchanov 2017](https://arxiv.org/abs/1611.06440)), "
    "split matrices into two of **low rank** ([Xue 2013](https://www.isca-archive.org/interspeech_2013/xue13_interspeech.html), "
    "[Denton 2014](https://arxiv.org/abs/1404.0736)), set **weights** to zero ([Han 2015](https://arxiv.org/abs/1506.02626)) or keep them as **8-bit integers** "
    "([Jacob 2018](https://arxiv.org/abs/1712.05877)). Each costs accuracy, and a short training brings much of it back. Here the two meet: that training has a "
    "**teacher**, beside one that has only the labels."
)

# -- how it is shown ----------------------------------------------------------------------------

COLUMNS = {
    "network": st.column_config.TextColumn(width="medium"),
    "weights": st.column_config.NumberColumn(format="localized", help="That must be stored."),
    "not 0": st.column_config.NumberColumn(format="localized"),
    "file KB": st.column_config.NumberColumn(format="%.1f", help="A safetensors file of it, byte by byte."),
    "zipped KB": st.column_config.NumberColumn(format="%.1f", help="That file when it is zipped, which makes something of zeros."),
    "ms": st.column_config.NumberColumn(format="%.3g", help="Median of alternating rounds, one thread."),
    "± ms": st.column_config.NumberColumn(format="%.1g", help="Half the interquartile range."),
    "accuracy": st.column_config.NumberColumn(format="percent"),
    "95% from": st.column_config.NumberColumn(format="percent", help="Of chance alone, by Wilson's interval."),
    "to": st.column_config.NumberColumn(format="percent"),
}


def line(found: dict[str, Any], name: str) -> dict[str, Any]:
    """A row as it stands in a table."""
    return {
        "network": name, "accuracy": found["accuracy"], "file KB": found["file_bytes"] / 1024, "zipped KB": found["zipped_bytes"] / 1024,
        "ms": 1e3 * found["seconds"] if found["seconds"] else None, "± ms": 500 * found["iqr"] if found["seconds"] else None,
        "95% from": found["interval"][0], "to": found["interval"][1], "weights": found["parameters"], "not 0": found["nonzero"],
    }


def headline(first: dict[str, Any], last: dict[str, Any], batch: int) -> None:
    """Size, latency and accuracy as they are now, against the original's."""
    size, time, right = st.columns(3)
    size.metric("Size of the file", f"{last['file_bytes'] / 1024:,.0f} KB", f"{last['file_bytes'] / first['file_bytes'] - 1:+.0%}", delta_color="inverse")
    if last["seconds"]:
        at = "an image" if batch == 1 else f"{batch} images"
        said = _clock(first, last) if last is not first else "as it is"
        colour = "normal" if "fast" in said and "noise" not in said else "inverse" if "slower" in said else "off"
        time.metric(f"Time for {at}", f"{1e3 * last['seconds']:.3g} ms", said, delta_color=colour, delta_arrow="off")
    else:
        time.metric("Time", "–", "measured when nothing trains", delta_color="off", delta_arrow="off")
    right.metric("Right, of the validation images", f"{last['accuracy']:.2%}", f"{100 * (last['accuracy'] - first['accuracy']):+.2f} points")


def _clock(before: dict[str, Any], after: dict[str, Any]) -> str:
    return recovery.clock(*({"median": found["seconds"], "iqr": found["iqr"]} for found in (before, after)))


def told(rows: list[dict[str, Any]]) -> None:
    """What each technique really brought, by file and clock."""
    for before, after in zip(rows, rows[1:]):
        name = after["done"][-1][0]
        size = after["file_bytes"] / before["file_bytes"]
        by_clock = _clock(before, after) if after["seconds"] else ""
        said = f"**{after['title']}**: the file is {f'{size:.0%} of what it was' if size < 0.995 else 'as large as before'}"
        if name == "weights":
            said += f" ({1 - after['nonzero'] / after['parameters']:.0%} zeros; zipped {after['zipped_bytes'] / before['zipped_bytes']:.0%} of what the zip was)"
        said += f"; the network is {by_clock}." if by_clock else "."
        if name == "int8" and size > 0.9:
            said += " Its convolutions stay in float32: PyTorch's eager int8 is for linear layers."
        st.markdown(f"- {said}")


def way(rows: list[dict[str, Any]], key: str, recovered: bool, batch: int) -> None:
    axis = st.session_state.get("compress_axis") or "file_bytes"
    what = {"file_bytes": "KB of the file", "zipped_bytes": "KB of the zipped file", "seconds": f"ms for {batch} image{'s' if batch > 1 else ''}"}[axis]
    spoken = "; ".join(f"{found['who']} {found['title']}: {found['file_bytes'] / 1024:,.0f} KB, {found['accuracy']:.2%}" for found in rows)
    live_chart(compress_figures.way(rows, axis, what, recovered), key, f"Share wrong against {compress_figures.AXES[axis]}. {spoken}.")


# -- recovery ---------------------------------------------------------------------------------------


def on_show() -> Snapshot | None:
    """The recovery that this visitor sees, or None."""
    id = st.session_state.setdefault(keys.COMPRESS_RUN, st.query_params.get("run"))
    try:
        snap = state.snapshot(id)
        if snap is not None and snap.kind != "compress":
            raise UserError("The link's run is of another kind than this page shows; its own page is found by Runs.")
        return snap
    except UserError as error:
        st.error(plain(error))
        st.session_state[keys.COMPRESS_RUN] = None
        return None


def start() -> None:
    try:
        st.session_state[keys.COMPRESS_RUN] = manager.start(recipe.settings(), owner.token())
    except UserError as error:
        state.notify("error", str(error))


def command(what) -> None:
    try:
        what(st.session_state[keys.COMPRESS_RUN], owner.token())
    except UserError as error:
        state.notify("error", str(error))


def buttons(config: CompressConfig, snap: Snapshot | None) -> None:
    mine = snap is not None and snap.active and snap.mine
    interrupted = snap is not None and snap.mine and snap.state == "interrupted" and not snap.saved
    with st.container(horizontal=True):
        st.button("Recover with the teacher", key="recover", type="primary", icon=":material/healing:", disabled=mine or not any(config.percents.values()), on_click=start)
        if interrupted or mine and snap.state == "paused":
            st.button("Resume", key="compress_resume", icon=":material/play_arrow:", on_click=command, args=(manager.resume,))
        else:
            st.button("Pause", key="compress_pause", icon=":material/pause:", disabled=not mine, on_click=command, args=(manager.pause,))
        st.button("Stop", key="compress_stop", icon=":material/stop:", disabled=not mine, on_click=command, args=(manager.stop,), help="What was learned is measured and stored.")
    if not any(config.percents.values()):
        st.caption("There is nothing to recover from yet: move a slider. int8 alone is not trained; it comes after the recovery.")


def outcome(snap: Snapshot) -> None:
    """All stages of a recovery that has ended, on the test set."""
    stages = snap.measures["stages"]
    distilled = any(found["who"] == "alone" for found in stages)
    batch = st.session_state.get("compress_batch") or 1
    rows = []
    for found in stages:
        took = next((at for at in found["latency"] or [] if at["batch"] == batch), {})
        rows.append({**found, "title": found["stage"], "accuracy": found["test_accuracy"], "wrong": 1 - found["test_accuracy"], "seconds": took.get("median"), "iqr": took.get("iqr")})
    st.subheader("What came out, on the test set", anchor=False)
    st.markdown(_verdict(rows, snap.measures["test_images"]))
    st.dataframe([line(found, recovery.called(found, distilled)) for found in rows], hide_index=True, width="stretch", column_config=COLUMNS, placeholder="")
    # Student and control are the same until the recovery: both ways begin with what was compressed. Networks of one shape take the same time.
    times = {found["stage"]: found["seconds"] for found in rows if found["who"] == "student"}
    shared = [{**found, "who": "control"} for found in rows if found["who"] == "student" and found["stage"] in ("original", "compressed")]
    way([{**found, "seconds": times[found["stage"]]} for found in shared + rows], "compress_outcome", True, batch)
    st.caption(
        "The test set was read once, after the recovery; nothing was chosen on it. Latencies are of the distilled network, one thread; the others have its shapes. "
        f"The run keeps the recovered networks in float32, as {snap.measures['architecture']}; int8 is made from them and measured here."
    )
    st.page_link("pages/draw.py", label="Draw for the recovered network", icon=":material/draw:")


def _verdict(rows: list[dict[str, Any]], images: int) -> str:
    errors = {(found["who"], found["stage"]): found["test_errors"] for found in rows}
    said = (
        f"Errors in {images:,}: **{errors['student', 'original']:,}** as it was, **{errors['student', 'compressed']:,}** compressed, **{errors['student', 'recovered']:,}** "
        f"recovered with the teacher, **{errors['control', 'recovered']:,}** from the same batches with the labels alone"
    )
    if ("alone", "recovered") in errors:
        said += f"; and **{errors['alone', 'recovered']:,}** without any distillation, neither before nor after"
    gap = errors["control", "recovered"] - errors["student", "recovered"]
    chance = 2 * max(1, errors["control", "recovered"] + errors["student", "recovered"]) ** 0.5
    return said + (f". A gap of {abs(gap):,} is within chance (up to about {chance:,.0f} here)." if abs(gap) <= chance else f". A gap of {abs(gap):,} is beyond chance (about {chance:,.0f}).")


def measured_before() -> None:
    """Each technique alone, as it was measured for this page."""
    try:
        found = techniques.load()
    except UserError as error:
        st.error(plain(error))
        return
    if found is None:
        return
    st.subheader("Each technique alone, measured before", anchor=False)
    st.markdown(
        f"What became of a distilled `{found['student']}` ({found['base']['student']['mean']:,.0f} errors in the 10,000 test images) and of its control, which was never distilled "
        f"({found['base']['control']['mean']:,.0f} errors): errors at once, and after {found['epochs']} epochs of recovery, with all labels and with {found['few']}."
    )
    number = st.column_config.NumberColumn
    st.dataframe(
        techniques.lines(found), hide_index=True, width="stretch",
        column_config={"what is done": st.column_config.TextColumn(pinned=True), "KB": number(format="%.0f"), "zipped KB": number(format="%.0f")}
        | {f"ms at {batch}": number(format="%.3g", help="Median, one thread.") for batch in recovery.BATCHES},
    )
    seeds = f"{found['seeds']} seeds, mean and deviation" if found["seeds"] > 1 else "One seed, so that small differences are within chance"
    st.caption(f"{seeds}; shares were chosen beforehand, not on the test set. {found['machine']}; `{found['command']}`")


# -- the page -------------------------------------------------------------------------------------------

recipe.restore()
snap = on_show()
if snap is not None and st.session_state.get(keys.COMPRESS_ADOPTED) != snap.id:
    recipe.adopt(snap.config)  # a run that was opened brings its settings along
if snap is not None:
    st.session_state[keys.COMPRESS_ADOPTED] = snap.id
with st.container():
    state.show_notice()
if not any(run.kind == "distil" and run.measures for run in runs.list_runs()[0]):
    st.info("There is no student yet, so the shipped teacher is compressed. Distil one first, and its control is compressed beside it: then you see how the two add up.")
    st.page_link("pages/distil.py", label="Distil a student", icon=":material/school:")
recipe.network()
recipe.amounts()
config = recipe.settings()
try:
    preview.whole(config.network)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        batch = st.segmented_control("Images at once", recovery.BATCHES, default=1, required=True, key="compress_batch", help="1 is an answer to one person; 256 is a queue.")
        st.segmented_control(
            "The picture shows", list(compress_figures.AXES), default="file_bytes", required=True, key="compress_axis", format_func=compress_figures.AXES.get,
        )
    rows = preview.rows(config, batch)
    mine = [found for found in rows if found["who"] == "student"]
    headline(mine[0], mine[-1], batch)
    if len(mine) > 1:
        told(mine)
        way(rows, "compress_way", False, batch)
        names = {"student": "distilled, ", "alone": "never distilled, "} if len(rows) > len(mine) else {"student": ""}
        st.dataframe([line(found, names[found["who"]] + found["title"]) for found in rows], hide_index=True, width="stretch", column_config=COLUMNS, placeholder="")
        st.caption(f"Before any recovery. Accuracy is on the {len(manager.source.mnist().validation):,} validation images, on which sliders may be chosen; the test set is read once, at the end of a recovery.")
    else:
        st.caption("Nothing is taken away: move a slider.")
except UserError as error:
    st.error(plain(error))
    st.stop()

st.subheader("Recovery", anchor=False)
recipe.recovery()
buttons(config, snap)


def live() -> None:
    now = state.snapshot(snap.id)
    if (now.state, now.saved) != (snap.state, snap.saved):
        st.rerun()
    panels.progress(now)
    panels.charts(now)
    third = " *alone*: the run's control, which was never distilled, compressed alike and recovered from the labels." if any("loss alone hard" in found for found in now.rows[:1]) else ""
    st.caption(f"*student*: recovers with the teacher. *control*: the same compressed network on the same batches, from the labels alone.{third}")


with st.container():
    if snap is not None:
        st.caption(panels.run_title(snap))
        panels.outcome(snap)
        if snap.active and not snap.mine:
            st.info("You are watching a recovery that somebody else started; only they can pause or stop it. Choose a network above for one of your own.")
        if snap.mine and not snap.saved and snap.state in ("done", "stopped") and snap.rows:
            st.button("Save again", key="compress_save", on_click=command, args=(manager.save_again,))
        watch(snap, live)
if snap is not None and snap.measures.get("stages"):
    outcome(snap)
else:
    measured_before()
recipe.write_link(st.session_state.get(keys.COMPRESS_RUN))
