import { isShortcut, isTyping } from "./keys.js"

const toggle = () => {
  const change = document.fullscreenElement
    ? document.exitFullscreen()
    : document.documentElement.requestFullscreen()
  change.catch(() => {}) // the browser may refuse
}

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector(".kd-stage-button")
  button.hidden = !document.fullscreenEnabled // phones allow it for videos only
  if (button.listeners) return
  button.listeners = new AbortController()
  const { signal } = button.listeners
  button.addEventListener("click", toggle, { signal })
  document.addEventListener("keydown", (event) => {
    if (!button.isConnected) button.listeners.abort()
    else if (isShortcut(event, data.key) && !isTyping(event)) toggle()
  }, { signal })
}
