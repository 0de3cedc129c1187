// What makes a drawing unlike one of a single digit: the same steps as oddity() in kd/drawing/oddities.py.
// Images are flat arrays of bytes, row by row. `settings` holds the constants of the Python module:
//   ink      pixels above this are ink
//   tall     parts side by side are digits of their own if each has this share of the drawing's height ...
//   heavy    ... and this share of its ink
//   hole     holes side by side belong to several digits if each has this share of the drawing's height
//   blot     a solid square of this many pixels is a blot

// The first and last row and column of each connected part of a mask, and how many pixels it has.
const connectedParts = (mask, side, corners) => {
  const seen = new Uint8Array(side * side)
  const parts = []
  for (let start = 0; start < seen.length; start++) {
    if (!mask[start] || seen[start]) continue
    const part = { top: side, bottom: -1, left: side, right: -1, size: 0 }
    const edge = [start]
    seen[start] = 1
    while (edge.length) {
      const place = edge.pop()
      const [y, x] = [Math.floor(place / side), place % side]
      part.top = Math.min(part.top, y)
      part.bottom = Math.max(part.bottom, y)
      part.left = Math.min(part.left, x)
      part.right = Math.max(part.right, x)
      part.size++
      for (let down = Math.max(0, y - 1); down <= Math.min(side - 1, y + 1); down++) {
        for (let across = Math.max(0, x - 1); across <= Math.min(side - 1, x + 1); across++) {
          const next = down * side + across
          const diagonal = down !== y && across !== x
          if (!mask[next] || seen[next] || diagonal && !corners) continue
          seen[next] = 1
          edge.push(next)
        }
      }
    }
    parts.push(part)
  }
  return parts
}

// Whether two parts that are at least `tall` have no column in common.
const areSideBySide = (parts, tall) => {
  const tallOnes = parts.filter((part) => part.bottom - part.top + 1 >= tall)
  return tallOnes.some((left) => tallOnes.some((right) => left.right < right.left))
}

const hasSeveralDigits = (pixels, side, { ink, tall, heavy, hole }) => {
  const parts = connectedParts(pixels.map((value) => value > ink ? 1 : 0), side, true)
  const top = Math.min(...parts.map((part) => part.top))
  const height = Math.max(...parts.map((part) => part.bottom)) - top + 1
  const total = parts.reduce((sum, part) => sum + part.size, 0)
  const holes = connectedParts(pixels.map((value) => value > ink ? 0 : 1), side, false).filter((part) =>
    part.top > 0 && part.left > 0 && part.bottom < side - 1 && part.right < side - 1)
  return areSideBySide(parts.filter((part) => part.size >= heavy * total), tall * height) ||
    areSideBySide(holes, hole * height)
}

const isBlot = (pixels, side, { blot }) => {
  // The side of the largest solid square whose bottom right corner is each pixel.
  const squares = new Uint8Array(side * side)
  for (let place = 0; place < squares.length; place++) {
    if (pixels[place] <= 127) continue
    const inner = place >= side && place % side > 0
    squares[place] = inner
      ? 1 + Math.min(squares[place - 1], squares[place - side], squares[place - side - 1])
      : 1
  }
  return squares.some((square) => square >= blot)
}

// The key of the warning that an image of side x side bytes deserves, or null.
export const oddity = (pixels, side, settings) => {
  if (hasSeveralDigits(pixels, side, settings)) return "several"
  return isBlot(pixels, side, settings) ? "blot" : null
}
