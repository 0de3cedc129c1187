export const softmax = (logits) => {
  const largest = Math.max(...logits)
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest))
  const sum = powers.reduce((total, power) => total + power, 0)
  return powers.map((power) => power / sum)
}

export const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]

export const formatMilliseconds = (value) =>
  value < 0.1 ? (1000 * value).toFixed(0) + " µs" : value.toFixed(value < 10 ? 2 : 0) + " ms"
