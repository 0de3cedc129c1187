"""The Compress page: shrink a trained network with sliders, then fine-tune it with its teacher."""

from __future__ import annotations

import streamlit as st

from kd import paths
from kd.config.base import Settings
from kd.config.compress import CompressConfig
from kd.errors import UserError
from kd.experiments import compress
from kd.figures.compression import AXES
from kd.jobs.snapshot import Snapshot
from kd.store import runs
from kd.ui.compress import preview, recipe, results
from kd.ui.run import curves
from kd.ui.run.run_view import RunView
from kd.ui.shell import notices, session_keys, shared
from kd.ui.shell.escape import plain

VIEW = RunView(session_keys.COMPRESS_RUN, "compress", lambda kind: kind.page == "compress", "a fine-tuning")


def open_run(id: str, config: Settings) -> None:
    """Go to this page and show a run."""
    st.session_state[session_keys.COMPRESS_RUN] = id
    st.switch_page(paths.page("compress"))


def show() -> None:
    """Draw the whole page."""
    _intro()
    recipe.restore()
    snap = VIEW.find()
    if VIEW.brings_settings(snap):
        recipe.FORM.adopt(snap.config)
    with st.container():
        notices.show()
    if not any(
        run.about.compressible and run.about.has_teacher and run.measures for run in runs.list_runs()[0]
    ):
        st.info(
            "There is no student yet, so the shipped teacher is compressed. Distil a student first; then "
            "its control is compressed as well, and you see what distillation adds."
        )
        st.page_link(paths.page("distil"), label="Distil a student", icon=":material/school:")
    recipe.network()
    recipe.amounts()
    config = recipe.settings()
    try:
        _preview(config)
    except UserError as error:
        st.error(plain(error))
        return
    st.header("Fine-tuning", anchor=False)
    recipe.fine_tuning()
    _buttons(config, snap)
    with st.container():
        if snap is not None:
            VIEW.head(snap)
            VIEW.follow(snap, _live)
    if snap is not None and snap.measures.get("stages"):
        results.outcome(snap)
    else:
        results.measured_before()
    recipe.write_link(st.session_state.get(session_keys.COMPRESS_RUN))


def _intro() -> None:
    st.title("Compress: distillation's companions", anchor=False)
    st.markdown(
        "Pruning, low-rank and int8 make a trained network smaller: remove **neurons** with small weights "
        "([Li 2017](https://arxiv.org/abs/1608.08710)) or small activations ([Hu "
        "2016](https://arxiv.org/abs/1607.03250), [Molchanov 2017](https://arxiv.org/abs/1611.06440)), "
        "split matrices into two of **low rank** ([Xue "
        "2013](https://www.isca-archive.org/interspeech_2013/xue13_interspeech.html), [Denton "
        "2014](https://arxiv.org/abs/1404.0736)), set **weights** to zero ([Han "
        "2015](https://arxiv.org/abs/1506.02626)) or store them as **8-bit integers** ([Jacob "
        "2018](https://arxiv.org/abs/1712.05877)). Each costs accuracy, and a short fine-tuning brings much "
        "of it back. Fine-tune one copy of the network with a **teacher** and another with the labels "
        "alone, and compare."
    )


def _preview(config: CompressConfig) -> None:
    """Show the size, latency and accuracy of the compressed network.

    Raises:
        UserError: there is no such network.
    """
    preview.whole(config.network)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        batch = st.segmented_control(
            "Images at once",
            compress.BATCHES,
            default=1,
            required=True,
            key="compress_batch",
            help="1 = one user at a time, 256 = batch.",
        )
        st.segmented_control(
            "The picture shows",
            list(AXES),
            default="file_bytes",
            required=True,
            key="compress_axis",
            format_func=AXES.get,
        )
    validation = shared.manager().source.mnist().validation
    results.steps(preview.rows(config, batch), batch, len(validation))


def _buttons(config: CompressConfig, snap: Snapshot | None) -> None:
    nothing = not any(config.percents.values())
    with st.container(horizontal=True):
        st.button(
            "Fine-tune with the teacher",
            key="recover",
            type="primary",
            icon=":material/healing:",
            disabled=VIEW.mine(snap) or nothing,
            on_click=lambda: VIEW.start(recipe.settings()),
        )
        VIEW.pause_button(snap)
        VIEW.stop_button(snap, "Ends fine-tuning, then measures and stores the network as it is now.")
    if nothing:
        st.caption(
            "There is nothing to fine-tune yet: move a slider. int8 alone needs no training; it is "
            "applied after fine-tuning."
        )


def _live(now: Snapshot) -> None:
    """Show the curves of a fine-tuning, and say which network is which."""
    curves.show(now)
    third = (
        " *alone*: the run's control, which was never distilled, compressed in the same way and fine-tuned "
        "on the labels."
        if any("loss alone hard" in row for row in now.rows[:1])
        else ""
    )
    st.caption(
        "*student*: fine-tuned with the teacher. *control*: the same compressed network on the same "
        f"batches, with the labels alone.{third}"
    )
