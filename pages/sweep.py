"""Every temperature at once: students for all combinations of some settings, and a heat map of what they come to."""

from __future__ import annotations

from typing import Any, Mapping

import streamlit as st

from kd.sweeps import grid, grid_figures, grid_store, grid_summary, grid_time
from kd.errors import UserError
from kd.sweeps.grid_config import AXES, GridConfig
from kd.sweeps.grid_summary import MEASURES
from kd.jobs import Snapshot
from kd.ui import axes, controls, entry, keys, owner, panels, search_panel, state
from kd.ui.chart import live_charts, packed
from kd.ui.watch import watch

entry.through_app()
manager = state.manager()

st.title("Sweep: every temperature at once", anchor=False)
st.markdown(
    "Which temperature? Small students train **together**, as one batched computation on the same batches, each with a temperature and a soft weight of its own, "
    "in a fraction of the time that they would take one after the other. Each is compared with its **control**, which has the labels alone."
)

# -- the run ------------------------------------------------------------------------------------


def on_show() -> Snapshot | None:
    """The sweep that this visitor sees, or None."""
    id = st.session_state.setdefault(keys.GRID_RUN, st.query_params.get("run"))
    try:
        snap = state.snapshot(id)
        if snap is not None and snap.kind != "grid":
            raise UserError("The link's run is of another kind than this page shows; its own page is found by Runs.")
        return snap
    except UserError as error:
        st.error(str(error))
        st.session_state[keys.GRID_RUN] = None
        return None


def start(config: GridConfig) -> None:
    try:
        st.session_state[keys.GRID_RUN] = st.session_state[keys.GRID_ADOPTED] = manager.start(config, owner.token())
        st.session_state[keys.GRID_TOUCHED] = False
    except UserError as error:
        state.notify("error", str(error))


def command(what) -> None:
    try:
        what(st.session_state[keys.GRID_RUN], owner.token())
    except UserError as error:
        state.notify("error", str(error))


def buttons(config: GridConfig | None, snap: Snapshot | None) -> None:
    mine = snap is not None and snap.active and snap.mine
    paused = mine and snap.state == "paused"
    interrupted = snap is not None and snap.mine and snap.state == "interrupted" and not snap.saved
    stopped = snap is not None and snap.state == "stopped" and snap.saved and len(snap.measures["cells"]) < snap.config.count
    with st.container(horizontal=True):
        st.button("Start", key="grid_start", type="primary", icon=":material/play_arrow:", disabled=mine or config is None, on_click=start, args=(config,))
        if paused or interrupted:
            st.button("Resume", key="grid_resume", icon=":material/play_arrow:", on_click=command, args=(manager.resume,))
        elif stopped:
            st.button(
                "Resume", key="grid_continue", icon=":material/play_arrow:", on_click=start, args=(snap.config.replace(continues=snap.id),),
                help="A new run with the same settings, which takes over the cells that have ended.",
            )
        else:
            st.button("Pause", key="grid_pause", icon=":material/pause:", disabled=not mine, on_click=command, args=(manager.pause,))
        st.button("Stop", key="grid_stop", icon=":material/stop:", disabled=not mine, on_click=command, args=(manager.stop,), help="Cells that have ended are stored, and can be gone on from.")


def forecast(config: GridConfig) -> None:
    """How many trainings there are, and about how long they take."""
    controls_ = len(config.values("student")) * len(config.values("labels")) * config.seeds
    said = f"**{config.count:,} trainings**: {_many(config.count - controls_, 'student')} and {_many(controls_, 'control')}, computed together in {_many(len(grid.groups(config)), 'group')}"
    try:
        busy = manager.busy()
        if busy and not grid_time.known(config):
            st.markdown(f"{said}. The time is estimated when nothing else trains.")
            return
        seconds = grid_time.seconds(config, manager.source.mnist(), manager.teacher(config.teacher), again=not busy)
    except UserError as error:
        st.error(str(error))
        return
    if seconds is None:
        st.markdown(f"{said}. They are of too many kinds to estimate the time beforehand; it is shown soon after Start.")
    else:
        st.markdown(f"{said}; about **{_duration(seconds)}** on this machine if nothing else runs, by a moment's training of each kind.")


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds)):,} s"
    return f"{round(seconds / 60):,} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# -- the heat map -----------------------------------------------------------------------------------


def view(config: GridConfig) -> dict[str, Any]:
    """How the heat map is looked at: by the link at first."""
    if keys.GRID_MEASURE not in st.session_state and st.query_params.get("shows") in MEASURES:
        st.session_state[keys.GRID_MEASURE] = st.query_params["shows"]
    if keys.GRID_GAIN not in st.session_state and "gain" in st.query_params:
        st.session_state[keys.GRID_GAIN] = True
    several = config.varied
    across = [name for name in ("temperature", *AXES) if name in several] or ["temperature"]
    down = [name for name in ("soft_weight", *AXES) if name != across[0] and name in several] or ["temperature" if across[0] == "soft_weight" else "soft_weight"]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure = st.selectbox("Colour shows", list(MEASURES), key=keys.GRID_MEASURE, format_func=MEASURES.get)
        gain = st.toggle("Against the control", key=keys.GRID_GAIN, help="The difference from the control of the same seed, mean over the seeds.")
    x, y = across[0], down[0]
    fixed = {name: config.values(name)[0] for name in AXES}
    if set(several) - {x, y}:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            x = st.selectbox("Across", list(dict.fromkeys(across)), key="grid_x", format_func=grid_figures.TITLES.get)
            choices = [name for name in dict.fromkeys([*down, "soft_weight", *across]) if name != x]
            y = st.selectbox("Down", choices, key="grid_y", format_func=grid_figures.TITLES.get)
            for name in several:
                if name not in (x, y):
                    fixed[name] = st.selectbox(grid_figures.TITLES[name].capitalize(), config.values(name), key=f"grid_fixed_{name}", format_func=lambda value, name=name: grid_figures.tick(name, value))
    return {"x": x, "y": y, "fixed": fixed, "measure": measure, "gain": gain}


def heat(config: GridConfig, cells: list[dict[str, Any]], live: Mapping[int, Mapping[str, float]], how: dict[str, Any], key: str) -> None:
    figure = grid_figures.heat(config, grid_summary.by_place(cells), grid_summary.under_way(config, live), **how) | {"picture": "sweep", "picks": True}
    best = grid_summary.best(cells)
    label = f"Heat map of {MEASURES[how['measure']].lower()} over {how['x']} and {how['y']}. {grid_figures.verdict(best, grid_figures.named(config)) if best else 'Nothing has ended yet.'}"
    live_charts(packed({key: (figure, label)}), key, lambda point: pick(config, how, point))


def pick(config: GridConfig, how: dict[str, Any], point: dict | None) -> None:
    """A cell of the heat map was clicked."""
    if not point:
        return
    named = {name: {grid_figures.tick(name, value): value for value in grid_figures.axis(config, name)} for name in (how["x"], how["y"])}
    x, y = named[how["x"]].get(point.get("x")), named[how["y"]].get(point.get("y"))
    if x is not None and y is not None:
        st.session_state[keys.GRID_PICKED] = grid_summary.place(how["fixed"] | {how["x"]: x, how["y"]: y})
        st.session_state[keys.GRID_TOUCHED] = st.session_state[keys.GRID_NEWS] = True


def touched() -> None:
    """A cell was chosen by hand: it stays, where otherwise the best is shown."""
    st.session_state[keys.GRID_TOUCHED] = True


def picked(config: GridConfig, cells: list[dict[str, Any]]) -> None:
    """One cell's numbers, seed by seed, and the way to its own run."""
    best = grid_summary.best(cells)
    if best is None:
        return
    places = {grid_summary.place(cell.settings): cell.settings for cell in reversed(grid.cells(config.replace(seeds=1)))}
    places = dict(reversed(places.items()))
    if not st.session_state.get(keys.GRID_TOUCHED) or st.session_state.get(keys.GRID_PICKED) not in places:
        st.session_state[keys.GRID_PICKED] = grid_summary.place(best)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Cell", list(places), key=keys.GRID_PICKED, format_func=lambda place: grid_figures.title(places[place], grid_figures.named(config)), on_change=touched, help="Or click it in the heat map.")
        seed = st.selectbox("Seed", range(config.seed, config.seed + config.seeds), key="grid_seed")
        mine = next(cell for cell in grid.cells(config) if grid_summary.place(cell.settings) == chosen and cell.config.seed == seed)
        if st.button("Open on the Distil page", key="grid_open", icon=":material/open_in_new:", help="With exactly this cell's settings. Start trains it again, its control beside it, and stores it for Draw."):
            controls.show(mine.config)
            st.switch_page("pages/distil.py")
    rows = grid_summary.seeds(cells, chosen)
    if rows:
        percent = st.column_config.NumberColumn(format="percent")
        columns = {name: percent for name in grid_summary.COLUMNS.values() if name != "test errors"}
        st.dataframe(rows, hide_index=True, width="stretch", column_config=columns | {"seconds": st.column_config.NumberColumn(format="%.2f", help="Its share of its group's time.")})
    else:
        st.caption("Not trained yet.")


def result(config: GridConfig, cells: list[dict[str, Any]]) -> None:
    """What came out, in words."""
    best = grid_summary.best(cells)
    if best:
        st.markdown(grid_figures.verdict(best, grid_figures.named(config)))


# -- the page -----------------------------------------------------------------------------------------

axes.restore()
snap = on_show()
if snap is not None and st.session_state.get(keys.GRID_ADOPTED) != snap.id:
    axes.adopt(snap.config)  # a run that was opened brings its settings along
if snap is not None:
    st.session_state[keys.GRID_ADOPTED] = snap.id
with st.container():
    state.show_notice()
config = axes.settings()
told = st.container()  # filled in last, since it is measured
buttons(config, snap)


def live() -> None:
    now = state.snapshot(snap.id) if snap.active else snap
    if (now.state, now.saved) != (snap.state, snap.saved) or st.session_state.pop(keys.GRID_NEWS, False):
        st.rerun()
    panels.progress(now)
    cells, under_way = grid.read(now.config, now.rows)
    heat(now.config, cells, under_way if now.active else {}, how, "grid_heat")


if snap is not None:
    with st.container():
        st.caption(panels.run_title(snap))
        panels.outcome(snap)
        if snap.active and not snap.mine:
            st.info("You are watching a sweep that somebody else started; only they can pause or stop it.")
        if snap.mine and not snap.saved and snap.state in ("done", "stopped") and snap.rows:
            st.button("Save again", key="grid_save", on_click=command, args=(manager.save_again,))
    how = view(snap.config)
    watch(snap, live)
    cells = grid.read(snap.config, snap.rows)[0]
    result(snap.config, cells)
    picked(snap.config, cells)
else:
    try:
        measured = grid_store.load()
    except UserError as error:
        st.error(str(error))
        measured = []
    if measured:
        st.subheader("Measured before", anchor=False)
        names = [found["student"] for found in measured]
        name = st.segmented_control("Student", names, default=names[0], required=True, key="grid_stored") if len(names) > 1 else names[0]
        found = next(found for found in measured if found["student"] == name)
        how = view(found["config"])
        st.caption(f"The paper's claim: {found['claim']}")
        heat(found["config"], found["cells"], {}, how, "grid_stored_heat")
        if st.session_state.pop(keys.GRID_NEWS, False):
            st.rerun()
        result(found["config"], found["cells"])
        st.markdown(found["said"])
        picked(found["config"], found["cells"])
        st.caption(f"Until you start a sweep of your own, this is what `{found['command']}` gave ({found['machine']}).")
search_panel.show()
shown = {"shows": st.session_state[keys.GRID_MEASURE]} if st.session_state.get(keys.GRID_MEASURE, next(iter(MEASURES))) != next(iter(MEASURES)) else {}
axes.write_link(st.session_state.get(keys.GRID_RUN), shown | ({"gain": "1"} if st.session_state.get(keys.GRID_GAIN) else {}))
with told:
    if config is not None:
        forecast(config)
