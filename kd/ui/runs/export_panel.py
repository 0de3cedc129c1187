"""Export of a stored model as a file to deploy."""

from __future__ import annotations

import streamlit as st

from kd import permissions
from kd.data.task import MNIST
from kd.drawing import familiarity
from kd.evaluation import comparison
from kd.export import formats
from kd.jobs.snapshot import Snapshot
from kd.metrics import latency
from kd.models import registry
from kd.store import runs
from kd.ui.drawing import answers, in_browser
from kd.ui.run import snapshots, teachers
from kd.ui.shell import notices, shared, visitor


@st.cache_data(show_spinner="Exporting, reloading and comparing…", max_entries=16)
def _exported(run_id: str, which: str, format: str) -> formats.Exported:
    return formats.export(
        snapshots.stored_model(run_id, which),
        runs.load(run_id).architecture,
        format,
        shared.manager().source.mnist().test,
        _familiar(run_id) if format == "onnx" else None,
    )


def _familiar(run_id: str) -> familiarity.Familiar:
    """Return the test of what looks like a digit to the run's teacher."""
    return answers.familiar(teachers.find(comparison.teacher_of(runs.load(run_id))).name)


@st.cache_data(show_spinner=False, max_entries=64)
def _latency(architecture: str) -> float:
    """Return the seconds per image on this server, in PyTorch; they depend only on the architecture."""
    return latency.measure_latency(registry.build(architecture, 0).eval()).median


def _run_here(run: runs.Run, which: str, model: bytes, check: bytes) -> None:
    """Draw a toggle that runs the network in the visitor's own browser."""
    if st.toggle(
        "Run it in this browser",
        key=f"in_browser_{run.id}",
        help="Downloads 3.7 MB of ONNX Runtime from this server once; then everything runs in your browser.",
    ):
        in_browser.show(model, check, _latency(run.architecture), f"in_browser_{run.id}_{which}")


def _request(run_id: str) -> None:
    if not permissions.allowed(visitor.digest()):
        notices.notify("error", permissions.ONLY.format("export networks"))
        return
    st.session_state[f"exported_{run_id}"] = (
        st.session_state[f"export_which_{run_id}"],
        st.session_state[f"export_format_{run_id}"],
    )


def show(run: runs.Run, snap: Snapshot) -> None:
    """Draw the choice of a model of ``run`` and a format; the file is made on request.

    Raises:
        UserError: the file's outputs differ from the model's.
    """
    with st.expander("Export to deploy", icon=":material/package_2:"):
        st.markdown(
            "Download the network as a file that runs without this app. Normalization is built in: it takes "
            f"{MNIST.height}×{MNIST.width} pixels and returns {MNIST.classes} logits. Before you get the "
            "file, it is reloaded and compared with the network."
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            which = st.selectbox("Network", run.models, key=f"export_which_{run.id}")
            format = st.selectbox(
                "Format",
                list(formats.FORMATS),
                format_func=formats.FORMATS.get,
                key=f"export_format_{run.id}",
            )
            # In a callback, because a rerun right after the click could discard what the click sets.
            st.button(
                "Prepare the file", key="export", icon=":material/build:", on_click=_request, args=(run.id,)
            )
        if st.session_state.get(f"exported_{run.id}") == (which, format):
            exported = _exported(run.id, which, format)
            st.download_button(
                f"{exported.name} ({len(exported.content) / 1e3:,.0f} kB)",
                exported.content,
                exported.name,
                key="download_export",
                icon=":material/download:",
                type="primary",
                on_click="ignore",
            )
            if format == "onnx":
                model, check = (formats.part(exported, name) for name in ("model.onnx", "digit_check.onnx"))
                _run_here(run, which, model, check)
            st.caption(
                f"Reloaded and compared on {exported.images:,} test images: no logit differs by more than "
                f"{exported.difference:.1g}."
            )
