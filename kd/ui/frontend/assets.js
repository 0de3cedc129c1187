// Files that the server takes from installed packages: Plotly and ONNX Runtime Web.

// Return the address of such a file, which also works if the app is served below a base path. With a version,
// the browser keeps the file for a year; without one it asks each time whether the file has changed.
export const assetAddress = (name, version) =>
  new URL(`./kd/assets/${name}${version ? `?v=${version}` : ""}`, document.baseURI).href

export const fetchAsset = async (name) => {
  const response = await fetch(assetAddress(name))
  if (!response.ok) throw new Error(`${name} could not be loaded. Reload the page.`)
  return response
}
