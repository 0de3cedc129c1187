// Turn strokes into the pixels that the networks were trained on: the same steps as kd/drawing/preprocess.py,
// with the same result to the last bit. Where Python computes in float32, Math.fround rounds as it does.
// Images are flat arrays, row by row. `settings` holds the constants of the Python module:
//   side         pixels per side of the result (28)
//   digitSide    pixels of the digit's longer side within it (20)
//   centre       where the centre of mass goes, as a pixel index
//   smallest     ink whose longer side is below this share of the canvas is a click, not a digit
//   thin         strokes thinner than this are widened ...
//   widened      ... to this width; both in pixels of the result

// Round half to even, as Python does.
const roundHalfToEven = (value) => {
  const below = Math.floor(value)
  const rest = value - below
  if (rest === 0.5) return below % 2 === 0 ? below : below + 1
  return rest < 0.5 ? below : below + 1
}

// RGBA bytes of a canvas, light strokes on black or on nothing -> ink, 0 to 1.
export const inkFromCanvas = (rgba) => {
  const { fround } = Math
  const share = Float32Array.from({ length: 256 }, (_, byte) => byte / 255)
  const ink = new Float32Array(rgba.length / 4)
  for (let pixel = 0; pixel < ink.length; pixel++) {
    const alpha = rgba[4 * pixel + 3]
    if (alpha === 0) continue
    const sum = fround(share[rgba[4 * pixel]] + share[rgba[4 * pixel + 1]]) + share[rgba[4 * pixel + 2]]
    ink[pixel] = fround(fround(sum) / 3) * share[alpha]
  }
  return ink
}

// Return the smallest part of an image that has all its ink, or null if there is no ink.
const crop = ({ values, rows, columns }) => {
  let top = rows
  let bottom = -1
  let left = columns
  let right = -1
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      if (!values[y * columns + x]) continue
      top = Math.min(top, y)
      bottom = Math.max(bottom, y)
      left = Math.min(left, x)
      right = Math.max(right, x)
    }
  }
  if (bottom < 0) return null
  const [height, width] = [bottom - top + 1, right - left + 1]
  const box = new Float32Array(height * width)
  for (let y = 0; y < height; y++) {
    const begin = (y + top) * columns + left
    box.set(values.subarray(begin, begin + width), y * width)
  }
  return { values: box, rows: height, columns: width }
}

// Widen hair-thin strokes, such as those of a ballpoint pen on paper; leave all others unchanged.
const thicken = (box, { digitSide, thin, widened }) => {
  const { values, rows, columns } = box
  const isSolid = (y, x) => y >= 0 && y < rows && x >= 0 && x < columns && values[y * columns + x] > 0.5
  const outline = []
  let solid = 0
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      if (!isSolid(y, x)) continue
      solid++
      const inside = isSolid(y - 1, x) && isSolid(y + 1, x) && isSolid(y, x - 1) && isSolid(y, x + 1)
      if (!inside) outline.push([y, x])
    }
  }
  const scale = digitSide / Math.max(rows, columns)
  const width = 2 * solid / outline.length * scale
  if (width >= thin) return box
  const reach = (widened - width) / 2 / scale
  const margin = Math.trunc(reach) + 1
  const [height, wide] = [rows + 2 * margin, columns + 2 * margin]
  const padded = new Float32Array(height * wide)
  for (let y = 0; y < rows; y++) {
    padded.set(values.subarray(y * columns, (y + 1) * columns), (y + margin) * wide + margin)
  }
  // Every pixel within reach of solid ink becomes solid. The nearest solid pixel is always on the outline.
  const disc = []
  for (let y = -margin; y <= margin; y++) {
    for (let x = -margin; x <= margin; x++) if (Math.sqrt(y * y + x * x) <= reach) disc.push(y * wide + x)
  }
  for (const [y, x] of outline) {
    const place = (y + margin) * wide + x + margin
    for (const offset of disc) padded[place + offset] = 1
  }
  return crop({ values: padded, rows: height, columns: wide })
}

// For each of `length` new pixels along one side: the old pixels that it averages, as in Pillow's BOX filter.
// The formulas are Pillow's own, since at the edge of a pixel the last bit decides.
const boxFilter = (count, length) => {
  const step = count / length
  const reach = Math.max(step, 1)
  return Array.from({ length }, (_, index) => {
    const middle = (index + 0.5) * step
    const first = Math.max(0, Math.trunc(middle - 0.5 * reach + 0.5))
    const end = Math.min(count, Math.trunc(middle + 0.5 * reach + 0.5))
    const weights = []
    for (let old = first; old < end; old++) {
      const offset = (old - middle + 0.5) * (1 / reach)
      weights.push(offset > -0.5 && offset <= 0.5 ? 1 : 0)
    }
    const sum = weights.reduce((total, weight) => total + weight, 0)
    return { first, weights: weights.map((weight) => weight / sum) }
  })
}

// Resize by averaging: first to the new width, then to the new height.
const resize = ({ values, rows, columns }, height, width) => {
  const narrow = new Float32Array(rows * width)
  boxFilter(columns, width).forEach(({ first, weights }, x) => {
    for (let y = 0; y < rows; y++) {
      let sum = 0
      weights.forEach((weight, i) => { sum += values[y * columns + first + i] * weight })
      narrow[y * width + x] = sum
    }
  })
  const small = new Float32Array(height * width)
  boxFilter(rows, height).forEach(({ first, weights }, y) => {
    for (let x = 0; x < width; x++) {
      let sum = 0
      weights.forEach((weight, i) => { sum += narrow[(first + i) * width + x] * weight })
      small[y * width + x] = sum
    }
  })
  return small
}

// Return where `profile` (the ink per row or column) must start so that its mean is central and all fits.
const offset = (profile, { side, centre }) => {
  let sum = 0
  let moment = 0
  profile.forEach((ink, index) => {
    sum += ink
    moment += ink * index
  })
  return Math.max(0, Math.min(side - profile.length, roundHalfToEven(centre - moment / sum)))
}

// Ink, 0 to 1, of rows x columns -> side x side bytes, or null if nothing or only a dot was drawn.
export const prepare = (ink, rows, columns, settings) => {
  const { side, digitSide, smallest } = settings
  let box = crop({ values: ink, rows, columns })
  if (!box || Math.max(box.rows, box.columns) < smallest * Math.max(rows, columns)) return null
  // Every image of MNIST reaches full white; faint or hair-thin ink would not.
  const peak = box.values.reduce((largest, value) => Math.max(largest, value), 0)
  box = thicken({ ...box, values: box.values.map((value) => value / peak) }, settings)
  const scale = digitSide / Math.max(box.rows, box.columns)
  const scaled = (length) => Math.max(1, roundHalfToEven(length * scale))
  const [height, width] = [scaled(box.rows), scaled(box.columns)]
  const small = resize(box, height, width)

  const perRow = new Float32Array(height)
  const perColumn = new Float32Array(width)
  small.forEach((value, index) => {
    perRow[Math.floor(index / width)] += value
    perColumn[index % width] += value
  })
  const [top, left] = [offset(perRow, settings), offset(perColumn, settings)]
  const image = new Uint8Array(side * side)
  small.forEach((value, index) => {
    const place = (top + Math.floor(index / width)) * side + left + index % width
    image[place] = roundHalfToEven(Math.fround(value * 255))
  })
  return image
}
