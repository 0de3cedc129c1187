// Acts as Google's translator does: every text is replaced by a <font>, or moved into one, whenever it changes.
(() => {
  let count = 0
  const wrap = (text) => {
    const parent = text.parentElement
    if (!text.data.trim() || !parent || parent.closest("font, [translate=no], .notranslate, script, style")) return
    const font = document.createElement("font")
    if (count++ % 2) {
      text.replaceWith(font)
      font.textContent = `«${text.data}»`
    } else {
      parent.insertBefore(font, text)
      font.append(text)
    }
  }
  const wrapAll = (root) => {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT)
    const texts = []
    while (walker.nextNode()) texts.push(walker.currentNode)
    texts.forEach(wrap)
  }
  wrapAll(document.body)
  new MutationObserver((records) => {
    for (const { type, target, addedNodes } of records) {
      if (type === "characterData") wrap(target)
      for (const node of addedNodes) node.nodeType === Node.TEXT_NODE ? wrap(node) : wrapAll(node)
    }
  }).observe(document.body, { childList: true, characterData: true, subtree: true })
})()
