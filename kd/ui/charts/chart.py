"""Plotly charts that are updated in place.

st.plotly_chart builds the whole chart anew whenever its data change: zoom is lost
and nodes leak. This component draws into the same node with Plotly.react, reading
text and grid colours from the theme. Plotly itself comes from the installed package,
by a route of our own (kd.ui.server.assets).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import plotly
import streamlit as st

from kd.figures.training import Figure

_LOAD = """
const load = () => (window.kdPlotly ??= new Promise((done, failed) => {
  const script = document.createElement("script")
  script.src = new URL("./kd/assets/plotly.min.js?v=VERSION", document.baseURI).href
  script.onload = () => done(window.Plotly)
  script.onerror = () => { window.kdPlotly = undefined; failed(new Error("The chart library could not be loaded.")) }
  document.head.append(script)
}))
""".replace("VERSION", plotly.__version__)
_JS = (
    _LOAD
    + """
// Where nothing can hover, Plotly's buttons would lie over the legend all the time.
const options = {
  displaylogo: false, displayModeBar: matchMedia("(hover: hover)").matches ? "hover" : false,
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
}

const themed = (layout, div) => {
  const style = getComputedStyle(div)
  const ink = style.getPropertyValue("--st-text-color").trim() || "#444"
  const lines = style.getPropertyValue("--st-border-color").trim() || "#ddd"
  const paper = style.getPropertyValue("--st-background-color").trim() || "#fff"
  const axis = { gridcolor: lines, zerolinecolor: lines, linecolor: lines, automargin: true }
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: style.fontFamily, size: 12 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: lines, activecolor: ink },
    hoverlabel: { bgcolor: paper, bordercolor: lines, font: { color: ink } },
    xaxis: { ...axis, ...layout.xaxis }, yaxis: { ...axis, ...layout.yaxis },
  }
}

// Charts grow with the page's letters: on a stage, and where somebody has set large ones.
const scale = () => parseFloat(getComputedStyle(document.documentElement).fontSize) / 16 || 1
const SHOWN = new Set(["x", "y", "z", "text", "customdata", "range"])  // what a chart says, not how large
const SIZES = new Set(["size", "l", "r", "t", "b", "width"])
const grow = (part, by) => {
  for (const [name, value] of Object.entries(part)) {
    if (SHOWN.has(name)) continue
    if (typeof value === "number") { if (SIZES.has(name)) part[name] = value * by }
    else if (name === "size" && Array.isArray(value)) part[name] = value.map((one) => one * by)
    else if (value && typeof value === "object") grow(value, by)
  }
}

const draw = (div) => {
  // Nothing is drawn under a hand that drags: it would lose its zoom. The newest comes when it lets go.
  if (div.held || !div.isConnected) return
  // A copy, since Plotly writes zooms and hidden traces into what it was given. Drawn again, those would pass for the
  // figure's own, and the next figure would undo them.
  const { data, layout } = structuredClone(div.latest)
  const theme = themed(layout, div)
  // Plotly picks a cell's text colour as if nothing shone through the cell.
  for (const trace of data) if (trace.textfont?.color === "ink") trace.textfont.color = theme.font.color
  div.scale = scale()
  if (div.scale !== 1) grow({ data, theme }, div.scale)
  theme.height = div.clientHeight || theme.height
  window.Plotly.react(div, data, theme, options).then(() => {
    if (div.hears) return
    div.hears = true
    div.on("plotly_click", ({ points }) => div.pick?.({ x: points[0].x, y: points[0].y }))
  })
  // Its label says in words what it shows; letters strewn over the drawing say nothing.
  for (const drawing of div.querySelectorAll(".main-svg")) drawing.setAttribute("aria-hidden", "true")
}

const prepare = (div) => {
  div.addEventListener("pointerdown", () => {
    clearTimeout(div.release)  // of the press before: it must not let go of this one
    div.held = true
    const press = new AbortController()
    const letGo = () => {
      press.abort()
      div.release = setTimeout(() => { div.held = false; draw(div) }, 50)
    }
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, letGo, { signal: press.signal })
  }, true)
  // Columns find their width after the first drawing; Plotly itself watches only the window.
  div.watcher = new ResizeObserver(() => {
    if (!div._fullLayout || !div.isConnected) return
    if (div.scale !== scale()) draw(div)
    window.Plotly.Plots.resize(div)
  })
  div.watcher.observe(div)
}

// As it is on the screen, zoom and all, on the page's colour: by itself it is transparent.
const download = (div) => window.Plotly.downloadImage(
  { data: div.data, layout: { ...div.layout, paper_bgcolor: getComputedStyle(div).getPropertyValue("--st-background-color").trim() || "#fff" } },
  { format: "png", filename: div.latest.picture, width: div.clientWidth, height: div.clientHeight, scale: 2 },
)

const show = (box, name, figure, pick) => {
  let div = box.querySelector(".kd-chart." + name)
  if (!div) {
    div = document.createElement("div")
    div.className = "kd-chart " + name
    div.setAttribute("role", "figure")  // not img: Plotly's buttons are within
    const frame = document.createElement("div")
    frame.className = "kd-frame"
    const button = document.createElement("button")
    button.className = "kd-picture " + name
    button.type = "button"
    button.textContent = "⤓ Picture"
    frame.append(div, button)
    box.append(frame)
    prepare(div)
  }
  div.latest = figure
  div.pick = figure.picks ? pick : undefined
  div.style.height = figure.layout.height / 16 + "rem"
  div.setAttribute("aria-label", figure.label)
  const button = box.querySelector(".kd-picture." + name)
  button.hidden = !figure.picture
  button.onclick = () => { if (div._fullLayout) download(div) }
  load().then(() => draw(div)).catch((error) => { div.textContent = error.message })
}

const showAll = (box, { figures, progress }) => {
  const line = box.parentElement.querySelector(".kd-progress")
  line.hidden = !progress
  if (progress) {
    line.querySelector("span").textContent = progress.text
    line.querySelector("i").style.width = 100 * progress.share + "%"
    line.setAttribute("aria-valuenow", Math.round(100 * progress.share))
    line.setAttribute("aria-valuetext", progress.text)
  }
  for (const [name, figure] of Object.entries(figures)) show(box, name, figure, box.pick)
}

// Who only watches a run fetches what all of them see, as often as it says there. By setInterval: a hidden page is left
// to the browser to slow down. A look that fails is nothing, since the next may succeed and the page itself comes too.
const lookEvery = (box, seconds) => {
  if (box.every === seconds) return
  clearInterval(box.timer)
  box.every = seconds
  box.timer = seconds && setInterval(() => look(box).catch(() => {}), 1000 * seconds)
}
const look = async (box) => {
  if (!box.isConnected) return lookEvery(box, 0)
  // Revalidated with the ETag each time: where nothing is new, the browser gives what it has.
  const answer = await fetch(new URL("./" + box.followed, document.baseURI), { cache: "no-cache" })
  if (!answer.ok) return
  const now = await answer.json()
  if (!box.every) return  // no longer followed
  lookEvery(box, now.every)
  if (now.version <= box.version) return
  box.version = now.version
  showAll(box, now)
  if (now.state !== box.state) box.turn(box.state = now.state)
}

export default function ({ data, parentElement, setTriggerValue }) {
  const box = parentElement.querySelector(".kd-charts")
  const now = JSON.parse(new TextDecoder().decode(data))
  box.pick = (point) => setTriggerValue("picked", point)
  box.turn = (state) => setTriggerValue("turned", state)
  box.followed = now.follow
  box.version = now.version
  box.state = now.state
  lookEvery(box, now.follow ? now.every : 0)
  showAll(box, now)
  // Streamlit also calls this while the chart stays on the page (a full rerun after a fragment's): then it must live on,
  // zoom and all. And a drawing under way goes on for a moment, and fails on a chart that is purged.
  return () => setTimeout(() => {
    if (box.isConnected) return
    for (const div of box.querySelectorAll(".kd-chart")) {
      div.watcher.disconnect()
      if (div._fullLayout) window.Plotly.purge(div)
    }
  }, 1000)
}
"""
)

# The charts are side by side where there is room. The line above them looks like Streamlit's own.
_CSS = """
.kd-progress { margin-bottom: 1rem; color: var(--st-text-color); font-family: inherit; }
.kd-progress span { display: block; margin-bottom: 0.25rem; font-size: 0.875rem; }
.kd-progress div { height: 0.5rem; border-radius: 0.5rem; background: var(--st-secondary-background-color); overflow: hidden; }
.kd-progress i { display: block; height: 100%; border-radius: inherit; background: var(--st-primary-color); }
.kd-progress[hidden] { display: none; }
.kd-charts { display: flex; flex-wrap: wrap; gap: 1rem; width: 100%; }
.kd-frame { flex: 1 1 20rem; min-width: 0; }
.kd-chart { width: 100%; }
.kd-picture {
  display: block; margin-left: auto; padding: 0.3rem 0.6rem; border: 0; border-radius: 0.4rem; cursor: pointer;
  background: none; color: var(--st-text-color); opacity: 0.7; font: inherit; font-size: 0.8rem;
}
.kd-picture:hover, .kd-picture:focus-visible { opacity: 1; background: var(--st-secondary-background-color); }
.kd-picture[hidden] { display: none; }
"""

_HTML = """
<div class="kd-progress" role="progressbar" aria-valuemin="0" aria-valuemax="100" hidden><span></span><div><i></i></div></div>
<div class="kd-charts"></div>
"""

# An own prefix on the class, since the styles are not isolated: Plotly's stylesheet
# goes into the document's head and would not reach a shadow root.
_charts = st.components.v2.component("kd_live_charts", html=_HTML, css=_CSS, js=_JS, isolate_styles=False)


_library = st.components.v2.component(
    "kd_plotly", js=_LOAD + "export default () => { load().catch(() => {}) }\n"
)


def preload() -> None:
    """Lets the browser fetch and read Plotly (5 MB) before a chart is wanted, so that Start shows its first point at once."""
    _library(key="plotly", height=1)


def live_chart(figure: Figure, key: str, label: str) -> None:
    """Draws ``figure`` where ``key`` was drawn before.

    ``label`` says in words what the chart shows, for those who cannot see it. A figure with
    a ``picture``, the name of a file, offers to be downloaded as one.
    """
    live_charts(packed({key: (figure, label)}), key)


def packed(charts: Mapping[str, tuple[Figure, str]], news: Mapping[str, Any] | None = None) -> bytes:
    """Charts as they are sent: name -> (figure, label).

    ``news`` is for those who follow a run by what is fetched: its "progress" (share and text), "version", "state", "every"
    (seconds until it is worth another look), and, in what the page itself sends, "follow": where it is fetched.
    """
    return json.dumps(
        {
            **(news or {}),
            "figures": {name: figure | {"label": label} for name, (figure, label) in charts.items()},
        }
    ).encode()


def live_charts(
    charts: bytes,
    key: str,
    on_pick: Callable[[dict], None] | None = None,
    on_turn: Callable[[], None] | None = None,
) -> None:
    """Draws ``packed`` charts side by side, where ``key`` was drawn before.

    ``on_pick`` is told x and y of a point that was clicked, of figures that have ``picks`` set. ``on_turn`` is called, and
    the script or its fragment run, when a run that is followed has come to another state.

    Bytes are sent as they are; anything else Streamlit would write as JSON twice for each viewer. And one
    element costs each viewer's tick less than two in their columns.
    """
    heard = {"on_picked_change": lambda: on_pick(st.session_state[key]["picked"])} if on_pick else {}
    if on_turn:
        heard["on_turned_change"] = on_turn
    _charts(data=charts, key=key, **heard)
