import assert from "node:assert/strict"
import { test } from "node:test"

import { listenToPen } from "../pen.js"

// A canvas of 200 pixels that is shown at half its size, 10 px from the left, and what is drawn on it.
const listening = () => {
  const canvas = {
    width: 200,
    height: 200,
    captured: [],
    getBoundingClientRect: () => ({ left: 10, top: 0, width: 100, height: 100 }),
    setPointerCapture: (id) => canvas.captured.push(id),
  }
  const lines = []
  let changes = 0
  listenToPen(canvas, (from, to) => lines.push([from, to]), () => { changes += 1 })
  return { canvas, lines, changes: () => changes }
}

const at = (x, y, more = {}) => (
  { pointerId: 1, isPrimary: true, button: 0, buttons: 1, clientX: x, clientY: y, ...more }
)
const hover = { button: -1, buttons: 0 }

test("the main button of the first pointer draws, in pixels of the canvas", () => {
  const { canvas, lines } = listening()
  canvas.onpointermove(at(10, 0, hover))
  canvas.onpointerdown(at(20, 10))
  canvas.onpointermove(at(60, 10, { getCoalescedEvents: () => [at(40, 10)] }))
  canvas.onpointerup(at(60, 10, { buttons: 0 }))
  canvas.onpointermove(at(90, 90, hover))
  assert.deepEqual(lines, [[[20, 20], [20, 20]], [[20, 20], [60, 20]], [[60, 20], [100, 20]]])
  assert.deepEqual(canvas.captured, [1])
})

for (const [name, button, buttons] of [["middle", 1, 4], ["right", 2, 2], ["eraser", 5, 32]]) {
  test(`the ${name} button does not draw`, () => {
    const { canvas, lines, changes } = listening()
    canvas.onpointerdown(at(20, 10, { button, buttons }))
    canvas.onpointermove(at(60, 10, { button: -1, buttons }))
    canvas.onpointerup(at(60, 10, { button, buttons: 0 }))
    assert.deepEqual([lines, changes()], [[], 0])
  })
}

test("a palm and a second finger neither draw nor end the stroke", () => {
  const { canvas, lines } = listening()
  const palm = { pointerId: 2, isPrimary: true } // another kind of pointer has a primary one of its own
  const finger = { pointerId: 3, isPrimary: false }
  canvas.onpointerdown(at(20, 10))
  for (const other of [palm, finger]) {
    canvas.onpointerdown(at(90, 90, other))
    canvas.onpointermove(at(80, 80, other))
    canvas.onpointerup(at(80, 80, { ...other, buttons: 0 }))
    canvas.onpointercancel(at(80, 80, { ...other, buttons: 0 }))
  }
  canvas.onpointermove(at(60, 10))
  assert.deepEqual(lines, [[[20, 20], [20, 20]], [[20, 20], [100, 20]]])
})

test("a finger that is not the primary one cannot begin a stroke", () => {
  const { canvas, lines } = listening()
  canvas.onpointerdown(at(20, 10, { pointerId: 4, isPrimary: false }))
  assert.deepEqual(lines, [])
})

test("a move without buttons lifts the pen", () => {
  const { canvas, lines, changes } = listening()
  canvas.onpointerdown(at(20, 10))
  canvas.onpointermove(at(60, 10, hover))
  assert.equal(changes(), 1)
  canvas.onpointermove(at(70, 10))
  assert.deepEqual(lines, [[[20, 20], [20, 20]]])
  canvas.onpointerdown(at(30, 10, { pointerId: 5 }))
  assert.deepEqual(lines.at(-1), [[40, 20], [40, 20]], "the next stroke begins where the pen is put down")
})

for (const end of ["onpointerup", "onpointercancel", "onlostpointercapture"]) {
  test(`${end} ends the stroke once`, () => {
    const { canvas, lines, changes } = listening()
    canvas.onpointerdown(at(20, 10))
    canvas[end](at(20, 10, { buttons: 0 }))
    canvas.onlostpointercapture(at(20, 10, { buttons: 0 }))
    canvas.onpointermove(at(60, 10))
    assert.deepEqual([lines.length, changes()], [1, 1])
  })
}
