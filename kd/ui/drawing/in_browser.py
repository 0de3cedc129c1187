"""A network that runs in the visitor's own browser: draw, and no server is asked.

ONNX Runtime Web (kd.ui.drawing.onnxruntime_web) computes; the way from strokes to 28x28 pixels is
that of kd.drawing.prepare, written again in JavaScript. Its pen is never thin, so that
strokes need not be widened.
"""

from __future__ import annotations

import base64
import json

import streamlit as st

from kd.data.task import MNIST
from kd.drawing import preprocess
from kd.ui.drawing import canvas

_HTML = """
<div class="kd-own">
  <div class="kd-own-left">
    <canvas width="SIZE" height="SIZE" aria-label="Draw a digit here; the network in this browser answers."></canvas>
    <button type="button">Clear</button>
  </div>
  <div class="kd-own-right" aria-live="polite">
    <div class="kd-own-answer">Loading…</div>
    <div class="kd-own-bars"></div>
    <div class="kd-own-note"></div>
  </div>
</div>
""".replace("SIZE", str(canvas.SIZE))

_CSS = """
.kd-own { display: flex; flex-wrap: wrap; gap: 1.5rem; color: var(--st-text-color); font-family: inherit; }
.kd-own canvas { display: block; background: #000; border: 1px solid var(--st-border-color); touch-action: none; cursor: crosshair; max-width: 100%; }
.kd-own button {
  margin-top: 0.5rem; padding: 0.3rem 0.8rem; border: 1px solid var(--st-border-color); border-radius: 0.5rem;
  background: none; color: inherit; font: inherit; font-size: 0.9rem; cursor: pointer;
}
.kd-own-right { flex: 1 1 14rem; min-width: 0; }
.kd-own-answer { font-size: 1.1rem; min-height: 2rem; }
.kd-own-bars { display: grid; grid-template-columns: 1rem 1fr 3.2rem; gap: 0.15rem 0.5rem; align-items: center; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
.kd-own-bars i { display: block; height: 0.7rem; min-width: 1px; background: var(--st-primary-color); border-radius: 2px; }
.kd-own-note { margin-top: 0.6rem; font-size: 0.85rem; opacity: 0.75; }
"""

_JS = (
    """
const at = (name) => new URL("./kd/assets/" + name, document.baseURI).href

const fetched = async (name) => {
  const answer = await fetch(at(name))
  if (!answer.ok) throw new Error(name + " could not be fetched; reload the page.")
  return answer
}

// Once for the page. The code is imported from a blob, whatever type the server gives a file.
const runtime = () => (window.kdOrt ??= (async () => {
  const [code, packed] = await Promise.all([fetched("ort.mjs"), fetched("ort.wasm.gz")])
  const address = URL.createObjectURL(new Blob([await code.text()], { type: "text/javascript" }))
  const ort = await import(address)
  const bytes = await packed.arrayBuffer()
  const zipped = new Uint8Array(bytes, 0, 2).join() === "31,139"
  ort.env.wasm.numThreads = 1
  ort.env.wasm.wasmBinary = zipped
    ? await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer() : bytes
  return ort
})().catch((error) => { window.kdOrt = undefined; throw error }))

// -- from strokes to 28x28: as kd/drawing/preprocess.py -------------------------------------------------
const SIDE = TASK_SIDE, DIGIT_SIDE = 20, CENTRE = CENTER, SMALLEST = 1 / 8

// Rows or columns averaged to ``length`` of them, whole pixels at a time, as Pillow's BOX does.
const averaged = (from, rows, columns, length, along) => {
  const [count, other] = along ? [columns, rows] : [rows, columns]
  const to = new Float32Array(length * other), step = count / length
  for (let i = 0; i < length; i++) {
    // Written as Pillow writes it: at a pixel's very edge the last bit decides.
    const middle = (i + 0.5) * step, reach = 0.5 * step, parts = []
    for (let k = Math.max(0, Math.trunc(middle - reach + 0.5)); k < Math.min(count, Math.trunc(middle + reach + 0.5)); k++) {
      const offset = (k - middle + 0.5) * (1 / step)
      if (offset > -0.5 && offset <= 0.5) parts.push(k)
    }
    for (const k of parts) for (let j = 0; j < other; j++) {
      if (along) to[j * length + i] += from[j * columns + k] / parts.length
      else to[i * columns + j] += from[k * columns + j] / parts.length
    }
  }
  return to
}

const place = (profile) => {
  let sum = 0, moment = 0
  profile.forEach((ink, i) => { sum += ink; moment += ink * i })
  return Math.max(0, Math.min(SIDE - profile.length, Math.round(CENTRE - moment / sum)))
}

const prepared = (paper) => {
  const { width, height } = paper, rgba = paper.getContext("2d").getImageData(0, 0, width, height).data
  let top = height, bottom = -1, left = width, right = -1, peak = 0
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const ink = rgba[4 * (y * width + x) + 3]  // white on nothing: its alpha
    if (!ink) continue
    peak = Math.max(peak, ink)
    top = Math.min(top, y); bottom = Math.max(bottom, y); left = Math.min(left, x); right = Math.max(right, x)
  }
  const rows = bottom - top + 1, columns = right - left + 1
  if (bottom < 0 || Math.max(rows, columns) < SMALLEST * Math.max(width, height)) return null
  const box = new Float32Array(rows * columns)
  for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) box[y * columns + x] = rgba[4 * ((y + top) * width + x + left) + 3] / peak
  const scale = DIGIT_SIDE / Math.max(rows, columns)
  const [high, wide] = [rows, columns].map((length) => Math.max(1, Math.round(length * scale)))
  const small = averaged(averaged(box, rows, columns, wide, true), rows, wide, high, false)
  const perRow = new Float32Array(high), perColumn = new Float32Array(wide)
  small.forEach((ink, i) => { perRow[Math.floor(i / wide)] += ink; perColumn[i % wide] += ink })
  const [down, across] = [place(perRow), place(perColumn)]
  const image = new Uint8Array(SIDE * SIDE)
  small.forEach((ink, i) => { image[(down + Math.floor(i / wide)) * SIDE + across + (i % wide)] = Math.round(255 * ink) })
  return image
}

// -- the page ------------------------------------------------------------------------------------
const milliseconds = (value) => value < 0.1 ? (1000 * value).toFixed(0) + " µs" : value.toFixed(value < 10 ? 2 : 0) + " ms"

// The median of rounds of about 20 ms each: a browser's clock is coarse.
const timed = async (run) => {
  const rounds = []
  let calls = 1
  for (let i = 0; i < 12; i++) {
    const begin = performance.now()
    for (let k = 0; k < calls; k++) await run()
    const each = (performance.now() - begin) / calls
    if (i > 2) rounds.push(each)
    else calls = Math.max(calls, Math.min(1000, Math.ceil(20 / Math.max(each, 0.02))))
  }
  return rounds.sort((a, b) => a - b)[Math.floor(rounds.length / 2)]
}

const begin = async (own, { model, server }) => {
  const [paper, answer, bars, note] = ["canvas", ".kd-own-answer", ".kd-own-bars", ".kd-own-note"].map((name) => own.querySelector(name))
  const pen = paper.getContext("2d", { willReadFrequently: true })
  Object.assign(pen, { lineWidth: PEN, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" })
  const ort = await runtime()
  const session = await ort.InferenceSession.create(Uint8Array.from(atob(model), (c) => c.charCodeAt(0)), { executionProviders: ["wasm"] })
  const logits = async (pixels) => (await session.run({ pixels: new ort.Tensor("uint8", pixels, [1, SIDE, SIDE]) })).logits.data
  bars.innerHTML = Array.from({ length: TASK_CLASSES }, (_, digit) => `<span>${digit}</span><i style="width: 0"></i><span></span>`).join("")
  const took = await timed(() => logits(new Uint8Array(SIDE * SIDE)))
  note.textContent = `${milliseconds(took)} an image in this browser, with one thread; ${milliseconds(server)} on the server. ` +
    "What you draw here is sent nowhere."
  answer.textContent = "Draw a digit."
  own.dataset.ready = "yes"

  let busy = false, again = false
  const say = async () => {
    if (busy) { again = true; return }
    busy = true
    const pixels = prepared(paper)
    if (!pixels) answer.textContent = "Draw a digit."
    const said = pixels ? [...await logits(pixels)] : []
    const top = Math.max(...said), powers = said.map((z) => Math.exp(z - top)), sum = powers.reduce((a, b) => a + b, 0)
    bars.querySelectorAll("i").forEach((bar, digit) => {
      const share = pixels ? powers[digit] / sum : 0
      bar.style.width = 100 * share + "%"
      bar.nextSibling.textContent = pixels ? (100 * share).toFixed(1) + "%" : ""
    })
    if (pixels) answer.textContent = `It is a ${said.indexOf(top)}.`
    own.dataset.pixels = pixels ? [...pixels].join() : ""
    busy = false
    if (again) { again = false; say() }
  }
  let last = null
  const spot = (event) => {
    const box = paper.getBoundingClientRect()
    return [(event.clientX - box.left) * paper.width / box.width, (event.clientY - box.top) * paper.height / box.height]
  }
  const draw = (event) => {
    const here = spot(event)
    pen.beginPath(); pen.moveTo(...last); pen.lineTo(...here); pen.stroke()
    last = here
  }
  paper.onpointerdown = (event) => { paper.setPointerCapture(event.pointerId); last = spot(event); draw(event) }
  paper.onpointermove = (event) => { if (last) { for (const part of event.getCoalescedEvents?.() ?? []) draw(part); draw(event); say() } }
  paper.onpointerup = paper.onpointercancel = () => { if (last) { last = null; say() } }
  own.querySelector("button").onclick = () => { pen.clearRect(0, 0, paper.width, paper.height); say() }
}

export default function ({ data, parentElement }) {
  const own = parentElement.querySelector(".kd-own")
  const given = new TextDecoder().decode(data)
  if (own.given === given) return  // a rerun of the page: what is drawn stays
  own.given = given
  begin(own, JSON.parse(given)).catch((error) => { own.querySelector(".kd-own-answer").textContent = error.message })
}
""".replace("PEN", str(canvas.PEN))
    .replace("CENTER", str(preprocess.CENTRE))
    .replace("TASK_SIDE", str(preprocess.SIDE))
    .replace("TASK_CLASSES", str(MNIST.classes))
)

_own = st.components.v2.component("kd_in_browser", html=_HTML, css=_CSS, js=_JS, isolate_styles=False)


def show(model: bytes, server: float, key: str) -> None:
    """A canvas whose answers are computed by the browser.

    Args:
        model: as kd.export.to_onnx gives it.
        server: seconds that an image takes on the server.
    """
    _own(
        data=json.dumps({"model": base64.b64encode(model).decode(), "server": 1e3 * server}).encode(), key=key
    )
