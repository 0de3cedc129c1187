"""The heat map of a sweep, and its cells: inspected, clicked, and opened on the Distil page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from kd import paths, permissions
from kd.config.sweep import AXES, SweepConfig
from kd.errors import UserError
from kd.figures import sweep as sweep_figures
from kd.jobs.snapshot import Snapshot
from kd.store import runs
from kd.sweeps import opening, sweep_cells, sweep_summary, sweep_weights
from kd.sweeps.sweep_cells import SweepCell
from kd.sweeps.sweep_summary import MEASURES
from kd.ui.charts.chart import live_charts, packed
from kd.ui.distil import settings as distil_settings
from kd.ui.shell import notices, session_keys, visitor


def view(config: SweepConfig) -> dict[str, Any]:
    """Draw the widgets for the heat map's view, initially the link's; return the view."""
    if session_keys.GRID_MEASURE not in st.session_state and st.query_params.get("shows") in MEASURES:
        st.session_state[session_keys.GRID_MEASURE] = st.query_params["shows"]
    if session_keys.GRID_GAIN not in st.session_state and "gain" in st.query_params:
        st.session_state[session_keys.GRID_GAIN] = True
    several = config.varied
    across = [name for name in ("temperature", *AXES) if name in several] or ["temperature"]
    down = [name for name in ("soft_weight", *AXES) if name != across[0] and name in several] or [
        "temperature" if across[0] == "soft_weight" else "soft_weight"
    ]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        measure = st.selectbox(
            "Colour shows", list(MEASURES), key=session_keys.GRID_MEASURE, format_func=MEASURES.get
        )
        gain = st.toggle(
            "Difference from the control",
            key=session_keys.GRID_GAIN,
            help="Compares each network with the control of the same seed; averaged over the seeds.",
        )
    x, y = across[0], down[0]
    fixed = {name: config.values(name)[0] for name in AXES}
    if set(several) - {x, y}:
        with st.container(horizontal=True, vertical_alignment="bottom"):
            x = st.selectbox(
                "Across", list(dict.fromkeys(across)), key="grid_x", format_func=sweep_figures.TITLES.get
            )
            choices = [name for name in dict.fromkeys([*down, "soft_weight", *across]) if name != x]
            y = st.selectbox("Down", choices, key="grid_y", format_func=sweep_figures.TITLES.get)
            for name in several:
                if name not in (x, y):
                    fixed[name] = st.selectbox(
                        sweep_figures.TITLES[name].capitalize(),
                        config.values(name),
                        key=f"grid_fixed_{name}",
                        format_func=lambda value, name=name: sweep_figures.tick(name, value),
                    )
    return {"x": x, "y": y, "fixed": fixed, "measure": measure, "gain": gain}


def link() -> dict[str, str]:
    """Return the view as link parameters."""
    first = next(iter(MEASURES))
    measure = st.session_state.get(session_keys.GRID_MEASURE, first)
    return ({"shows": measure} if measure != first else {}) | (
        {"gain": "1"} if st.session_state.get(session_keys.GRID_GAIN) else {}
    )


def heat(
    config: SweepConfig,
    cells: list[dict[str, Any]],
    live: Mapping[int, Mapping[str, float]],
    how: dict[str, Any],
    key: str,
) -> None:
    figure = sweep_figures.heat(
        config, sweep_summary.by_place(cells), sweep_summary.under_way(config, live), **how
    ) | {"picture": "sweep", "picks": True}
    best = sweep_summary.best(cells)
    summary = (
        sweep_figures.verdict(best, sweep_figures.named(config)) if best else "No training has finished yet."
    )
    label = f"Heat map of {MEASURES[how['measure']].lower()} over {how['x']} and {how['y']}. {summary}"
    live_charts(packed({key: (figure, label)}), key, lambda point: _pick(config, how, point))


def _pick(config: SweepConfig, how: dict[str, Any], point: dict | None) -> None:
    """Handle a click on a cell of the heat map."""
    if not point:
        return
    named = {
        name: {sweep_figures.tick(name, value): value for value in sweep_figures.axis(config, name)}
        for name in (how["x"], how["y"])
    }
    x, y = named[how["x"]].get(point.get("x")), named[how["y"]].get(point.get("y"))
    if x is not None and y is not None:
        _pick_place(sweep_summary.place(how["fixed"] | {how["x"]: x, how["y"]: y}))
        st.session_state[session_keys.GRID_TOUCHED] = config
        st.session_state[session_keys.GRID_NEWS] = st.session_state[session_keys.GRID_OPEN] = True


def _pick_place(place: Any) -> None:
    """Show another cell.

    Its select box gets a new key: Streamlit sends a new value to the browser only once, and a
    fragment's rerun may overtake it.
    """
    if st.session_state.get(session_keys.GRID_PICKED) != place:
        st.session_state[session_keys.GRID_PICKED] = place
        st.session_state[session_keys.GRID_CELLS] = st.session_state.get(session_keys.GRID_CELLS, 0) + 1


def _touched(config: SweepConfig, key: str) -> None:
    """Keep the cell that the visitor chose; otherwise the best one is shown."""
    st.session_state[session_keys.GRID_PICKED], st.session_state[session_keys.GRID_TOUCHED] = (
        st.session_state[key],
        config,
    )


def held(snap: Snapshot) -> frozenset[int]:
    """Return the cells whose networks this visitor can open."""
    if not snap.saved or not permissions.allowed(visitor.digest()):
        return frozenset()
    return sweep_weights.held(runs.load(snap.id))


def open_clicked(snap: Snapshot, open_cells: frozenset[int]) -> None:
    """Go to the run of the cell that was just clicked, if its network was kept."""
    if st.session_state.pop(session_keys.GRID_OPEN, False):
        cell = _cell(
            snap.config,
            st.session_state.get(session_keys.GRID_PICKED),
            st.session_state.get(session_keys.GRID_SEED),
        )
        if cell is not None and cell.index in open_cells:
            _open(snap, cell)


def _cell(config: SweepConfig, place: Any, seed: int | None) -> SweepCell | None:
    seed = config.seed if seed is None else seed
    return next(
        (
            cell
            for cell in sweep_cells.cells(config)
            if cell.config.seed == seed and sweep_summary.place(cell.settings) == place
        ),
        None,
    )


def _open(snap: Snapshot, cell: SweepCell) -> None:
    """Open the cell as a run of its own on the Distil page."""
    try:
        run = opening.open_cell(snap.id, cell.index, visitor.token())
    except UserError as error:
        notices.notify("error", str(error))
        st.rerun()
    distil_settings.show_run(run.id)
    st.switch_page(paths.page("distil"))


def what_a_click_does(snap: Snapshot, open_cells: frozenset[int]) -> str:
    """Describe what a click on a cell does."""
    config, settings = (
        snap.config,
        "Click a cell to see its numbers. **Open its settings** below shows them on the Distil page.",
    )
    bound = sweep_weights.bound(sweep_cells.cells(config))
    if open_cells:
        seed = st.session_state.get(session_keys.GRID_SEED) or config.seed
        return f"**Click a cell to open that student** (seed {seed}) on the Distil page. {bound}"
    if snap.active:
        return (
            f"When the sweep has ended, click a cell to open the student that was trained. {bound}"
            if sweep_weights.kept(sweep_cells.cells(config))
            else f"{bound} {settings}"
        )
    if not permissions.allowed(visitor.digest()):
        return f"{permissions.ONLY.format('open cells as runs')} {settings}"
    return f"{bound or 'This sweep kept no networks.'} {settings}"


def picked(
    config: SweepConfig,
    cells: list[dict[str, Any]],
    snap: Snapshot | None = None,
    open_cells: frozenset[int] = frozenset(),
) -> None:
    """Show one cell's numbers for each seed, and buttons to open its trained run or only its settings."""
    best = sweep_summary.best(cells)
    if best is None:
        return
    places = {
        sweep_summary.place(cell.settings): cell.settings
        for cell in reversed(sweep_cells.cells(config.replace(seeds=1)))
    }
    places = dict(reversed(places.items()))
    if (
        st.session_state.get(session_keys.GRID_TOUCHED) != config
        or st.session_state.get(session_keys.GRID_PICKED) not in places
    ):
        _pick_place(sweep_summary.place(best))
    key, options = f"grid_cell_{st.session_state[session_keys.GRID_CELLS]}", list(places)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Cell",
            options,
            options.index(st.session_state[session_keys.GRID_PICKED]),
            key=key,
            on_change=_touched,
            args=(config, key),
            help="Or click it in the heat map.",
            format_func=lambda place: sweep_figures.title(places[place], sweep_figures.named(config)),
        )
        seed = st.selectbox(
            "Seed",
            range(config.seed, config.seed + config.seeds),
            key=session_keys.GRID_SEED,
            help="The seed whose run a click opens.",
        )
        mine = _cell(config, chosen, seed)
        if open_cells:
            if st.button(
                "Open this run",
                key="grid_open_run",
                type="primary",
                icon=":material/open_in_new:",
                disabled=mine.index not in open_cells,
                help="The student that was trained in this cell, with its control, as a run of your own.",
            ):
                _open(snap, mine)
        if st.button(
            "Open its settings",
            key="grid_open",
            icon=":material/tune:",
            help="On the Distil page, where Start trains the cell again, next to its control.",
        ):
            distil_settings.show(mine.config)
            st.switch_page(paths.page("distil"))
    rows = sweep_summary.seeds(cells, chosen)
    if rows:
        percent = st.column_config.NumberColumn(format="percent")
        columns = {name: percent for name in sweep_summary.COLUMNS.values() if name != "test errors"}
        st.dataframe(
            rows,
            hide_index=True,
            width="stretch",
            column_config=columns
            | {
                "seconds": st.column_config.NumberColumn(
                    format="%.2f", help="This training's share of its group's training time."
                )
            },
        )
    else:
        st.caption("Not trained yet.")


def result(config: SweepConfig, cells: list[dict[str, Any]]) -> None:
    """Describe the result in words."""
    best = sweep_summary.best(cells)
    if best:
        st.markdown(sweep_figures.verdict(best, sweep_figures.named(config)))
