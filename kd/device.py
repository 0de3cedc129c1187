"""Choose the device that training runs on."""

from __future__ import annotations

import os

import torch


def training_device() -> torch.device:
    """Return ``$KD_DEVICE`` if it is set, otherwise a GPU if there is one, otherwise the CPU."""
    return torch.device(os.environ.get("KD_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))
