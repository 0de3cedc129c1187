import assert from "node:assert/strict"
import { readFileSync } from "node:fs"
import { test } from "node:test"
import { inflateSync } from "node:zlib"

import { oddity } from "../oddities.js"
import { inkFromCanvas, prepare } from "../preprocess.js"

const SETTINGS = { side: 28, digitSide: 20, centre: 13.999, smallest: 1 / 8, thin: 1.2, widened: 2 }

const rectangle = (top, left, height, width, side = 280) => {
  const ink = new Float32Array(side * side)
  for (let y = top; y < top + height; y++) ink.fill(1, y * side + left, y * side + left + width)
  return ink
}

const boxOf = (image) => {
  const places = [...image.keys()].filter((place) => image[place])
  const [rows, columns] = [places.map((place) => Math.floor(place / 28)), places.map((place) => place % 28)]
  return [Math.min(...rows), Math.max(...rows), Math.min(...columns), Math.max(...columns)]
}

test("an empty canvas and a click give nothing", () => {
  assert.equal(prepare(new Float32Array(280 * 280), 280, 280, SETTINGS), null)
  assert.equal(prepare(rectangle(100, 100, 28, 28), 280, 280, SETTINGS), null)
})

test("a rectangle is scaled to 20 pixels and centred", () => {
  assert.deepEqual(boxOf(prepare(rectangle(20, 30, 200, 100), 280, 280, SETTINGS)), [4, 23, 9, 18])
})

test("hair-thin strokes are widened to two pixels", () => {
  assert.deepEqual(boxOf(prepare(rectangle(40, 140, 200, 1), 280, 280, SETTINGS)).slice(2), [13, 14])
})

test("half a pixel is rounded to the even number, as in Python", () => {
  const [, , left, right] = boxOf(prepare(rectangle(20, 30, 200, 105), 280, 280, SETTINGS))
  assert.equal(right - left + 1, 10)
})

test("ink is the mean of red, green and blue, times the opacity", () => {
  assert.deepEqual([...inkFromCanvas([255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0, 255])], [1, 0, 0])
})

const skip = process.env.KD_CASES ? false : "tests/unit/test_frontend.py writes the cases and runs this"
test("every case of kd.drawing gives the same pixels and the same warning", { skip }, () => {
  const { settings, oddities, cases } = JSON.parse(readFileSync(process.env.KD_CASES, "utf8"))
  const different = cases.filter(({ rows, columns, rgba, expected, odd }) => {
    const ink = inkFromCanvas(inflateSync(Buffer.from(rgba, "base64")))
    const image = prepare(ink, rows, columns, settings)
    const found = image && oddity(image, settings.side, oddities)
    return JSON.stringify(image && [...image]) !== JSON.stringify(expected) || found !== odd
  })
  assert.deepEqual(different.map(({ name }) => name), [])
})
