"""How much storage is used and allowed, and the oldest runs, which can be removed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from kd.errors import UserError
from kd.store import quota, runs
from kd.ui.shell import notices, session_keys, visitor
from kd.ui.shell.escape import plain

OFFERED = 10  # runs at a time
NEARLY = 0.9  # fraction of the limit above which the panel is open


def show(stored: Sequence[runs.Run]) -> None:
    """Show how much is stored and offer runs for removal, the oldest unpinned ones first."""
    try:
        used = quota.usage()
    except UserError as error:
        st.error(plain(error))
        return
    oldest = {run.id: run for run in quota.removable(stored, visitor.digest())[:OFFERED]}
    with st.expander(f"Stored: {used}", icon=":material/hard_drive:", expanded=used.share >= NEARLY):
        st.caption(
            "When the store is full, no new run can start; stored runs stay until somebody deletes them. "
            "Pinned runs are not offered here."
        )
        if not oldest:
            st.caption("You have no unpinned runs to remove.")
            return
        chosen = st.multiselect(
            "Runs to remove, the oldest first",
            list(oldest),
            key="remove_runs",
            placeholder="none",
            format_func=lambda id: (
                f"{oldest[id].name} ({oldest[id].created[:10]}, {quota.size(oldest[id]) / 1e6:,.1f} MB)"
            ),
        )
        if chosen:
            with st.popover(f"Remove {len(chosen)}", icon=":material/delete:"):
                st.write(
                    f"Delete {len(chosen)} run{'s' if len(chosen) > 1 else ''} with their weights? This "
                    "cannot be undone."
                )
                st.button("Delete them", key="remove", type="primary", on_click=_remove, args=(chosen,))


def _remove(ids: Sequence[str]) -> None:
    for place, id in enumerate(ids):
        try:
            runs.delete(id, visitor.token())
            if st.session_state.get(session_keys.RUN) == id:
                st.session_state[session_keys.RUN] = None
        except UserError as error:
            notices.notify("error", f"{error} {place} of {len(ids)} were removed.")
            return
    notices.notify("success", f"{len(ids)} run{'s were' if len(ids) > 1 else ' was'} removed.")
