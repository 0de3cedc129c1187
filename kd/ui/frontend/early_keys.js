import { isShortcut, isTyping } from "./keys.js"

const EVERY = 100 // milliseconds between two looks at the page

// Streamlit's shortcuts work once their buttons are on the page. Keep the last key that was pressed while the
// page was still being built, and press its button as soon as it is there.
//
// `buttonOf(key)` returns the button on the page that has a shortcut, `isIdle()` whether the page is done.
export const keepEarlyKeys = (target, keys, { buttonOf, isIdle, signal }) => {
  let timer = null
  const press = (key) => {
    const button = buttonOf(key)
    if (!button && !isIdle()) return
    clearInterval(timer)
    button?.click()
  }
  target.addEventListener("keydown", (event) => {
    const pressed = keys.find((key) => isShortcut(event, key))
    if (!pressed || isTyping(event) || buttonOf(pressed) || isIdle()) return
    clearInterval(timer)
    timer = setInterval(press, EVERY, pressed)
  }, { signal })
}
