"""The training loop of tutorials, as people write it: the baseline of our benchmarks.

torchvision's dataset with its transforms, a DataLoader, the teacher's forward pass for every batch, KL
divergence at temperature T. Nothing is slow on purpose: the teacher is in eval mode without gradients,
and measurements take the faster number of workers.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import transforms
from torchvision.datasets import MNIST

from kd.data import task


def loader(folder: Path, batch_size: int, ids: list[int], workers: int = 0) -> DataLoader:
    """Return shuffled batches of the training images with these indices in MNIST's training file."""
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(task.MNIST.mean, task.MNIST.std)]
    )
    dataset = Subset(MNIST(folder, train=True, transform=transform), ids)
    return DataLoader(dataset, batch_size=batch_size, shuffle=True, num_workers=workers)


def epoch(
    student: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: DataLoader,
    teacher: nn.Module | None,
    temperature: float = 4.0,
    soft_weight: float = 0.9,
) -> None:
    """Train for one epoch by distillation, or on the labels alone without a teacher."""
    student.train()
    if teacher is not None:
        teacher.eval()
    for inputs, labels in batches:
        optimizer.zero_grad()
        logits = student(inputs)
        loss = F.cross_entropy(logits, labels)
        if teacher is not None:
            with torch.no_grad():
                teacher_logits = teacher(inputs)
            soft_targets = F.softmax(teacher_logits / temperature, dim=1)
            soft_log_probs = F.log_softmax(logits / temperature, dim=1)
            soft_loss = F.kl_div(soft_log_probs, soft_targets, reduction="batchmean") * temperature**2
            loss = soft_weight * soft_loss + (1 - soft_weight) * loss
        loss.backward()
        optimizer.step()
