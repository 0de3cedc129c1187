"""What the lab's panels share: their settings, which are in the link, and how they show charts and words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import streamlit as st

from kd.config.mistake import MistakeConfig
from kd.config.study import StudyConfig
from kd.drawing import links
from kd.errors import UserError
from kd.figures.training import Figure
from kd.lab.settings import STUDY_PANELS, LabSettings
from kd.ui.charts.chart import live_chart, live_charts, packed
from kd.ui.drawing import canvas
from kd.ui.runs import snapshots
from kd.ui.shell import notices, session_keys, url_state

DRAWN = "drawn"  # the link's parameter that holds a drawing


def restore() -> None:
    """On a session's first visit takes the settings from the link."""
    if session_keys.LAB in st.session_state:
        return
    found = LabSettings()
    try:
        found = LabSettings.from_query(st.query_params.to_dict())
    except UserError as error:
        notices.notify("error", f"The link's settings cannot be used, so the defaults are shown. {error}")
    st.session_state[session_keys.LAB] = found.to_dict()
    try:
        if DRAWN in st.query_params:
            canvas.show(links.from_text(st.query_params[DRAWN]))
    except UserError as error:
        notices.notify("error", str(error))
    if snapshots.shown_run():
        st.session_state.pop(
            session_keys.ADOPTED, None
        )  # the link's other parameters are not the run's settings


def settings() -> LabSettings:
    return LabSettings.from_dict(st.session_state[session_keys.LAB])


def put(**changes: Any) -> None:
    """Changes settings, and what their widgets show when they are drawn next."""
    st.session_state[session_keys.LAB] = settings().replace(**changes).to_dict()
    for name in changes:
        _make_anew(name)


def open_run(id: str, config: StudyConfig | MistakeConfig) -> None:
    """Lets the page show a stored run of the lab's own when it is visited next."""
    shown = (
        {"panel": STUDY_PANELS[config.study]}
        if isinstance(config, StudyConfig)
        else {"panel": "break-it", "mistake": config.mistake}
    )
    st.session_state[session_keys.LAB] = (
        LabSettings.from_dict(st.session_state.get(session_keys.LAB, {})).replace(**shown).to_dict()
    )
    for name in shown:
        _make_anew(name)
    st.session_state[session_keys.LAB_RUN] = id


def reset() -> None:
    """All settings of the panel on show back to what they were."""
    defaults = LabSettings(panel=settings().panel).to_dict()
    put(**defaults)


def chosen(kind: Callable, name: str, **options: Any) -> Any:
    """The widget of one setting; returns its value. Label, help and range come from LabSettings.

    The value is given as the widget's default, not through the session's state: that would be
    told to the browser only once, and be lost where the next tick overtakes it.
    """
    about, value = LabSettings.setting(name), getattr(settings(), name)
    if about["low"] is not None:
        options |= {
            "min_value": about["low"],
            "max_value": about["high"],
            "step": about["step"],
            "value": value,
        }
    else:
        options["default"] = list(value) if kind is st.pills else value
    kind(about["label"], key=_key(name), help=about["help"], on_change=_take, args=(name,), **options)
    return getattr(settings(), name)


def _take(name: str) -> None:
    """What the widget says becomes the setting. What is not valid is told in a sentence, and the widget goes back."""
    value = st.session_state[_key(name)]
    try:
        st.session_state[session_keys.LAB] = (
            settings().replace(**{name: "".join(value) if isinstance(value, list) else value}).to_dict()
        )
    except UserError as error:
        notices.notify("error", str(error))
        _make_anew(name)


def _key(name: str) -> str:
    """The key of a setting's widget. One that was made anew has another, since the browser keeps a widget's value by its key."""
    times = st.session_state.setdefault(session_keys.LAB_WIDGETS, {}).get(name, 0)
    return session_keys.setting("lab", name) + (f"_{times}" if times else "")


def _make_anew(name: str) -> None:
    made = st.session_state.setdefault(session_keys.LAB_WIDGETS, {})
    made[name] = made.get(name, 0) + 1


def write_link() -> None:
    """Puts all settings, the run and the sweep into the URL."""
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
    """A chart in place that can be downloaded as ``picture``.png."""
    live_chart(figure | {"picture": picture}, f"lab_{key}", label)


def pack(found: Mapping[str, tuple[Figure, str]]) -> bytes:
    """Several charts as they are sent: name -> figure and what it shows in words. Each can be downloaded as <name>.png."""
    return packed({name: (figure | {"picture": name}, label) for name, (figure, label) in found.items()})


def charts(packed_charts: bytes, key: str) -> None:
    """Packed charts in place, side by side where there is room."""
    live_charts(packed_charts, f"lab_{key}")
