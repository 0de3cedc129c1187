"""A stored model as a file to deploy."""

from __future__ import annotations

import streamlit as st

from kd import export, runs
from kd.jobs import Snapshot
from kd.ui import state


@st.cache_data(show_spinner="Exporting, loading again and comparing…", max_entries=16)
def _exported(run_id: str, which: str, format: str) -> export.Exported:
    return export.export(state.stored_model(run_id, which), runs.load(run_id).architecture, format, state.manager().source.mnist().test)


def show(run: runs.Run, snap: Snapshot) -> None:
    """Chooses a model of ``run`` and a format; the file is made when it is asked for.

    Raises:
        UserError: the file answers otherwise than the model.
    """
    with st.expander("Export to deploy", icon=":material/package_2:"):
        st.markdown(
            "The network as a file that runs without this app. Normalization is inside: it takes 28×28 pixels and gives ten logits. "
            "The file is loaded again and compared with the network before you get it."
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            which = st.selectbox("Network", run.models, key=f"export_which_{run.id}")
            format = st.selectbox("Format", list(export.FORMATS), format_func=export.FORMATS.get, key=f"export_format_{run.id}")
            wanted = st.button("Prepare the file", key="export", icon=":material/build:")
        key = f"exported_{run.id}"
        if wanted:
            st.session_state[key] = (which, format)
        if st.session_state.get(key) == (which, format):
            found = _exported(run.id, which, format)
            st.download_button(
                f"{found.name} ({len(found.content) / 1e3:,.0f} kB)", found.content, found.name, key="download_export",
                icon=":material/download:", type="primary", on_click="ignore",
            )
            st.caption(f"Loaded again and asked about {found.images:,} test images: no logit differs by more than {found.difference:.1g}.")
