const isField = (node) => /^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName) || node.isContentEditable

export const isTyping = (event) => event.composedPath().some(isField)

// A key that types something, pressed alone.
export const isCharacter = (event) =>
  event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey && !event.altKey

export const isShortcut = (event, key) =>
  event.key.toUpperCase() === key && !event.repeat && isCharacter(event)
