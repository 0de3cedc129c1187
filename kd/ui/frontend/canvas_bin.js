const BIN = "Reset canvas & history" // the canvas' own button

// Every element below `node` that has a shadow root: the canvas is drawn in one.
const shadows = (node) => [...node.querySelectorAll("*")].map((element) => element.shadowRoot).filter(Boolean)

const wipe = (pen) => {
  for (const ink of shadows(pen).flatMap((shadow) => [...shadow.querySelectorAll(".lower-canvas")])) {
    ink.getContext("2d").clearRect(0, 0, ink.width, ink.height)
  }
}

// The canvas' buttons lie on its upper part until they have moved away from under the pointer: a stroke that
// begins there at once is lost. Keep them above the canvas.
const above = new CSSStyleSheet()
above.replaceSync(`
  .dc-toolbar { top: -2.9rem !important; }
  .dc-root:not(:hover, :focus-within) > .dc-toolbar { pointer-events: none; }
`)
const keepButtonsAbove = (pen) => {
  for (const { adoptedStyleSheets } of shadows(pen)) {
    if (!adoptedStyleSheets.includes(above)) adoptedStyleSheets.push(above)
  }
}

// The canvas' bin restores the drawing that the canvas began with. A canvas that began with the drawing of
// another page is therefore replaced by an empty one.
export default function ({ data, parentElement, setTriggerValue }) {
  const pen = parentElement.closest(".st-key-kd_pen")
  pen.empty = data.restored && (() => setTriggerValue("emptied", true))
  keepButtonsAbove(pen)
  if (pen.watched) return
  pen.watched = true
  new MutationObserver(() => keepButtonsAbove(pen)).observe(pen, { childList: true, subtree: true })
  pen.addEventListener("pointerover", () => keepButtonsAbove(pen), true)
  pen.addEventListener("click", (event) => {
    if (!pen.empty || !event.composedPath().some((node) => node.title === BIN)) return
    event.stopPropagation()
    wipe(pen)
    pen.empty()
  }, true)
}
