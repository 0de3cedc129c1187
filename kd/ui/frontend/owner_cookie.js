// The server proposes a token. A browser that already has one keeps its own and reports it.
export default function ({ data, setStateValue }) {
  const cookie = document.cookie.split("; ").find((part) => part.startsWith(data.cookie + "="))
  const token = cookie ? cookie.split("=")[1] : data.proposed
  document.cookie = `${data.cookie}=${token}; path=/; max-age=31536000; SameSite=Strict`
  if (token !== data.proposed) setStateValue("token", token)
}
