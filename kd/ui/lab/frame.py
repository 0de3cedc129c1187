"""The parts that all experiments of the lab share: settings, the link and charts."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from kd.config import kinds
from kd.config.base import Settings
from kd.drawing import links
from kd.errors import UserError
from kd.figures.base import Figure
from kd.lab.settings import SHOWING, LabSettings
from kd.ui.charts.chart import live_chart, live_charts, packed
from kd.ui.drawing import canvas
from kd.ui.forms.form import Form
from kd.ui.run import snapshots
from kd.ui.shell import notices, session_keys, url_state

DRAWN = "drawn"  # the link's parameter that holds a drawing


FORM = Form(LabSettings, session_keys.LAB, "lab", always_valid=True)


def restore() -> None:
    """Take the settings, and a drawing, from the link on a session's first visit."""
    if FORM.begun:
        return
    FORM.restore(st.query_params.to_dict())
    try:
        if DRAWN in st.query_params:
            canvas.show(links.from_text(st.query_params[DRAWN]))
    except UserError as error:
        notices.notify("error", str(error))
    if snapshots.shown_run():
        # The link's other parameters are not the run's settings.
        st.session_state.pop(session_keys.ADOPTED, None)


def settings() -> LabSettings:
    return FORM.checked()


def show_run(id: str, config: Settings) -> None:
    """Make the Dark knowledge page show this run of the lab when it is next opened."""
    FORM.restore({})
    FORM.put(**SHOWING[kinds.of(config).name](config))
    st.session_state[session_keys.LAB_RUN] = id


def reset() -> None:
    """Reset all settings of the experiments to their defaults."""
    FORM.put(**{name: value for name, value in LabSettings().to_dict().items() if name != "panel"})


def write_link() -> None:
    """Put all settings and the runs shown into the URL."""
    shown = {
        slot: st.session_state[slot]
        for slot in (session_keys.RUN, session_keys.LAB_RUN)
        if st.session_state.get(slot)
    }
    query = settings().to_query() | shown
    picture = canvas.drawn() if _has_canvas() else None
    if picture is not None:
        query[DRAWN] = links.to_text(picture)
    url_state.write(query)


def _has_canvas() -> bool:
    chosen = settings()
    return chosen.panel == "never-saw" or (chosen.panel, chosen.picture) == ("soft-targets", "draw")


def chart(figure: Figure, key: str, label: str, picture: str) -> None:
    """Show a chart that is updated in place and can be downloaded as ``picture``.png."""
    live_chart(figure | {"picture": picture}, f"lab_{key}", label)


def pack(figures: Mapping[str, tuple[Figure, str]]) -> bytes:
    """Pack several charts for the browser: name -> figure and a description. Each downloads as <name>.png."""
    return packed({name: (figure | {"picture": name}, label) for name, (figure, label) in figures.items()})


def charts(packed_charts: bytes, key: str) -> None:
    """Show packed charts, updated in place, side by side where there is room."""
    live_charts(packed_charts, f"lab_{key}")
