"""Stored runs against each other: what each network costs, how well it does, and which to choose."""

import zlib

import streamlit as st
import torch

from kd import paths
from kd.evaluation import comparison
from kd.metrics import latency
from kd.store import runs
from kd.ui.compare import panels, table
from kd.ui.shell import notices

st.title("Compare", anchor=False)
st.markdown(
    "A model is deployed for its **latency** and **size** as well as its **accuracy**. Here all three are measured of each stored run, on this machine and on the test "
    "set, teacher and student in alternating rounds and each in its quickest form. Tick one run to look closer, or several to lay them over each other."
)
found = [run for run in runs.list_runs()[0] if run.models and run.about.comparable and run.measures]
if not found:
    st.info("There is nothing to compare yet. Each run that finishes on the **Distil** page appears here.")
    st.page_link(paths.page("distil"), label="Distil a student", icon=":material/school:")
    st.stop()
measured = {run.id: measures for run in found if (measures := comparison.stored(run))}

with st.container(horizontal=True, vertical_alignment="bottom"):
    batch = st.segmented_control(
        "Images at once",
        latency.BATCHES,
        default=1,
        required=True,
        key="compare_batch",
        help="1 is an answer to one person; 256 is a queue.",
    )
    counts = sorted({1, torch.get_num_threads()})
    threads = st.segmented_control(
        "Threads",
        counts,
        default=counts[-1],
        required=True,
        key="compare_threads",
        help="Processor cores that an answer may use.",
    )
    missing = [run for run in found if run.id not in measured]
    st.button(
        f"Measure {len(missing)} new" if missing else "All are measured",
        key="measure",
        type="primary" if missing else "secondary",
        icon=":material/timer:",
        disabled=not missing,
        on_click=panels.want,
        args=([run.id for run in missing],),
        help="Some seconds a run. Nothing else should run on the machine.",
    )
place = st.empty()  # of the progress bar; what was measured before stays on the page below it
notices.show()
table = st.dataframe(
    [table.row(run, measured.get(run.id), batch, threads) for run in found],
    hide_index=True,
    width="stretch",
    on_select="rerun",
    selection_mode="multi-row",
    key=f"compare_{zlib.crc32(''.join(run.id for run in found).encode())}",  # ticks are kept by the line, and must not wander to another run
    column_config=table.COLUMNS,
    placeholder="",
)
chosen = [found[row] for row in table.selection.rows if row < len(found)]
st.caption(
    "The table's own buttons search it, hide columns and download it as CSV; a click on a heading sorts. Accuracies are on the test set, on which nothing was chosen."
)
panels.picture(found, measured, batch, threads)
if len(chosen) == 1:
    panels.closer(chosen[0], measured)
elif chosen:
    panels.beside(chosen)
panels.measure(found, place)
