import { fetchAsset } from "./assets.js"

// Load ONNX Runtime Web once per page. Its code is imported from a blob, so the content type that the
// server sends does not matter.
export const loadOnnxRuntime = () => (window.kdOrt ??= (async () => {
  const [code, wasm] = await Promise.all([fetchAsset("ort.mjs"), fetchAsset("ort.wasm")])
  const address = URL.createObjectURL(new Blob([await code.text()], { type: "text/javascript" }))
  const ort = await import(address)
  ort.env.wasm.numThreads = 1
  ort.env.wasm.wasmBinary = await wasm.arrayBuffer()
  return ort
})().catch((error) => {
  window.kdOrt = undefined
  throw error
}))

// Load a model (an ONNX file in base64) and return a function from one image (uint8 pixels) to an output.
export const openModel = async (ort, model, side, output = "logits") => {
  const bytes = Uint8Array.from(atob(model), (character) => character.charCodeAt(0))
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] })
  return async (pixels) => {
    const results = await session.run({ pixels: new ort.Tensor("uint8", pixels, [1, side, side]) })
    return results[output].data
  }
}
