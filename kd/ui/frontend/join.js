import { keepEarlyKeys } from "./early_keys.js"
import { isCharacter, isShortcut, isTyping } from "./keys.js"

const isIdle = () => document.querySelector('[data-testid="stApp"]')?.dataset.testScriptState === "notRunning"

const buttonOf = (letter) =>
  [...document.querySelectorAll("button kbd")]
    .find((kbd) => kbd.textContent.trim() === letter)?.closest("button")

export default function ({ data, parentElement }) {
  const button = parentElement.querySelector(".kd-stage-button")
  const dialog = parentElement.querySelector("dialog")
  const [code, address, warning] = ["img", "code", "p"].map((tag) => dialog.querySelector(tag))
  if (data.code) code.src = data.code
  else code.removeAttribute("src")
  address.textContent = data.address
  warning.textContent = data.warning
  if (dialog.listeners) return
  dialog.listeners = new AbortController()
  const { signal } = dialog.listeners

  // Opened and closed by the browser alone, so that keys work however fast they come.
  const turn = () => dialog.open ? dialog.close() : dialog.showModal()
  button.addEventListener("click", turn, { signal })
  dialog.querySelector(".kd-close").addEventListener("click", turn, { signal })
  dialog.addEventListener("click", ({ target }) => target === dialog && turn(), { signal })
  window.addEventListener("keydown", (event) => {
    if (!dialog.isConnected) return dialog.listeners.abort()
    const turns = isShortcut(event, data.key) && !isTyping(event)
    const closes = dialog.open && event.key === "Escape"
    if (!turns && !closes && !(dialog.open && isCharacter(event))) return
    // No other key reaches the page while the code is shown.
    event.stopImmediatePropagation()
    event.preventDefault()
    if (turns || closes) turn()
  }, { capture: true, signal })
  keepEarlyKeys(window, data.keys, { buttonOf, isIdle, signal })
  dialog.dataset.ready = "yes"
}
