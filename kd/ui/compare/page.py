"""The Compare page: the cost and accuracy of each network, and which to choose."""

from __future__ import annotations

import zlib

import streamlit as st
import torch

from kd import paths
from kd.evaluation import comparison, speeds
from kd.metrics import latency
from kd.store import runs
from kd.ui.compare import panels, table
from kd.ui.shell import notices


def show() -> None:
    """Draw the whole page."""
    st.title("Compare", anchor=False)
    st.markdown(
        "A model is deployed for its **latency** and **size** as well as its **accuracy**. This page "
        "shows size and test accuracy of every saved run, and measures the latency of each architecture on "
        "this machine, all of them in alternating rounds, each in its fastest form. Tick one run to look "
        "closer, or several to see them in one chart."
    )
    stored = [run for run in runs.list_runs()[0] if run.models and run.about.comparable and run.measures]
    if not stored:
        st.info(
            "There is nothing to compare yet. Each run that finishes on the **Distil** page appears here."
        )
        st.page_link(paths.page("distil"), label="Distil a student", icon=":material/school:")
        st.stop()
    measured = speeds.unified({run.id: measures for run in stored if (measures := comparison.stored(run))})

    with st.container(horizontal=True, vertical_alignment="bottom"):
        batch = st.segmented_control(
            "Images at once",
            latency.BATCHES,
            default=1,
            required=True,
            key="compare_batch",
            help="1 = one user at a time, 256 = batch.",
        )
        counts = sorted({1, torch.get_num_threads()})
        threads = st.segmented_control(
            "Threads",
            counts,
            default=counts[-1],
            required=True,
            key="compare_threads",
            help="Processor cores used per answer.",
        )
        missing = [run for run in stored if run.id not in measured]
        st.button(
            f"Measure {len(missing)} new" if missing else "Measure all again",
            key="measure",
            type="primary" if missing else "secondary",
            icon=":material/timer:",
            on_click=panels.queue,
            args=([run.id for run in stored],),
            help="All networks are timed together, so that their times can be compared. Nothing else should "
            "run on the machine.",
        )
        st.caption(f"Measuring takes about {panels.expected(stored, measured)}.")
    place = st.container()  # for the progress bar; what was measured before stays on the page below it
    notices.show()
    ticked = st.dataframe(
        [table.row(run, measured.get(run.id), batch, threads) for run in stored],
        hide_index=True,
        width="stretch",
        on_select="rerun",
        selection_mode="multi-row",
        # Streamlit keeps ticks by row number; they must not move to another run.
        key=f"compare_{zlib.crc32(''.join(run.id for run in stored).encode())}",
        column_config=table.COLUMNS,
        placeholder="",
    )
    chosen = [stored[row] for row in ticked.selection.rows if row < len(stored)]
    st.caption(
        "Use the table's buttons to search it, hide columns or download it as CSV; click a heading to sort. "
        "Test accuracy. No setting was tuned on the test set."
    )
    panels.picture(stored, measured, batch, threads)
    if len(chosen) == 1:
        panels.details(chosen[0], stored, measured)
    elif chosen:
        panels.overlay(chosen)
    panels.measure(stored, place)
