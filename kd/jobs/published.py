"""Copies of a job's models that pages can read during training."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import nn

T = TypeVar("T")


class PublishedModels:
    """A job's models in eval mode as they were at its last record.

    Pages read these copies, and never a model in training.
    """

    def __init__(self) -> None:
        self.models: dict[str, nn.Module] = {}
        self._lock = threading.Lock()

    def publish(self, trained: Mapping[str, nn.Module]) -> None:
        """Copy the weights and buffers of ``trained``, the job's models by name."""
        with self._lock, torch.no_grad():
            for name, model in trained.items():
                if name not in self.models:
                    self.models[name] = copy.deepcopy(model).eval()
                copies = self.models[name].state_dict().values()
                for published, value in zip(copies, model.state_dict().values()):
                    published.copy_(value)

    def read(self, function: Callable[[nn.Module], T]) -> dict[str, T]:
        """Return the result of ``function`` for each model, by name; empty before the first record.

        ``function`` must not keep any part of the models.
        """
        with self._lock, torch.inference_mode():
            return {name: function(model) for name, model in self.models.items()}
