"""The app's own JavaScript, CSS and HTML as files, and the npm packages next to them; see README.md here."""

from __future__ import annotations

import re

from kd import paths

_IMPORT = re.compile(r'^import \{([\w, \n]+)\} from "\./([\w.]+)"\n', re.MULTILINE)
_ANY_IMPORT = re.compile(r"^import\b|^export\b(?! (?:const|function|async function) )", re.MULTILINE)
_EXPORT = re.compile(r"^export (?=const |function |async function )", re.MULTILINE)

_DIST = paths.FRONTEND / "node_modules" / "onnxruntime-web" / "dist"
#: ONNX Runtime Web for one thread on the CPU: the name in the browser -> the file of the npm package.
ONNX_RUNTIME_WEB = {
    "ort.mjs": _DIST / "ort.wasm.bundle.min.mjs",
    "ort.wasm": _DIST / "ort-wasm-simd-threaded.wasm",
}


def read(name: str) -> str:
    """Return a file of this folder as text."""
    return (paths.FRONTEND / name).read_text(encoding="utf-8")


def script(name: str) -> str:
    """Return a component's JavaScript, with every module that it imports placed before it.

    Streamlit starts a component's script from a blob address, where a relative import cannot be
    resolved. All modules therefore share one scope, and their top-level names must differ.

    Raises:
        ValueError: a file uses a form of import or export that this function does not know.
    """
    modules: dict[str, str] = {}
    _collect(name, modules)
    entry = modules.pop(name)
    return "\n".join([*(_EXPORT.sub("", source) for source in modules.values()), entry])


def _collect(name: str, modules: dict[str, str]) -> None:
    """Add a module to ``modules`` after those that it imports; each is added once."""
    source = read(name)
    for _, imported in _IMPORT.findall(source):
        if imported not in modules:
            _collect(imported, modules)
    source = _IMPORT.sub("", source)
    if unknown := _ANY_IMPORT.search(source.replace("export default function", "")):
        raise ValueError(f'{name}: use import {{ x }} from "./y.js" and export const or function ({unknown})')
    modules[name] = source


def onnx_runtime_web_is_installed() -> bool:
    """Return whether `make frontend` has installed ONNX Runtime Web here."""
    return all(path.is_file() for path in ONNX_RUNTIME_WEB.values())
