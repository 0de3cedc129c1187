// Part of the page itself: takes the first sentence away as soon as the app shows something of its own.
{
  const main = '[data-testid="stMain"] :is(h1, h2, p, button, [data-testid="stSkeleton"])'
  const shown = `${main}, [role="dialog"]`
  const observer = new MutationObserver(() => {
    if (!document.querySelector(shown)) return
    observer.disconnect()
    document.getElementById("kd-first-paint")?.remove()
  })
  observer.observe(document.body, { childList: true, subtree: true })
}
