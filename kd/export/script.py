"""Classify a picture of a digit: python classify.py digit.png. Needs numpy, pillow and onnxruntime."""

import sys

import numpy as np
import onnxruntime
from PIL import Image

ink = np.asarray(Image.open(sys.argv[1]).convert("L"), np.float32) / 255
if np.median(np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])) > 0.5:
    ink = 1 - ink  # dark ink on light paper
ink[ink < 0.02] = 0
rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] / ink.max()
height, width = (max(1, round(side * 20 / max(box.shape))) for side in box.shape)
small = np.asarray(Image.fromarray(box).resize((width, height), Image.Resampling.BOX))
middle = [(small.sum(1 - axis) * np.arange(small.shape[axis])).sum() / small.sum() for axis in (0, 1)]
top, left = (int(np.clip(round(14 - m), 0, 28 - side)) for m, side in zip(middle, small.shape))
pixels = np.zeros((1, 28, 28), np.uint8)
pixels[0, top : top + height, left : left + width] = np.rint(small * 255)
logits = onnxruntime.InferenceSession("model.onnx").run(["logits"], {"pixels": pixels})[0][0]
print(f"{logits.argmax()} ({np.exp(logits - logits.max()).max() / np.exp(logits - logits.max()).sum():.1%})")
