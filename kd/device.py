"""The device that training runs on."""

from __future__ import annotations

import os

import torch


def training_device() -> torch.device:
    """Where training runs: ``$KD_DEVICE``, else a GPU where there is one, else the CPU."""
    return torch.device(os.environ.get("KD_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))
