import assert from "node:assert/strict"
import { test } from "node:test"

import { keepEarlyKeys } from "../early_keys.js"

// A page that is still being built, and what is clicked on it.
const loading = (context) => {
  context.mock.timers.enable({ apis: ["setInterval"] })
  const page = { target: new EventTarget(), buttons: new Set(), idle: false, clicks: [] }
  keepEarlyKeys(page.target, ["D", "S"], {
    buttonOf: (key) => page.buttons.has(key) ? { click: () => page.clicks.push(key) } : undefined,
    isIdle: () => page.idle,
  })
  page.press = (key, more = {}) => {
    const event = new Event("keydown")
    event.composedPath = () => [{ tagName: more.field ?? "BODY" }]
    page.target.dispatchEvent(Object.assign(event, { key, ...more }))
  }
  page.wait = () => context.mock.timers.tick(1000)
  return page
}

test("a key pressed before its button is there presses it once it appears", (context) => {
  const page = loading(context)
  page.press("d")
  page.wait()
  assert.deepEqual(page.clicks, [])
  page.buttons.add("D")
  page.wait()
  page.wait()
  assert.deepEqual(page.clicks, ["D"])
})

test("only the last early key counts", (context) => {
  const page = loading(context)
  page.press("s")
  page.press("d")
  page.buttons.add("D").add("S")
  page.wait()
  assert.deepEqual(page.clicks, ["D"])
})

test("a button that is there listens by itself", (context) => {
  const page = loading(context)
  page.buttons.add("D")
  page.press("d")
  page.wait()
  assert.deepEqual(page.clicks, [])
})

test("a key whose button never comes is forgotten", (context) => {
  const page = loading(context)
  page.press("d")
  page.idle = true
  page.wait()
  page.buttons.add("D")
  page.wait()
  assert.deepEqual(page.clicks, [])
})

for (const [name, key, more] of [
  ["typed into a field", "d", { field: "INPUT" }],
  ["with Ctrl", "d", { ctrlKey: true }],
  ["held down", "d", { repeat: true }],
  ["without a meaning", "z", {}],
]) {
  test(`a key ${name} is not kept`, (context) => {
    const page = loading(context)
    page.press(key, more)
    page.buttons.add("D").add("Z")
    page.wait()
    assert.deepEqual(page.clicks, [])
  })
}
