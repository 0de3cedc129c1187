"""Random numbers that depend on what they are for, and on nothing else."""

from __future__ import annotations

import hashlib

import torch


def seed(*key: int | str) -> int:
    """A seed for ``key``, such as (0, "order", 3); others differ."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator(*key: int | str) -> torch.Generator:
    """A generator for ``key``.

    Nothing in training depends on how many random numbers were drawn before: a run
    can be taken up at any step, and other threads cannot disturb it.
    """
    return torch.Generator().manual_seed(seed(*key))
