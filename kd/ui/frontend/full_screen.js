const isField = (node) => /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName) || node.isContentEditable

const isTyping = (event) => event.composedPath().some(isField)

const isShortcut = (event, key) =>
  event.key.toUpperCase() === key && !event.repeat && !event.ctrlKey && !event.metaKey && !event.altKey

const toggle = () => {
  const change = document.fullscreenElement
    ? document.exitFullscreen()
    : document.documentElement.requestFullscreen()
  change.catch(() => {}) // the browser may refuse
}

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector(".kd-full-screen")
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
