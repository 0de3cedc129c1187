"""Stored runs and checkpoints for the fuzz test, damaged in many ways."""

from __future__ import annotations

import json
import math
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from kd import paths
from kd.config.distil import DistilConfig
from kd.data.digits import Digits, Mnist
from kd.errors import UserError
from kd.evaluation import comparison
from kd.experiments.distil import Distillation
from kd.figures import training
from kd.store import checkpoints, runs
from tests.helpers import small_teacher
from tests.stage.invention import Invention

OWNER = "the owner's token"
SECRET = b"what nobody may see"
MEASURES = {
    "seconds": 1.5,
    "steps": 4,
    "test_images": 100,
    "source": "sample",
    "data": "x",
    "train_images": 100,
    "models": {
        role: {"test_accuracy": 0.5, "test_errors": 50, "agreement": 0.5, "kl": 0.1}
        for role in ("teacher", "student", "control")
    },
}


class RunCases(Invention):
    """Cases of a stored run and an interrupted one.

    Args:
        folder: a folder to write to, which contains the run folder.
        draw: the source of randomness.
    """

    def __init__(self, folder: Path, draw: random.Random):
        super().__init__(draw)
        self.outside = folder.parent / f"{folder.name}-outside"
        self.secret = folder.parent / f"{folder.name}.secret"
        paths.home().mkdir(parents=True, exist_ok=True)
        images = torch.randint(0, 255, (200, 28, 28), generator=torch.Generator().manual_seed(0)).byte()
        digits = Digits(images, torch.arange(200) % 10, torch.arange(200), "train")
        self.mnist = Mnist(digits, digits.take(slice(0, 50)), digits.take(slice(0, 50)), "sample")
        self.teacher = small_teacher("mlp-32")
        self.config = DistilConfig(
            student="mlp-30", epochs=2, batch_size=50, schedule=((3, "temperature", 2.0),)
        )
        self._store()

    def written_outside(self) -> list[str]:
        """Return what was written through the links that lead out of the run folder."""
        found = []
        if self.outside.exists():
            found.append("a file was made")
        if self.secret.exists() and self.secret.read_bytes() != SECRET:
            found.append("a file was changed")
        self.outside.unlink(missing_ok=True)
        return found

    def _store(self) -> None:
        """Store a run and an interrupted one, which are damaged again and again."""
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

    def restore(self) -> None:
        """Restore the stored run."""
        for path in paths.home().iterdir():
            if path.is_symlink() or not path.is_dir():
                path.unlink()
            elif path.name != "drawings":
                shutil.rmtree(path)
        self.folder.mkdir()
        for name, content in self.files.items():
            (self.folder / name).write_bytes(content)
        self.secret.write_bytes(SECRET)

    def use_run(self) -> None:
        """Use the run in all the ways that pages do."""
        found, problems = runs.list_runs()
        assert len(found) + len(problems) <= 1
        run = runs.load(self.id)
        comparison.stored(run)
        errors: list[UserError] = []
        for use in (
            lambda: self._curves(run),
            *(lambda which=which: run.model(which) for which in run.models),
            lambda: self._check_files(run),
            lambda: runs.rename(self.id, "another", OWNER),
            lambda: runs.delete(self.id, OWNER),
        ):
            try:
                use()
            except UserError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _curves(self, run: runs.Run) -> None:
        rows = run.metrics()
        json.dumps(
            [training.loss(rows, run.config.total_epochs), training.accuracy(rows, run.config.total_epochs)],
            allow_nan=False,
        )

    def _check_files(self, run: runs.Run) -> None:
        for name in self.files:
            assert run.file(name).read_bytes() != SECRET, "a link out of the folder was followed"

    def a_run(self) -> Callable[[], Any]:
        self.restore()
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

        return self.use_run

    def a_checkpoint(self) -> Callable[[], Any]:
        self.restore()
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


def _metadata(content: bytes) -> dict[str, str]:
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size])["__metadata__"]
