"""The main script: page configuration, navigation and the status strip."""

import streamlit as st

from kd import paths
from kd.ui import streamlit_internals
from kd.ui.charts import chart
from kd.ui.run import replaying
from kd.ui.shell import link, login, notices, present, status, style, url_state, visitor
from kd.ui.shell.error_boundary import plainly

streamlit_internals.mend()
st.set_page_config(
    page_title="Distillation, live",
    page_icon="⚗️",
    layout="wide",
    initial_sidebar_state="collapsed" if url_state.presenting() else "auto",
)
style.apply(url_state.presenting())
visitor.remember()
PAGES = [
    st.Page(paths.page("distil"), title="Distil", icon=":material/school:", default=True),
    st.Page(paths.page("draw"), title="Draw", icon=":material/draw:"),
    st.Page(paths.page("dark_knowledge"), title="Dark knowledge", icon=":material/dark_mode:"),
    st.Page(paths.page("sweep"), title="Sweep", icon=":material/grid_on:"),
    st.Page(paths.page("runs"), title="Runs", icon=":material/table_rows:"),
    st.Page(paths.page("compare"), title="Compare", icon=":material/balance:"),
    st.Page(paths.page("compress"), title="Compress", icon=":material/compress:"),
    st.Page(paths.page("methods"), title="Methods", icon=":material/list_alt:"),
    st.Page(paths.page("paper"), title="The paper", icon=":material/article:"),
]
page = st.navigation(PAGES, position="hidden" if url_state.presenting() else "top")
with plainly():
    # In a container, so that elements that come and go here do not shift, and so rebuild, the page below.
    with st.container():
        present.bar(PAGES, page, replaying.begin_last)
        status.strip()
        visitor.warn()
        link.warn(page.url_path)
        login.show()
        notices.show()
    page.run()
url_state.show()
chart.preload()
