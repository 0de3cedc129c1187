"""What searches of settings came to: a section of a page."""

from __future__ import annotations

import streamlit as st

from kd.sweeps import search, search_figures
from kd.ui.chart import live_charts, packed


def show() -> None:
    """The stored searches, or how to make one where there is none."""
    st.subheader("A search instead of a grid", anchor=False)
    st.markdown(
        "A grid tries everything. Optuna's sampler proposes the next settings from what the last ones came to, and gives up those that fall behind. "
        "It sees the validation images alone."
    )
    found = search.stored()
    if not found:
        st.info("None has been made yet. Start one by the command `python -m kd search --student mlp-30`; it is shown here when it has ended.")
        return
    by_command = {one["command"]: one for one in reversed(found)}
    commands = list(by_command)[::-1]
    one = by_command[st.selectbox("Search", commands, key="search_chosen") if len(commands) > 1 else commands[0]]
    st.markdown(search.said(one))
    charts = {"search_history": (search_figures.history(one), f"What each trial came to. {search.said(one)}")}
    if one["importances"]:
        most = max(one["importances"], key=one["importances"].get)
        charts["search_importances"] = (search_figures.importances(one), f"How much each setting mattered; {most.replace('_', ' ')} the most.")
    live_charts(packed(charts), "search_charts")
    with st.expander("All trials"):
        percent = st.column_config.NumberColumn(format="percent")
        rows = [
            {"trial": trial["number"] + 1, **trial["params"], "validation images": trial["value"], "its control": trial.get("control"), "given up": trial["state"] != "complete"}
            for trial in one["trials"]
        ]
        st.dataframe(rows, hide_index=True, width="stretch", column_config={"validation images": percent, "its control": percent, "learning_rate": st.column_config.NumberColumn(format="%.4f")})
    # What ships is a result alone, without its study.
    on = "With more `--trials` the same command goes on from here." if search.own() else "It is shown until you make a search of your own."
    st.caption(f"`{one['command']}` gave this ({one['machine']}). {on}")
