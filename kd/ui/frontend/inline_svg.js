export default function ({ data, parentElement }) {
  const div = parentElement.querySelector(".kd-picture")
  if (div.shown === data.svg) return
  div.shown = data.svg
  div.innerHTML = data.svg
}
