import assert from "node:assert/strict"
import { test } from "node:test"

import { formatMilliseconds, median, softmax } from "../numbers.js"

test("softmax sums to one and survives large logits", () => {
  const shares = softmax(Float32Array.from([1000, 1000, -1000]))
  assert.deepEqual(shares, [0.5, 0.5, 0])
})

test("the median does not change its argument", () => {
  const values = [10, 9, 1]
  assert.equal(median(values), 9)
  assert.deepEqual(values, [10, 9, 1])
})

test("times have a unit and three digits at most", () => {
  assert.equal(formatMilliseconds(0.042), "42 µs")
  assert.equal(formatMilliseconds(1.234), "1.23 ms")
  assert.equal(formatMilliseconds(123.4), "123 ms")
})
