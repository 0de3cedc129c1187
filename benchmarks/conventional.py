"""The usual way to distil, to measure ours against: a DataLoader over torchvision's MNIST with transforms,
the teacher's forward for every batch, and the loss of PyTorch's distillation tutorial."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from kd.data import MEAN, STD


def loader(folder: Path, batch_size: int, workers: int) -> DataLoader:
    """MNIST's 60,000 training images, shuffled, decoded and normalized one by one."""
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((MEAN,), (STD,))])
    return DataLoader(datasets.MNIST(folder, train=True, transform=transform), batch_size, shuffle=True, num_workers=workers)


def epoch(
    student: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader, teacher: nn.Module | None, temperature: float = 4.0
) -> float:
    """One epoch; returns the mean loss. Without a teacher it learns from the labels alone."""
    student.train()
    total = 0.0
    for images, labels in batches:
        optimizer.zero_grad()
        said = student(images)
        loss = F.cross_entropy(said, labels)
        if teacher is not None:
            with torch.no_grad():
                taught = teacher(images)
            soft = F.softmax(taught / temperature, dim=-1)
            log_said = F.log_softmax(said / temperature, dim=-1)
            divergence = (soft * (soft.log() - log_said)).sum() / len(images) * temperature**2
            loss = 0.9 * divergence + 0.1 * loss
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(batches)
