"""Random numbers that depend on their purpose alone."""

from __future__ import annotations

import hashlib

import torch


def seed(*key: int | str) -> int:
    """Return the seed for a key such as (0, "order", 3). Different keys have different seeds."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*key: int | str) -> torch.Generator:
    """Return a generator for a key.

    Nothing in training depends on how many random numbers were drawn before, so a run can be
    resumed at any step, and other threads cannot disturb it.
    """
    return torch.Generator().manual_seed(seed(*key))
