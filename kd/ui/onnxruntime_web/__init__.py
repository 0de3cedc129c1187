"""ONNX Runtime Web, as it comes: see README.md here."""

from pathlib import Path

FILES = [Path(__file__).parent / name for name in ("ort.mjs", "ort.wasm.gz")]
