// What makes a drawing unlike one of a single digit: the same steps as oddity() in kd/drawing/oddities.py.
// Images are flat arrays of bytes, row by row. `settings` holds the constants of the Python module:
//   ink      pixels above this are ink
//   tall     parts side by side are digits of their own if each has this share of the drawing's height ...
//   heavy    ... and this share of its ink
//   blot     a solid square of this many pixels is a blot

// The first and last row and column of each connected part, and how many pixels it has.
const connectedParts = (isInk, side) => {
  const seen = new Uint8Array(side * side)
  const parts = []
  for (let start = 0; start < seen.length; start++) {
    if (!isInk[start] || seen[start]) continue
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
          if (!isInk[next] || seen[next]) continue
          seen[next] = 1
          edge.push(next)
        }
      }
    }
    parts.push(part)
  }
  return parts
}

const hasSeveralDigits = (pixels, side, { ink, tall, heavy }) => {
  const parts = connectedParts(pixels.map((value) => value > ink ? 1 : 0), side)
  const top = Math.min(...parts.map((part) => part.top))
  const height = Math.max(...parts.map((part) => part.bottom)) - top + 1
  const total = parts.reduce((sum, part) => sum + part.size, 0)
  const digits = parts.filter((part) =>
    part.bottom - part.top + 1 >= tall * height && part.size >= heavy * total)
  return digits.some((left) => digits.some((right) => left.right < right.left))
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
