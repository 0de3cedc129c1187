const REMOVED_BUTTONS = ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"]

// On devices that cannot hover, Plotly's toolbar would always cover the legend.
export const plotlyOptions = (canHover) => ({
  displaylogo: false,
  displayModeBar: canHover ? "hover" : false,
  modeBarButtonsToRemove: REMOVED_BUTTONS,
  showSendToCloud: false, // Plotly's button "Share chart..." would upload the chart to Plotly's servers
  plotlyServerURL: "",
})

// The layout in the page's colours and font. `style` holds the computed styles of the chart's node.
export const themedLayout = (layout, style) => {
  const ink = style.getPropertyValue("--st-text-color").trim() || "#444"
  const lines = style.getPropertyValue("--st-border-color").trim() || "#ddd"
  const paper = style.getPropertyValue("--st-background-color").trim() || "#fff"
  const axis = { gridcolor: lines, zerolinecolor: lines, linecolor: lines, automargin: true }
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: style.fontFamily, size: 12 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: lines, activecolor: ink },
    hoverlabel: { bgcolor: paper, bordercolor: lines, font: { color: ink } },
    xaxis: { ...axis, ...layout.xaxis },
    yaxis: { ...axis, ...layout.yaxis },
  }
}

const DATA = new Set(["x", "y", "z", "text", "customdata", "range"]) // what a chart shows, never a size
const SIZES = new Set(["size", "l", "r", "t", "b", "width"])

// Multiply every size within a figure, in place: charts grow with the page's font.
export const enlarge = (part, factor) => {
  for (const [name, value] of Object.entries(part)) {
    if (DATA.has(name)) continue
    if (typeof value === "number") {
      if (SIZES.has(name)) part[name] = value * factor
    } else if (name === "size" && Array.isArray(value)) {
      part[name] = value.map((size) => size * factor)
    } else if (value && typeof value === "object") {
      enlarge(value, factor)
    }
  }
}
