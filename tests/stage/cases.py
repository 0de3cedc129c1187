"""Cases for tests.stage.fuzz: invented input, and valid input that is damaged."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save

from kd import paths
from kd.config import kinds
from kd.config.base import Settings
from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.imported import ImportConfig
from kd.config.mistake import MistakeConfig
from kd.config.study import StudyConfig
from kd.config.teacher import TeacherConfig
from kd.export import importing
from kd.lab.settings import LabSettings
from kd.metrics.size import network_size
from kd.models import registry
from kd.store import checkpoints, drawings, runs
from kd.teachers import catalogue
from tests.stage.picture_cases import PictureCases, whole_pictures, worst_pictures
from tests.stage.run_cases import RunCases

CLASSES: list[type[Settings]] = [
    DistilConfig,
    TeacherConfig,
    StudyConfig,
    MistakeConfig,
    CompressConfig,
    ImportConfig,
    LabSettings,
]
WEIGHT_NAMES = [
    "²",
    "..",
    "../x.weight",
    "1.weight",
    "__metadata__",
    "9999.weight",
    "-1.weight",
]  # of weights
TYPES = ["F32", "F32", "F32", "F32", "F32", "F16", "BF16", "F8_E4M3", "F4", "C64", "I64", "BOOL"]


class Cases(PictureCases, RunCases):
    """Make cases: each kind returns a function to call, whose preparation is not part of the case.

    Args:
        folder: a folder to write to, which contains the run folder.
        draw: the source of randomness.
    """

    def __init__(self, folder: Path, draw: random.Random):
        torch.set_num_threads(1)
        super().__init__(folder, draw)
        self.weights = [(name, _weights(name)) for name in ("mlp-30", "linear", "cnn-tiny", "mlp-5-5")]
        self.pictures = list(whole_pictures())

    def kinds(self) -> dict[str, Callable[[], Callable[[], Any]]]:
        """Return kind of case -> the function that makes one."""
        return {
            "config": self._a_config,
            "canvas": self.a_canvas,
            "picture": self.a_picture,
            "link": self.a_link,
            "weights": self._some_weights,
            "run": self.a_run,
            "checkpoint": self.a_checkpoint,
            "id": self._an_id,
            "name": self._a_name,
            "drawing": self._a_drawing,
        }

    def shares(self) -> dict[str, float]:
        """Return the relative frequency of each kind."""
        return {
            "config": 4,
            "canvas": 1,
            "picture": 2,
            "link": 1,
            "weights": 2,
            "run": 3,
            "checkpoint": 2,
            "id": 1,
            "name": 1,
            "drawing": 0.5,
        }

    def _a_config(self) -> Callable[[], Any]:
        cls, way = self.draw.choice(CLASSES), self.draw.randrange(3)
        names = [*cls.__dataclass_fields__]
        values = {
            self.draw.choice(names) if self.draw.random() < 0.95 else self.text(): self.value()
            for _ in range(self.draw.choice([0, 1, 1, 2, 3, 6]))
        }

        def case() -> None:
            if way == 0:
                config = cls.from_dict(values)
            elif way == 1:
                config = cls.from_query(
                    {
                        name: value if isinstance(value, str) else _written(value)
                        for name, value in values.items()
                    }
                )
            else:
                parser = argparse.ArgumentParser()
                cls.add_arguments(parser)
                given = parser.parse_args([])
                for name, value in values.items():
                    setattr(given, name, value)
                config = cls.from_arguments(given)
            assert cls.from_dict(config.to_dict()) == config and cls.from_query(config.to_query()) == config
            json.dumps(config.to_dict(), allow_nan=False)
            if type(config) in {kind.config for kind in kinds.KINDS.values()}:
                runs.clean_name(kinds.of(config).default_name(config))
            student = getattr(config, "student", "linear")
            if student in registry.ARCHITECTURES or "-" in student and not isinstance(config, CompressConfig):
                network_size(student)
                registry.feature_shapes(student)
            if (
                "teacher" in names
                and not isinstance(config, TeacherConfig)
                and "+" not in config.teacher
                and config.teacher not in ("cnn", "vit")
            ):
                catalogue.load(config.teacher)

        return case

    def worst(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Yield the largest input that is accepted, and small input that unpacks to much more."""
        yield from worst_pictures()
        yield "32 MB of weights", lambda: importing.read(bytes(importing.MAX_BYTES))
        deep = b'{"a":' * 200_000
        yield "deeply nested weights", lambda: importing.read(struct.pack("<Q", len(deep)) + deep)
        many = json.dumps(
            {f"{i}.weight": {"dtype": "F32", "shape": [0, 0], "data_offsets": [0, 0]} for i in range(12_000)}
        ).encode()
        yield "weights of many names", lambda: importing.read(struct.pack("<Q", len(many)) + many)
        yield (
            "a mean of many teachers",
            lambda: catalogue.load(CompressConfig(teacher="+".join(["cnn"] * 150)).teacher),
        )
        for name, content in [
            ("config.json", b"[" * 10**6),
            ("measures.json", b'{"a":' * 10**6),
            ("metrics.csv", b"step," * 10**6),
            ("config.json", b"9" * 10**7),
        ]:
            self.restore()
            (self.folder / name).write_bytes(content)
            yield f"an endless {name}", self.use_run
        self.restore()
        with open(self.folder / "config.json", "r+b") as file:
            file.truncate(10**11)  # most of it is a hole
        yield "a config.json of 100 GB", self.use_run

    def _some_weights(self) -> Callable[[], Any]:
        name, content = self.draw.choice(self.weights)
        size = int.from_bytes(content[:8], "little")
        if self.draw.random() < 0.5:
            header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
            for _ in range(self.draw.choice([1, 1, 2])):
                header = self.mangled(header)
            if isinstance(header, dict) and self.draw.random() < 0.4:
                header |= {
                    self.draw.choice(WEIGHT_NAMES): {
                        "dtype": self.draw.choice(TYPES),
                        "shape": self.draw.choice([[], [0], [2, 2], [10, 784]]),
                        "data_offsets": self.draw.choice([[0, 0], [0, 4], [4, 0], [0, 2**62], [-4, 0]]),
                    }
                }
            text = json.dumps(header, default=str).encode("utf-8", "replace")
            content = struct.pack("<Q", len(text) + self.draw.choice([0, 0, 0, 1, -1])) + text + data
        else:
            content = self.damaged(content)
        path = paths.home() / "some.safetensors"
        path.write_bytes(content)

        def case() -> None:
            try:
                importing.read(content)
            finally:
                registry.load(path, name)

        return case

    def _an_id(self) -> Callable[[], Any]:
        id = (
            self.text()
            if self.draw.random() < 0.6
            else self.draw.choice([self.id, self.unfinished])
            + self.draw.choice(["", "/..", "\n", "\0", "/student", ".tmp"])
        )
        use = self.draw.choice(
            [
                runs.load,
                lambda id: runs.delete(id, "not me"),
                lambda id: runs.rename(id, "x", "not me"),
                checkpoints.load,
                checkpoints.exists,
                lambda id: checkpoints.discard(id, "not me"),
                lambda id: catalogue.load(id) if id not in ("cnn", "cnn+vit") else None,
                registry.architecture,
                lambda id: registry.feature_shapes(id),
            ]
        )
        return lambda: use(id)

    def _a_name(self) -> Callable[[], Any]:
        name = self.text()

        def case() -> None:
            cleaned = runs.clean_name(name)
            assert (
                cleaned == runs.clean_name(cleaned)
                and cleaned.isprintable()
                and 0 < len(cleaned) <= runs.NAME_LENGTH
            )

        return case

    def _a_drawing(self) -> Callable[[], Any]:
        token = f"token {self.draw.randrange(3)}"
        folder = paths.home() / "drawings" / runs.owner_digest(token)[:32]
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for number in range(3):
            path = folder / f"{number:06}-{self.draw.randrange(10)}.png"
            if self.draw.random() < 0.1:
                path.symlink_to(self.secret)
            else:
                path.write_bytes(self.damaged(self.draw.choice(self.pictures)))
        label = self.draw.choice([3, self.value(0)])

        def case() -> None:
            drawings.load(token)
            drawings.keep(np.zeros((28, 28), np.uint8), label, token)
            drawings.load(token)
            drawings.forget(token)

        return case


def _written(value: Any) -> str:
    try:
        return str(value)
    except ValueError:  # a number of thousands of digits
        return "9" * 500


def _weights(name: str) -> bytes:
    state = registry.build(name, 0).state_dict()
    return save({key: value.contiguous() for key, value in state.items()})
