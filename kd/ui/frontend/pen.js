// Which pointer draws: the first primary one, with its main button. A palm, a second finger, the right or the
// middle button and an eraser do not. `draw(from, to)` gets points in pixels of the canvas, and `changed` is
// called after each part of a stroke.
export const listenToPen = (canvas, draw, changed) => {
  let pointer = null
  let last = null
  const position = (event) => {
    const box = canvas.getBoundingClientRect()
    return [
      (event.clientX - box.left) * canvas.width / box.width,
      (event.clientY - box.top) * canvas.height / box.height,
    ]
  }
  const drawTo = (event) => {
    const next = position(event)
    draw(last ?? next, next)
    last = next
  }
  const lift = (event) => {
    if (event.pointerId !== pointer) return
    pointer = last = null
    changed()
  }
  canvas.onpointerdown = (event) => {
    if (pointer !== null || !event.isPrimary || event.button !== 0) return
    pointer = event.pointerId
    canvas.setPointerCapture(pointer)
    drawTo(event)
  }
  canvas.onpointermove = (event) => {
    if (event.pointerId !== pointer) return
    // The button was released where the browser did not tell us, such as over a context menu.
    if (!(event.buttons & 1)) return lift(event)
    for (const part of event.getCoalescedEvents?.() ?? []) drawTo(part)
    drawTo(event)
    changed()
  }
  canvas.onpointerup = canvas.onpointercancel = canvas.onlostpointercapture = lift
}
