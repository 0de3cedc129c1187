"""The strip under the navigation, which names the data in use."""

from __future__ import annotations

import streamlit as st

from kd.ui.shell import session_keys, shared, url_state
from kd.ui.shell.escape import plain

HEIGHT = 128  # pixels; the warning on a screen of 1280 px


def strip() -> None:
    """Show the state of the data, unless it is the full MNIST.

    A visitor who came during the download may be drawing when it ends, and the canvas must not move under the
    hand: the strip then keeps one height.
    """
    source = shared.manager().source
    drawn_for = source.state
    if drawn_for == "downloading":
        st.session_state[session_keys.STRIP] = True
    if st.session_state.get(session_keys.STRIP) and not url_state.presenting():
        place = st.container(key="kd_strip", height=HEIGHT, border=False)
    else:
        place = st.container()

    @st.fragment(run_every=1.0 if drawn_for == "downloading" else None)
    def lines() -> None:
        if source.state != drawn_for:
            st.rerun()
        if source.state == "full":
            if st.session_state.get(session_keys.STRIP) and not url_state.presenting():
                st.caption("The download is complete: all 70,000 images of MNIST are in use.")
            return
        if source.state == "downloading" and url_state.presenting():
            st.container(key="kd_sample").caption("On 5,000 real MNIST images until all 70,000 have arrived.")
        elif source.state == "downloading":
            st.progress(
                source.progress(),
                "Downloading MNIST (11.6 MB) in the background. Until then everything works on a sample of "
                "5,000 of its images.",
            )
        elif url_state.presenting():  # an audience needs no more than this
            st.container(key="kd_sample").caption(
                "On 5,000 real MNIST images instead of all 70,000: students learn from 4,000 and are tested "
                "on the other 1,000."
            )
        else:
            text, button = st.columns([5, 1], vertical_alignment="center")
            why = plain(" ".join(source.messages))
            text.warning(
                f"{why} Working on 5,000 real MNIST images instead: students learn from 4,000 and are tested "
                "on the other 1,000. "
                "The teacher never trained on these 5,000, but its recipe was chosen on them.".strip(),
                icon=":material/dataset:",
            )
            if button.button("Try the download again", key="retry_download", width="stretch"):
                source.retry()
                st.rerun()

    with place:
        lines()
