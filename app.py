"""Watch knowledge distillation happen: page config, navigation and the status strip."""

import streamlit as st

from kd.ui import streamlit_internals
from kd.ui.charts import chart
from kd.ui.runs import replaying
from kd.ui.shell import login, notices, present, status, style, url_state, visitor
from kd.ui.shell.error_boundary import plainly

streamlit_internals.mend()
st.set_page_config(
    page_title="Distillation, live",
    page_icon="⚗️",
    layout="wide",
    initial_sidebar_state="collapsed" if url_state.presenting() else "auto",
)
style.apply(url_state.presenting())
chart.provide_plotly()
visitor.remember()
PAGES = [
    st.Page("pages/distil.py", title="Distil", icon=":material/school:", default=True),
    st.Page("pages/draw.py", title="Draw", icon=":material/draw:"),
    st.Page("pages/dark_knowledge.py", title="Dark knowledge", icon=":material/dark_mode:"),
    st.Page("pages/sweep.py", title="Sweep", icon=":material/grid_on:"),
    st.Page("pages/runs.py", title="Runs", icon=":material/table_rows:"),
    st.Page("pages/compare.py", title="Compare", icon=":material/balance:"),
    st.Page("pages/compress.py", title="Compress", icon=":material/compress:"),
    st.Page("pages/methods.py", title="Methods", icon=":material/list_alt:"),
    st.Page("pages/paper.py", title="The paper", icon=":material/article:"),
]
page = st.navigation(PAGES, position="hidden" if url_state.presenting() else "top")
# A container, so that what comes and goes here does not shift, and so rebuild, the page below.
with st.container():
    present.bar(PAGES, page, replaying.begin_last)
    status.strip()
    login.show()
    notices.show()
with plainly():
    page.run()
chart.preload()
