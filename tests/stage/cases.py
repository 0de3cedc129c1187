"""Cases for tests.stage.fuzz: input that is made up, or whole input that is damaged."""

from __future__ import annotations

import argparse
import io
import json
import math
import random
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save, save_file

from kd import paths
from kd.config import kinds
from kd.config.base import Settings
from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.imported import ImportConfig
from kd.config.mistake import MistakeConfig
from kd.config.study import StudyConfig
from kd.config.teacher import TeacherConfig
from kd.data.digits import Digits, Mnist
from kd.drawing import links, preprocess
from kd.errors import UserError
from kd.evaluation import comparison
from kd.experiments.base import Distillation
from kd.export import importing
from kd.figures import training
from kd.lab.settings import LabSettings
from kd.metrics.size import network_size
from kd.models import registry
from kd.store import checkpoints, drawings, runs
from kd.teachers import catalogue
from tests.helpers import small_teacher

CLASSES: list[type[Settings]] = [
    DistilConfig,
    TeacherConfig,
    StudyConfig,
    MistakeConfig,
    CompressConfig,
    ImportConfig,
    LabSettings,
]
OWNER = "the owner's token"
SECRET = b"what nobody may see"

NAMES = [
    "",
    " ",
    ".",
    "..",
    "../..",
    "/etc/passwd",
    "a/b",
    "..\\..",
    "C:\\x",
    "~",
    "x\0y",
    "a\nb",
    "\u202egnp.exe",
    "\u200b",
    "\ud800",
    "é" * 300,
    "x" * 100_000,
    "²",
    "٣",
    "<script>alert(1)</script>",
    "![x](http://127.0.0.1:9/)",
    "{}",
    "%s%n",
    "'; --",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "-1",
    "0",
    "1",
    "0x10",
    "1_000",
    "９",
    "True",
    "None",
    "null",
    "20260101-120000-0123456789abcdef",
    "20260101-120000-0123456789abcdef/../x",
    "cnn",
    "cnn+vit",
    "+",
    "+".join(["cnn"] * 200),
    "cnn+" * 5,
    "mlp-1",
    "mlp-2048-2048-2048",
    "mlp-2049",
    "mlp-0",
    "mlp-64-32_neurons-50",
    "linear_rank-99",
    "mlp-1_neurons-99_neurons-99_rank-99",
    "vit_rank-50",
    "cnn_neurons-99",
    "cnn-separable_neurons-99_rank-99",
    "mlp-30" + "_neurons-1" * 9,
    "vit-half",
    "cnn-wide",
    "mlp-1200x2",
    "assistant",
    "born-again",
    "mutual",
    "exits",
    "fitnets",
    "attention",
    "rkd",
    "0123456789",
    "012345678",
    "3:temperature=8",
    "0:temperature=nan",
    ";" * 5000,
    "1:temperature=2;" * 1001,
    "soft-targets",
    "break-it",
    "hand",
    "labels",
    "student",
    "teacher",
    "jitter",
    "affine",
    "sgd",
    "off",
    "dynamic",
]
NUMBERS = [
    0,
    -1,
    1,
    2,
    10,
    28,
    255,
    1e-300,
    1e300,
    10**400,
    -(10**19),
    2**31 - 1,
    2**31,
    2**63,
    0.5,
    1.0000001,
    math.nan,
    math.inf,
    -math.inf,
    True,
    False,
    None,
]
MEASURES = {
    "seconds": 1.5,
    "steps": 4,
    "test_images": 100,
    "source": "sample",
    "data": "x",
    "train_images": 100,
    "models": {
        who: {"test_accuracy": 0.5, "test_errors": 50, "agreement": 0.5, "kl": 0.1}
        for who in ("teacher", "student", "control")
    },
}


class Cases:
    """Makes cases: each kind gives a function to call, whose making is not part of the case.

    Args:
        folder: where it may write; the run folder is in it.
    """

    def __init__(self, folder: Path, draw: random.Random):
        self.draw, self.outside = draw, folder.parent / f"{folder.name}-outside"
        torch.set_num_threads(1)
        paths.home().mkdir(parents=True, exist_ok=True)
        self.secret = folder.parent / f"{folder.name}.secret"
        images = torch.randint(0, 255, (200, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
        digits = Digits(images, torch.arange(200) % 10, torch.arange(200), "train")
        self.mnist = Mnist(digits, digits.take(slice(0, 50)), digits.take(slice(0, 50)), "sample")
        self.teacher = small_teacher("mlp-32")
        self.config = DistilConfig(
            student="mlp-30", epochs=2, batch_size=50, schedule=((3, "temperature", 2.0),)
        )
        self._store()
        self.weights = [
            (
                name,
                save(
                    {key: value.contiguous() for key, value in registry.build(name, 0).state_dict().items()}
                ),
            )
            for name in ("mlp-30", "linear", "cnn-tiny", "mlp-5-5")
        ]
        self.pictures = list(self._pictures())

    def kinds(self) -> dict[str, Callable[[], Callable[[], Any]]]:
        """Name -> what makes a case."""
        return {
            "config": self._a_config,
            "canvas": self._a_canvas,
            "picture": self._a_picture,
            "link": self._a_link,
            "weights": self._some_weights,
            "run": self._a_run,
            "checkpoint": self._a_checkpoint,
            "id": self._an_id,
            "name": self._a_name,
            "drawing": self._a_drawing,
        }

    def shares(self) -> dict[str, float]:
        """How often each kind comes."""
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

    def written_outside(self) -> list[str]:
        """What was done through the links that lead out of the run folder."""
        found = ["a file was made"] * self.outside.exists() + ["a file was changed"] * (
            self.secret.exists() and self.secret.read_bytes() != SECRET
        )
        self.outside.unlink(missing_ok=True)
        return found

    # -- made up --------------------------------------------------------------------------

    def text(self) -> str:
        if self.draw.random() < 0.8:
            return self.draw.choice(NAMES)
        return "".join(
            chr(self.draw.choice([self.draw.randrange(32, 127), self.draw.randrange(0xD7FF)]))
            for _ in range(self.draw.randrange(20))
        )

    def value(self, depth: int = 2) -> Any:
        kind = self.draw.random()
        if kind < 0.45:
            return self.text()
        if kind < 0.85 or depth == 0:
            return self.draw.choice(NUMBERS) if kind < 0.75 else self.draw.uniform(-5, 100)
        if kind < 0.95:
            return [self.value(depth - 1) for _ in range(self.draw.randrange(4))]
        return {self.text(): self.value(depth - 1) for _ in range(self.draw.randrange(4))}

    def mangled(self, value: Any) -> Any:
        """JSON with something in it replaced, removed or added."""
        if isinstance(value, dict) and value and self.draw.random() < 0.85:
            key = self.draw.choice(list(value))
            how = self.draw.random()
            if how < 0.1:
                return {name: inner for name, inner in value.items() if name != key}
            return value | ({self.text(): self.value()} if how < 0.2 else {key: self.mangled(value[key])})
        if isinstance(value, list) and value and self.draw.random() < 0.8:
            place = self.draw.randrange(len(value))
            return value[:place] + [self.mangled(value[place])] * self.draw.randrange(3) + value[place + 1 :]
        return self.value()

    def damaged(self, content: bytes) -> bytes:
        """Bytes with a few of them changed, cut off, doubled or put in."""
        content = bytearray(content)
        for _ in range(self.draw.choice([1, 1, 2, 5])):
            place, how = self.draw.randrange(len(content) + 1), self.draw.randrange(6)
            if self.draw.random() < 0.6:
                place = min(place, self.draw.randrange(200))  # headers are at the beginning
            if how == 0:
                del content[place:]
            elif how == 1:
                content[place : place + 8] = self.draw.choice(
                    [
                        b"\xff" * 8,
                        b"\0" * 8,
                        struct.pack("<Q", 2**62),
                        struct.pack("<Q", self.draw.randrange(4000)),
                    ]
                )
            elif how == 2:
                content[place:place] = self.draw.randbytes(self.draw.randrange(20))
            elif how == 3:
                content[place:place] = content[place : place + 500]
            elif how == 4 and place < len(content):
                content[place] = self.draw.randrange(256)
            else:
                del content[place : place + self.draw.randrange(1, 30)]
        return bytes(content)

    # -- settings -----------------------------------------------------------------------------

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

    # -- pictures ---------------------------------------------------------------------------------

    def _pictures(self) -> Iterator[bytes]:
        digit = np.zeros((60, 50), np.uint8)
        digit[10:50, 20:28] = 255
        for mode in ("L", "RGB", "RGBA", "P", "1", "CMYK", "LA", "I;16", "I"):
            image = (
                Image.fromarray(digit.astype(np.uint16) * 257)
                if mode == "I;16"
                else Image.fromarray(digit).convert(mode)
            )
            for format in preprocess.FORMATS:
                content = io.BytesIO()
                try:
                    image.save(content, format)
                except (OSError, ValueError):
                    continue
                yield content.getvalue()
        for format, more in [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})]:
            frames = [Image.fromarray(np.roll(digit, shift, 1)) for shift in range(5)]
            content = io.BytesIO()
            frames[0].save(content, format, save_all=True, append_images=frames[1:], **more)
            yield content.getvalue()
        content = io.BytesIO()
        Image.fromarray(digit).save(content, "JPEG", progressive=True, exif=Image.Exif().tobytes())
        yield content.getvalue()
        yield b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
        yield b""

    def _a_picture(self) -> Callable[[], Any]:
        content = self.draw.choice(self.pictures)
        if self.draw.random() < 0.85:
            content = self.damaged(content)
        return lambda: preprocess.prepare(preprocess.ink_from_picture(content))

    def _a_canvas(self) -> Callable[[], Any]:
        if self.draw.random() < 0.3:
            shape = self.draw.choice([(0, 0, 4), (1, 1, 4), (280, 280, 4), (3, 500, 4)])
            pixels = np.frombuffer(self.draw.randbytes(math.prod(shape)), np.uint8).reshape(shape)
            return lambda: preprocess.prepare(preprocess.ink_from_canvas(pixels))
        content = self.draw.choice(self.pictures)
        content = self.damaged(content) if self.draw.random() < 0.8 else content
        return lambda: preprocess.prepare(preprocess.ink_from_canvas_file(content))

    def _a_link(self) -> Callable[[], Any]:
        text = (
            links.to_text(np.frombuffer(self.draw.randbytes(784), np.uint8).reshape(28, 28))
            if self.draw.random() < 0.5
            else self.text()
        )
        if self.draw.random() < 0.7 and text:
            place = self.draw.randrange(len(text))
            text = (
                text[:place]
                + self.draw.choice(["", self.text()[:50], "A", "=", "\0"])
                + text[place + self.draw.randrange(3) :]
            )
        return lambda: links.from_text(text)

    def worst(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """The largest that is let in, and what unfolds to far more than it is."""
        side = 4470  # 20 megapixels
        noise = np.random.default_rng(0).integers(0, 2, (side, side), np.uint8) * 255
        for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16"):
            image = Image.new(mode, (side, side)) if mode != "1" else Image.fromarray(noise).convert("1")
            for format in preprocess.FORMATS:
                content = io.BytesIO()
                try:
                    image.save(content, format, **({"method": 0} if format == "WEBP" else {}))
                except (OSError, ValueError):
                    continue
                yield (
                    f"20 megapixels, {mode} as {format}",
                    lambda data=content.getvalue(): preprocess.prepare(preprocess.ink_from_picture(data)),
                )
        for mode in ("L", "RGB", "RGBA"):
            content = io.BytesIO()
            Image.new(mode, (3160, 3160)).save(content, "WEBP", method=0)
            yield (
                f"10 megapixels, {mode} as WEBP",
                lambda data=content.getvalue(): preprocess.ink_from_picture(data),
            )
        content = io.BytesIO()
        Image.new("RGBA", (3160, 3160)).save(
            content, "WEBP", save_all=True, append_images=[Image.new("RGBA", (3160, 3160), "red")], method=0
        )
        yield (
            "10 megapixels, an animated WEBP",
            lambda data=content.getvalue(): preprocess.ink_from_picture(data),
        )
        content = io.BytesIO()
        Image.fromarray(noise[:, :4000]).save(
            content, "GIF", save_all=True, append_images=[Image.fromarray(noise[::-1, :4000])]
        )
        yield (
            "18 megapixels, an animated GIF",
            lambda data=content.getvalue(): preprocess.ink_from_picture(data),
        )
        yield "a JPEG of scans without end", lambda data=_scans(side): preprocess.ink_from_picture(data)
        yield "a BMP of many runs", lambda data=_runs(side): preprocess.ink_from_picture(data)
        for size in (2**31 - 1, 60_000, 14_000):
            yield "a PNG that unfolds", lambda data=_bomb(size): preprocess.ink_from_picture(data)
            yield "a canvas that unfolds", lambda data=_bomb(size): preprocess.ink_from_canvas_file(data)
        yield (
            "a link that unfolds",
            lambda: links.from_text(
                __import__("base64").urlsafe_b64encode(zlib.compress(bytes(10**6))).decode()
            ),
        )
        yield "32 MB of weights", lambda: importing.read(bytes(importing.MAX_BYTES))
        deep = b'{"a":' * 200_000
        yield "weights nested without end", lambda: importing.read(struct.pack("<Q", len(deep)) + deep)
        many = json.dumps(
            {f"{i}.weight": {"dtype": "F32", "shape": [0, 0], "data_offsets": [0, 0]} for i in range(12_000)}
        ).encode()
        yield "weights of many names", lambda: importing.read(struct.pack("<Q", len(many)) + many)
        yield (
            "a teacher of many",
            lambda: catalogue.load(CompressConfig(teacher="+".join(["cnn"] * 150)).teacher),
        )
        for name, content in [
            ("config.json", b"[" * 10**6),
            ("measures.json", b'{"a":' * 10**6),
            ("metrics.csv", b"step," * 10**6),
            ("config.json", b"9" * 10**7),
        ]:
            self._again()
            (self.folder / name).write_bytes(content)
            yield f"a {name} without end", self._use_run
        self._again()
        with open(self.folder / "config.json", "r+b") as file:
            file.truncate(10**11)  # most of it is a hole
        yield "a config.json of 100 GB", self._use_run

    # -- weights ------------------------------------------------------------------------------------

    def _some_weights(self) -> Callable[[], Any]:
        name, content = self.draw.choice(self.weights)
        size = int.from_bytes(content[:8], "little")
        if self.draw.random() < 0.5:
            header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
            for _ in range(self.draw.choice([1, 1, 2])):
                header = self.mangled(header)
            if isinstance(header, dict) and self.draw.random() < 0.4:
                header |= {
                    self.draw.choice(
                        ["²", "..", "../x.weight", "1.weight", "__metadata__", "9999.weight", "-1.weight"]
                    ): {
                        "dtype": self.draw.choice(
                            [
                                "F32",
                                "F32",
                                "F32",
                                "F32",
                                "F32",
                                "F16",
                                "BF16",
                                "F8_E4M3",
                                "F4",
                                "C64",
                                "I64",
                                "BOOL",
                            ]
                        ),
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

    # -- runs ---------------------------------------------------------------------------------------

    def _store(self) -> None:
        """A stored run, and one that was interrupted, to be damaged again and again."""
        experiment = Distillation(self.config, self.mnist, self.teacher)
        rows = []
        self.id, self.unfinished = runs.new_id(), runs.new_id()
        for record in experiment.records():
            rows.append(record.row())
            if record.step < record.steps:
                keeper = checkpoints.Keeper(self.unfinished, runs.owner_digest(OWNER))
                assert keeper.keep(experiment, self.config, rows) == ""
                keeper.leave(ended=False)
        runs.save(self.id, self.config, "done", rows, experiment.trained, MEASURES, runs.owner_digest(OWNER))
        self.folder, self.checkpoint = paths.home() / self.id, paths.home() / f"{self.unfinished}.checkpoint"
        self.files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        self.kept = self.checkpoint.read_bytes()

    def _again(self) -> None:
        """The stored run as it was."""
        for path in paths.home().iterdir():
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif path.name != "drawings":
                shutil.rmtree(path)
        self.folder.mkdir()
        for name, content in self.files.items():
            (self.folder / name).write_bytes(content)
        self.secret.write_bytes(SECRET)

    def _use_run(self) -> None:
        """All that pages do with a run."""
        found, problems = runs.list_runs()
        assert len(found) + len(problems) <= 1
        run = runs.load(self.id)
        comparison.stored(run)
        told: list[UserError] = []
        for use in (
            lambda: self._curves(run),
            *(lambda which=which: run.model(which) for which in run.models),
            lambda: self._given_out(run),
            lambda: runs.rename(self.id, "another", OWNER),
            lambda: runs.delete(self.id, OWNER),
        ):
            try:
                use()
            except UserError as error:
                told.append(error)
        if told:
            raise told[0]

    def _curves(self, run: runs.Run) -> None:
        rows = run.metrics()
        json.dumps(
            [training.loss(rows, run.config.total_epochs), training.accuracy(rows, run.config.total_epochs)],
            allow_nan=False,
        )

    def _given_out(self, run: runs.Run) -> None:
        for name in self.files:
            assert run.file(name).read_bytes() != SECRET, "a link out of the folder was followed"

    def _a_run(self) -> Callable[[], Any]:
        self._again()
        how, name = self.draw.random(), self.draw.choice(list(self.files))
        path = self.folder / name
        if how < 0.5:
            name = self.draw.choice(["config.json", "measures.json"])
            content = self.mangled(json.loads(self.files[name]))
            (self.folder / name).write_bytes(
                json.dumps(content, default=str).encode("utf-8", "surrogatepass")
            )
        elif how < 0.85:
            path.write_bytes(self.damaged(self.files[name]))
        else:
            way = self.draw.randrange(6)
            if way == 0:
                path.unlink()
                path.symlink_to(self.secret)
            elif way == 1:
                path.unlink()
                path.mkdir()
            elif way == 2:
                for temporary in (".config.json.tmp", ".measured.json.tmp"):
                    (self.folder / temporary).symlink_to(self.secret)
            elif way == 3:
                path.unlink()
                path.symlink_to("/dev/zero")
            elif way == 4:
                shutil.rmtree(self.folder)
                self.folder.symlink_to(self.secret.parent)
            else:
                path.unlink()

        return self._use_run

    def _a_checkpoint(self) -> Callable[[], Any]:
        self._again()
        shutil.rmtree(self.folder)
        how = self.draw.random()
        if how < 0.4:
            size = int.from_bytes(self.kept[:8], "little")
            header = json.loads(self.kept[8 : 8 + size])
            header["__metadata__"]["about"] = json.dumps(
                self.mangled(json.loads(header["__metadata__"]["about"])), default=str
            )
            text = json.dumps(header).encode()
            self.checkpoint.write_bytes(struct.pack("<Q", len(text)) + text + self.kept[8 + size :])
        elif how < 0.7:
            self.checkpoint.write_bytes(self.damaged(self.kept))
        elif how < 0.95:
            self.checkpoint.write_bytes(self.kept)
            kept = checkpoints.load(self.unfinished)
            state = dict(kept.state)
            key = self.draw.choice(
                [key for key in state if not key.startswith("weights")]
                if self.draw.random() < 0.7
                else list(state)
            )
            numbers = torch.tensor(
                [float(self.draw.choice([0, -1, 1e9, 1e18, 3, math.nan, math.inf]))], dtype=torch.float64
            )
            state[key] = self.draw.choice(
                [
                    numbers[0].clone(),
                    numbers,
                    torch.zeros(3),
                    torch.zeros(0),
                    state[key] * math.nan if state[key].is_floating_point() else state[key],
                ]
            )
            about = json.loads(_metadata(self.kept)["about"])
            save_file(
                {name: value.contiguous() for name, value in state.items()},
                self.checkpoint,
                {"about": json.dumps(about)},
            )
        else:
            self.checkpoint.symlink_to(self.secret)
            (paths.home() / f".{self.unfinished}.lock").symlink_to(self.outside)

        def case() -> None:
            checkpoints.list_interrupted()
            checkpoints.tidy()
            kept = checkpoints.load(self.unfinished)
            json.dumps(
                [
                    training.loss(kept.rows, kept.config.total_epochs),
                    training.accuracy(kept.rows, kept.config.total_epochs),
                ],
                allow_nan=False,
            )
            if isinstance(kept.config, DistilConfig) and kept.config.student == "mlp-30":
                next(
                    Distillation(kept.config, self.mnist, self.teacher).records(
                        lambda step: True, kept.state
                    ),
                    None,
                )
            checkpoints.owned(self.unfinished, OWNER)
            checkpoints.discard(self.unfinished, OWNER)

        return case

    # -- ids and names --------------------------------------------------------------------------------

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


def _metadata(content: bytes) -> dict[str, str]:
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size])["__metadata__"]


def _bomb(side: int) -> bytes:
    """A PNG of ``side`` x ``side`` black pixels by its header, in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


def _scans(side: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again, as often as the bytes that are let in allow."""
    content = io.BytesIO()
    Image.new("L", (side, side)).save(content, "JPEG", progressive=True)
    whole = content.getvalue()
    start = whole.rindex(b"\xff\xda")
    scan = whole[start:-2]
    return whole[:-2] + scan * ((preprocess.MAX_BYTES - len(whole)) // len(scan)) + b"\xff\xd9"


def _runs(side: int) -> bytes:
    """A BMP of 20 megapixels, packed into runs of one pixel as far as 4 MB go."""
    pixels = b"\x01\x00" * 2_000_000 + b"\x00\x01"
    palette = bytes(4 * 256)
    start = 14 + 40 + len(palette)
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start) + info + palette + pixels
