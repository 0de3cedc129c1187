"""Helpers for the tests of teachers."""

import torch

from kd.models import inference


def live(cached, digits):
    """Return the logits of the model itself, (N, 10), without the cache."""
    return inference.logits_in_chunks(cached.model, digits.inputs())


def close(one, other, tolerance=1e-4):
    return torch.allclose(one, other, rtol=0, atol=tolerance)


class Counted:
    """Count the images that pass through a teacher's model."""

    def __init__(self, cached):
        assert inference.aligned(cached.model) is cached.model, "a copy would do the work, uncounted"
        self.images, self.modes = 0, set()
        cached.model.register_forward_hook(self._count)

    def _count(self, model, inputs, output):
        self.images += len(inputs[0])
        self.modes |= {module.training for module in model.modules()}
