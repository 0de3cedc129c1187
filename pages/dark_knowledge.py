"""The dark-knowledge lab: experiments that show why soft targets teach more than labels."""

import streamlit as st

from kd.lab.settings import PANELS
from kd.ui import entry, state
from kd.ui.lab import frame, never_saw, running, soft_targets

entry.through_app()
SHOW = {
    "soft-targets": soft_targets.show,
    "never-saw": never_saw.show,
}


def reset() -> None:
    frame.reset()
    if panel != "soft-targets":
        running.forget()


frame.restore()
with st.container():
    state.show_notice()  # what was wrong with the link
st.title("Dark knowledge", anchor=False)
left, right = st.columns([6, 1])
with left:
    panel = frame.chosen(st.segmented_control, "panel", options=list(PANELS), format_func=PANELS.get, required=True, label_visibility="collapsed")
with right:
    st.button("Reset", key="lab_reset", icon=":material/restart_alt:", on_click=reset, help="This experiment as it was at first.")
SHOW[panel]()
frame.write_link()
