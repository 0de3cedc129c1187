"""ONNX Runtime Web, as it comes: see README.md here."""

from kd import paths

FILES = [paths.ONNXRUNTIME_WEB / name for name in ("ort.mjs", "ort.wasm.gz")]
