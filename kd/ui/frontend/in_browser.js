import { formatMilliseconds, median, softmax } from "./numbers.js"
import { loadOnnxRuntime, openModel } from "./onnx_runtime.js"
import { oddity } from "./oddities.js"
import { listenToPen } from "./pen.js"
import { inkFromCanvas, prepare } from "./preprocess.js"

// The median time of one call in milliseconds, over rounds of about 20 ms each: a browser's clock is coarse.
const measureLatency = async (run) => {
  const rounds = []
  let calls = 1
  for (let round = 0; round < 12; round++) {
    const begin = performance.now()
    for (let call = 0; call < calls; call++) await run()
    const each = (performance.now() - begin) / calls
    if (round > 2) rounds.push(each)
    else calls = Math.max(calls, Math.min(1000, Math.ceil(20 / Math.max(each, 0.02))))
  }
  return median(rounds)
}

const addBars = (bars, classes) => {
  for (const name of classes) {
    const bar = document.createElement("i")
    bar.style.width = "0"
    const [label, share] = [document.createElement("span"), document.createElement("span")]
    label.textContent = name
    bars.append(label, bar, share)
  }
}

const start = async (panel, settings) => {
  const { model, check, serverMilliseconds, canvasSize, penWidth } = settings
  const { preprocessing, classes, warnings } = settings
  const canvas = panel.querySelector("canvas")
  const answer = panel.querySelector(".kd-own-answer")
  const warning = panel.querySelector(".kd-own-warning")
  const bars = panel.querySelector(".kd-own-bars")
  canvas.width = canvas.height = canvasSize
  const pen = canvas.getContext("2d", { willReadFrequently: true })
  Object.assign(pen, { lineWidth: penWidth, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" })

  const { side } = preprocessing
  const ort = await loadOnnxRuntime()
  const logits = await openModel(ort, model, side)
  const unfamiliarity = await openModel(ort, check, side, "unfamiliarity")
  bars.replaceChildren()
  addBars(bars, classes)
  const browserMilliseconds = await measureLatency(() => logits(new Uint8Array(side * side)))
  panel.querySelector(".kd-own-note").textContent =
    `${formatMilliseconds(browserMilliseconds)} per image in this browser (one thread), ` +
    `${formatMilliseconds(serverMilliseconds)} on the server. Your drawing stays in this browser.`

  const show = (pixels, probabilities, odd) => {
    const best = probabilities.indexOf(Math.max(...probabilities))
    answer.textContent = pixels ? `It is a ${classes[best]}.` : "Draw a digit."
    warning.hidden = !odd
    warning.textContent = odd ? warnings[odd] : ""
    bars.querySelectorAll("i").forEach((bar, index) => {
      const percent = pixels ? 100 * probabilities[index] : 0
      bar.style.width = percent + "%"
      bar.nextSibling.textContent = pixels ? percent.toFixed(1) + "%" : ""
    })
    panel.dataset.pixels = pixels ? [...pixels].join() : ""
  }

  // The key of the warning that the drawing deserves, or null.
  const findOddity = async (pixels) =>
    oddity(pixels, side, settings.oddities) ?? ((await unfamiliarity(pixels))[0] > 1 ? "unfamiliar" : null)

  // One prediction at a time; strokes drawn meanwhile lead to one more.
  let busy = false
  let changed = false
  const predict = async () => {
    changed = busy
    if (busy) return
    busy = true
    const { width, height } = canvas
    const ink = inkFromCanvas(pen.getImageData(0, 0, width, height).data)
    const pixels = prepare(ink, height, width, preprocessing)
    if (pixels) show(pixels, softmax(await logits(pixels)), await findOddity(pixels))
    else show(null, [], null)
    busy = false
    if (changed) predict()
  }
  const draw = (from, to) => {
    pen.beginPath()
    pen.moveTo(...from)
    pen.lineTo(...to)
    pen.stroke()
  }
  listenToPen(canvas, draw, predict)
  panel.querySelector("button").onclick = () => {
    pen.clearRect(0, 0, canvas.width, canvas.height)
    predict()
  }
  answer.textContent = "Draw a digit."
  panel.dataset.ready = "yes"
}

export default function ({ data, parentElement }) {
  const panel = parentElement.querySelector(".kd-own")
  const settings = new TextDecoder().decode(data)
  if (panel.settings === settings) return // a rerun of the page: the drawing stays
  panel.settings = settings
  start(panel, JSON.parse(settings)).catch((error) => {
    panel.querySelector(".kd-own-answer").textContent = error.message
  })
}
