"""Describe what is learned: the images, their classes and how they are normalized.

Everything that depends on the dataset asks a Task. MNIST is the only one so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A classification task.

    Attributes:
        name: the dataset's name.
        image_shape: (C, H, W) of one image.
        class_names: one name per class, in the order of the logits.
        mean: mean of the training pixels per channel, scaled to 0-1.
        std: standard deviation of the training pixels per channel, scaled to 0-1.
        drawing: how a drawing becomes an image: "digits" (kd.drawing.preprocess), or "none" where it cannot.
        teacher: name of the default teacher.
        train_images: number of training images, the validation images among them; 0 where it is unknown.
        test_images: number of test images; 0 where it is unknown.
    """

    name: str
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    teacher: str
    drawing: str = "none"
    train_images: int = 0
    test_images: int = 0

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"{self.name} needs one mean and one deviation for each of {self.channels} channels."
            )

    @property
    def channels(self) -> int:
        return self.image_shape[0]

    @property
    def height(self) -> int:
        return self.image_shape[1]

    @property
    def width(self) -> int:
        return self.image_shape[2]

    @property
    def values(self) -> int:
        """Return how many numbers make up one image: C * H * W."""
        return math.prod(self.image_shape)

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def rows(self) -> dict[str, int]:
        """Return how many images each of the dataset's files holds: "train" and "test"."""
        return {"train": self.train_images, "test": self.test_images}


MNIST = Task(
    name="MNIST",
    image_shape=(1, 28, 28),
    class_names=tuple("0123456789"),
    mean=(0.1307,),
    std=(0.3081,),
    teacher="cnn",
    drawing="digits",
    train_images=60_000,
    test_images=10_000,
)
