"""ONNX Runtime Web, as it comes: see README.md here. kd.ui.server.assets serves its two files."""
