"""Watch knowledge distillation happen: page config, navigation and the status strip."""

import streamlit as st

from kd.ui import chart, owner, state, status

st.set_page_config(page_title="Distillation, live", page_icon="⚗️", layout="wide", initial_sidebar_state="auto")
chart.provide_plotly()
owner.remember()
page = st.navigation(
    [
        st.Page("pages/distil.py", title="Distil", icon=":material/school:", default=True),
        st.Page("pages/draw.py", title="Draw", icon=":material/draw:"),
        st.Page("pages/dark_knowledge.py", title="Dark knowledge", icon=":material/dark_mode:"),
        st.Page("pages/sweep.py", title="Sweep", icon=":material/grid_on:"),
        st.Page("pages/runs.py", title="Runs", icon=":material/table_rows:"),
        st.Page("pages/compare.py", title="Compare", icon=":material/balance:"),
        st.Page("pages/compress.py", title="Compress", icon=":material/compress:"),
        st.Page("pages/methods.py", title="Methods", icon=":material/list_alt:"),
        st.Page("pages/paper.py", title="The paper", icon=":material/article:"),
    ],
    position="top",
)
# A container, so that what comes and goes here does not shift, and so rebuild, the page below.
with st.container():
    status.strip()
    state.show_notice()
page.run()
chart.preload()
