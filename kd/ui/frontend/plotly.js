import { assetAddress } from "./assets.js"

// Load Plotly once per page; a failed attempt may be repeated.
export const loadPlotly = (version) => (window.kdPlotly ??= new Promise((resolve, reject) => {
  const script = document.createElement("script")
  script.src = assetAddress("plotly.min.js", version)
  script.onload = () => resolve(window.Plotly)
  script.onerror = () => {
    window.kdPlotly = undefined
    reject(new Error("The chart library could not be loaded."))
  }
  document.head.append(script)
}))
