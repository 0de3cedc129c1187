import { enlarge, plotlyOptions, themedLayout } from "./chart_layout.js"
import { loadPlotly } from "./plotly.js"

const options = plotlyOptions(matchMedia("(hover: hover)").matches)

// Charts grow with the page's font: in presenter mode, and for visitors who set a larger one.
const fontScale = () => parseFloat(getComputedStyle(document.documentElement).fontSize) / 16 || 1

const draw = (div) => {
  // Do not draw while the pointer is down: the zoom would be lost. The newest figure is drawn on release.
  if (div.pressed || !div.isConnected) return
  // Draw a copy, because Plotly writes zooms and hidden traces into the objects that it is given. If it got
  // these objects again, it would take the zoom for part of the figure, and the next figure would undo it.
  const { data, layout } = structuredClone(div.latest)
  const themed = themedLayout(layout, getComputedStyle(div))
  // Plotly chooses a cell's text colour as if the cell were opaque.
  for (const trace of data) if (trace.textfont?.color === "ink") trace.textfont.color = themed.font.color
  div.scale = fontScale()
  if (div.scale !== 1) enlarge({ data, themed }, div.scale)
  themed.height = div.clientHeight || themed.height
  window.Plotly.react(div, data, themed, options).then(() => {
    if (div.listensToClicks) return
    div.listensToClicks = true
    div.on("plotly_click", ({ points }) => div.pick?.({ x: points[0].x, y: points[0].y }))
  })
  // The label describes the chart in words; scattered letters would not help a screen reader.
  for (const drawing of div.querySelectorAll(".main-svg")) drawing.setAttribute("aria-hidden", "true")
}

const prepareNode = (div) => {
  div.addEventListener("pointerdown", () => {
    clearTimeout(div.release) // an earlier press must not end this one
    div.pressed = true
    const press = new AbortController()
    const release = () => {
      press.abort()
      div.release = setTimeout(() => {
        div.pressed = false
        draw(div)
      }, 50)
    }
    for (const end of ["pointerup", "pointercancel"]) {
      window.addEventListener(end, release, { signal: press.signal })
    }
  }, true)
  // Columns get their width after the first drawing, and Plotly itself watches only the window.
  div.watcher = new ResizeObserver(() => {
    if (!div._fullLayout || !div.isConnected) return
    if (div.scale !== fontScale()) draw(div)
    window.Plotly.Plots.resize(div)
  })
  div.watcher.observe(div)
}

// Download the chart as it is on screen, with its zoom, on the page's background: its own is transparent.
const download = (div) => {
  const background = getComputedStyle(div).getPropertyValue("--st-background-color").trim() || "#fff"
  const size = { width: div.clientWidth, height: div.clientHeight, scale: 2 }
  return window.Plotly.downloadImage(
    { data: div.data, layout: { ...div.layout, paper_bgcolor: background } },
    { format: "png", filename: div.latest.picture, ...size },
  )
}

const addChart = (box, name) => {
  const div = document.createElement("div")
  div.className = "kd-chart " + name
  div.setAttribute("role", "figure") // not "img": it contains Plotly's buttons
  const button = document.createElement("button")
  button.className = "kd-picture " + name
  button.type = "button"
  button.textContent = "⤓ Picture"
  const headline = document.createElement("p")
  headline.className = "kd-headline"
  const doubt = document.createElement("p")
  doubt.className = "kd-doubt"
  doubt.setAttribute("role", "status")
  const caption = document.createElement("p")
  caption.className = "kd-caption"
  const frame = document.createElement("div")
  frame.className = "kd-frame"
  frame.append(headline, doubt, div, button, caption)
  box.append(frame)
  prepareNode(div)
  return div
}

const span = (className, text) => {
  const node = document.createElement("span")
  node.className = className
  node.textContent = text
  return node
}

// Each model's answer in words, such as "● student 7 98%".
const answerNodes = ({ role, mark, colour, digit, share }) => {
  const answer = span("kd-answer", "")
  answer.append(
    span("kd-role " + colour, mark + " " + role), " ", span("kd-digit", digit), " ", span("kd-share", share),
  )
  return answer
}

const showWords = (frame, { headline, doubt, caption, apart }) => {
  frame.classList.toggle("apart", Boolean(apart))
  const above = frame.querySelector(".kd-headline")
  above.hidden = !headline
  if (headline) above.replaceChildren(...headline.map(answerNodes))
  const warning = frame.querySelector(".kd-doubt")
  warning.hidden = !doubt
  if (warning.textContent !== (doubt ?? "")) warning.textContent = doubt ?? ""
  const below = frame.querySelector(".kd-caption")
  // The page knows a caption, the route that sends newer figures does not.
  if (caption) below.textContent = caption
  below.hidden = !below.textContent
}

const showFigure = (box, name, figure) => {
  const div = box.querySelector(".kd-chart." + name) ?? addChart(box, name)
  div.parentElement.hidden = false
  showWords(div.parentElement, figure)
  div.latest = figure
  div.pick = figure.picks ? box.pick : undefined
  div.style.height = figure.layout.height / 16 + "rem"
  div.setAttribute("aria-label", figure.label)
  const button = box.querySelector(".kd-picture." + name)
  button.hidden = !figure.picture
  button.onclick = () => {
    if (div._fullLayout) download(div)
  }
  loadPlotly(box.plotly)
    .then(() => draw(div))
    .catch((error) => { div.textContent = error.message })
}

const showAll = (box, { figures, progress }) => {
  // A model that no longer answers takes its chart along.
  for (const div of box.querySelectorAll(".kd-chart")) {
    if (![...div.classList].some((name) => name in figures)) div.parentElement.hidden = true
  }
  const line = box.parentElement.querySelector(".kd-progress")
  line.hidden = !progress
  if (progress) {
    line.querySelector("span").textContent = progress.text
    line.querySelector("i").style.width = 100 * progress.share + "%"
    line.setAttribute("aria-valuenow", Math.round(100 * progress.share))
    line.setAttribute("aria-valuetext", progress.text)
  }
  for (const [name, figure] of Object.entries(figures)) showFigure(box, name, figure)
}

// Spectators of a run fetch the same file, at the interval that the file gives. setInterval lets the browser
// slow down a hidden page. A failed fetch is ignored: the next may succeed, and the page updates itself too.
const fetchEvery = (box, seconds) => {
  if (box.every === seconds) return
  clearInterval(box.timer)
  box.every = seconds
  box.timer = seconds && setInterval(() => fetchLatest(box).catch(() => {}), 1000 * seconds)
}

const fetchLatest = async (box) => {
  if (!box.isConnected) return fetchEvery(box, 0)
  const followed = box.followed
  // Revalidated with the ETag each time: where nothing is new, the browser takes what it has.
  const response = await fetch(new URL("./" + followed, document.baseURI), { cache: "no-cache" })
  if (!response.ok) return
  const latest = await response.json()
  if (!box.every || box.followed !== followed) return // no longer followed, or another drawing
  fetchEvery(box, latest.every)
  if (latest.version <= box.version) return
  box.version = latest.version
  showAll(box, latest)
  if (latest.state !== box.state) {
    box.state = latest.state
    box.reportState(latest.state)
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const box = parentElement.querySelector(".kd-charts")
  const latest = JSON.parse(new TextDecoder().decode(data))
  box.pick = (point) => setTriggerValue("picked", point)
  box.reportState = (state) => setTriggerValue("turned", state)
  box.plotly = latest.plotly
  box.followed = latest.follow
  box.version = latest.version
  box.state = latest.state
  fetchEvery(box, latest.follow ? latest.every : 0)
  showAll(box, latest)
  // Streamlit also calls this when the chart stays on the page (in a full rerun after a fragment's rerun).
  // The chart must then keep its node and its zoom. Wait, because drawing fails on a chart that was purged.
  return () => setTimeout(() => {
    if (box.isConnected) return
    for (const div of box.querySelectorAll(".kd-chart")) {
      div.watcher.disconnect()
      if (div._fullLayout) window.Plotly.purge(div)
    }
  }, 1000)
}
