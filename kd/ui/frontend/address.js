const staysOnPage = (url) => url && new URL(url, location.href).pathname === location.pathname

// Streamlit adds an entry to the history whenever the server changes the query. Back would then step through
// addresses that the widgets do not follow, so only another page makes an entry.
const keepOneEntryPerPage = () => {
  if (window.kdAddress) return
  window.kdAddress = {}
  const push = history.pushState.bind(history)
  history.pushState = (state, unused, url) => {
    if (staysOnPage(url)) history.replaceState(state, unused, url)
    else push(state, unused, url)
  }
}

export default function ({ data }) {
  keepOneEntryPerPage()
  const last = window.kdAddress
  // Streamlit may call this again with old data, after a fragment or another page has changed the address.
  if (last.session === data.session && last.count >= data.count) return
  window.kdAddress = data
  const address = location.pathname + (data.query && "?" + data.query)
  if (address !== location.pathname + location.search) history.replaceState(history.state, "", address)
}
