import assert from "node:assert/strict"
import { test } from "node:test"

import { enlarge, plotlyOptions, themedLayout } from "../chart_layout.js"

test("sizes grow with the font, data and ranges stay", () => {
  const figure = {
    data: [{ x: [1, 2], y: [3, 4], text: ["a"], line: { width: 2 }, marker: { size: [4, 6] } }],
    layout: { xaxis: { range: [0, 10] }, margin: { l: 10, t: 20 }, font: { size: 12 }, height: 300 },
  }
  enlarge(figure, 1.5)
  assert.deepEqual(figure, {
    data: [{ x: [1, 2], y: [3, 4], text: ["a"], line: { width: 3 }, marker: { size: [6, 9] } }],
    layout: { xaxis: { range: [0, 10] }, margin: { l: 15, t: 30 }, font: { size: 18 }, height: 300 },
  })
})

test("the layout takes the theme's colours and keeps its own settings", () => {
  const colours = { "--st-text-color": " #111 ", "--st-border-color": "#222" }
  const style = { fontFamily: "serif", getPropertyValue: (name) => colours[name] ?? "" }
  const layout = themedLayout({ xaxis: { title: "epoch", gridcolor: "red" } }, style)
  assert.deepEqual(layout.font, { color: "#111", family: "serif", size: 12 })
  assert.equal(layout.hoverlabel.bgcolor, "#fff")
  assert.equal(layout.xaxis.title, "epoch")
  assert.equal(layout.xaxis.gridcolor, "red")
  assert.equal(layout.yaxis.gridcolor, "#222")
})

test("no button uploads a chart, and a touch screen gets no toolbar", () => {
  assert.equal(plotlyOptions(true).showSendToCloud, false)
  assert.equal(plotlyOptions(true).plotlyServerURL, "")
  assert.equal(plotlyOptions(true).displayModeBar, "hover")
  assert.equal(plotlyOptions(false).displayModeBar, false)
})
