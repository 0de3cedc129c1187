import { loadPlotly } from "./plotly.js"

export default function ({ data }) {
  loadPlotly(data.plotly).catch(() => {}) // the chart that needs it tries again and shows the error
}
