// A browser's translator replaces each text by a <font> element, or moves it into one. React, with which
// Streamlit draws the page, keeps the text nodes that it made: its changes to them are then invisible, and
// removing one of them fails and takes that part of the page away (github.com/facebook/react/issues/11538).
// Here such a change reaches the element that stands in the text's place.

// Numbers that change several times a second are not translated.
const UNTRANSLATED = "[data-testid=stMetric], [data-testid=stProgress], [data-testid=stDataFrame]"

const standIns = new WeakMap() // a text that was replaced -> the <font> in its place

// The child of `parent` that stands in the place of `node`.
const inPlace = (parent, node) => {
  if (!node || node.parentNode === parent) return node
  let above = node
  while (above.parentNode && above.parentNode !== parent) above = above.parentNode
  if (above.parentNode === parent && above.nodeName === "FONT") return above
  const font = standIns.get(node)
  return font?.parentNode === parent ? font : null
}

const keepTextsUsable = () => {
  const { removeChild, insertBefore } = Node.prototype
  Node.prototype.removeChild = function (child) {
    const found = inPlace(this, child)
    if (found || child?.nodeType !== Node.TEXT_NODE) removeChild.call(this, found ?? child)
    return child
  }
  Node.prototype.insertBefore = function (child, before) {
    return insertBefore.call(this, child, inPlace(this, before))
  }
  const { get, set } = Object.getOwnPropertyDescriptor(Node.prototype, "nodeValue")
  Object.defineProperty(Node.prototype, "nodeValue", {
    configurable: true,
    enumerable: true,
    get,
    set(value) {
      const font = standIns.get(this)
      if (font?.isConnected && !this.isConnected) font.replaceWith(this)
      standIns.delete(this)
      set.call(this, value)
    },
  })
}

const noteStandIns = ({ target, addedNodes, removedNodes, previousSibling, nextSibling }) => {
  for (const node of removedNodes) {
    if (node.nodeType !== Node.TEXT_NODE || node.isConnected) continue
    const font = [...addedNodes, previousSibling, nextSibling].find(
      (other) => other?.nodeName === "FONT" && other.parentNode === target,
    )
    if (font) standIns.set(node, font)
  }
}

const leaveUntranslated = (element) => {
  element.setAttribute("translate", "no")
  element.classList.add("notranslate")
}

const markNumbers = (root) => {
  if (root.matches(UNTRANSLATED)) leaveUntranslated(root)
  root.querySelectorAll(UNTRANSLATED).forEach(leaveUntranslated)
}

export default function () {
  if (document.documentElement.dataset.kdTranslation) return
  document.documentElement.dataset.kdTranslation = "ready"
  keepTextsUsable()
  markNumbers(document.body)
  new MutationObserver((records) => {
    for (const record of records) {
      noteStandIns(record)
      for (const node of record.addedNodes) {
        if (node.nodeType === Node.ELEMENT_NODE && node.namespaceURI.endsWith("xhtml")) markNumbers(node)
      }
    }
  }).observe(document.body, { childList: true, subtree: true })
}
