"""The process that tests.stage.kills kills: a job manager on small data, with random commands."""

from __future__ import annotations

import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save, save_file

from kd.config.distil import DistilConfig
from kd.data import sources
from kd.data.digits import Digits, Mnist
from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.jobs.manager import JobManager
from kd.jobs.queue import STOPPED
from kd.store import checkpoints, runs
from kd.teachers import cached, catalogue
from tests.helpers import Given, small_teacher, weights

ME = "the one who is at the browser"
#: Short and long runs, with and without batch normalization, two stages, a method with a projection.
CONFIGS = [
    DistilConfig(student="mlp-30", epochs=1, batch_size=50),
    DistilConfig(student="mlp-30", epochs=8, batch_size=20, temperature=8),
    DistilConfig(student="mlp-64-32", epochs=4, batch_size=20, seed=3, method="fitnets"),
    DistilConfig(student="linear", epochs=6, batch_size=20, scheme="born-again", generations=1),
    DistilConfig(
        student="mlp-30", epochs=5, batch_size=20, augmentation="jitter", optimizer="sgd", learning_rate=0.04
    ),
    DistilConfig(student="cnn-tiny", epochs=1, batch_size=50),
]
ACTIONS = (
    ["start"] * 3
    + ["resume"] * 3
    + ["go on"] * 2
    + ["nothing"] * 4
    + ["rename", "delete", "stop", "pause", "step"]
)


def _teacher(name: str = "", device: str = "cpu") -> cached.CachedTeacher:
    """Return a teacher whose width is a multiple of 4: its logits do not depend on the batch."""
    return small_teacher("mlp-32")


def write_digits(path: Path) -> None:
    """Write 400 training and 100 validation images to a file; making them takes each process seconds."""
    sample = sources.load_sample()
    parts = {
        "train": sample.train.take(slice(None, None, 10)),
        "test": sample.test.take(slice(None, None, 10)),
    }
    save_file(
        {
            f"{part}.{name}": getattr(digits, name).clone()
            for part, digits in parts.items()
            for name in ("images", "labels", "ids")
        },
        path,
    )


def _prepare(home: str) -> Mnist:
    """Set this process up to train small runs in ``home``, with a checkpoint at each epoch."""
    torch.set_num_threads(1)
    folder = Path(home).parent
    os.environ["KD_HOME"], os.environ["KD_CACHE_DIR"] = home, str(folder / "cache")
    checkpoints.EVERY = 0.0
    catalogue.load = _teacher
    kept = load_file(folder / "digits.safetensors")
    train, judged = (
        Digits(*(kept[f"{part}.{name}"] for name in ("images", "labels", "ids")), "train")
        for part in ("train", "test")
    )
    return Mnist(train, judged, judged, "sample")


def undisturbed(home: str, pipe: Connection) -> None:
    """Send the weights that each of CONFIGS gives."""
    mnist = _prepare(home)
    for config in CONFIGS:
        experiment = Distillation(config, mnist, _teacher())
        for _ in experiment.records():
            pass
        pipe.send(
            {
                name: save({key: value.contiguous() for key, value in weights(model).items()})
                for name, model in experiment.trained.items()
            }
        )


def work(home: str, seed: int, pipe: Connection, to_the_end: bool) -> None:
    """Act like a server whose visitors press random buttons; report every fact through ``pipe``."""
    mnist, draw = _prepare(home), random.Random(seed)

    def tell(what: str, id: str, more: Any = None) -> None:
        pipe.send((what, id, more))

    manager = JobManager(Given(mnist), tick=draw.choice([0.0, 0.01, 0.05]), lease=None)
    tell("ready", "")
    told: set[str] = set()
    mine: list[str] = []
    interrupted = [kept.id for kept in checkpoints.list_interrupted()[0]]
    while interrupted or not to_the_end or manager.active():
        for id in mine:
            snap = manager.snapshot(id, ME)
            if snap is not None and snap.saved and id not in told:
                told.add(id)
                tell("saved", id, snap.state)
            if snap is not None and not snap.active and not snap.saved and id not in told:
                told.add(id)
                if snap.message != STOPPED:  # while it was still waiting
                    tell("failed", id, snap.message)
        stored = [id for id in os.listdir(home) if runs.is_id(id)]
        action = "resume" if to_the_end else draw.choice(ACTIONS)
        try:
            if action == "start":
                place = draw.randrange(len(CONFIGS))
                id = manager.start(CONFIGS[place], ME)
                mine.append(id)
                tell("started", id, place)
            elif action == "resume" and interrupted:
                id = interrupted.pop()
                mine.append(id)
                try:
                    manager.resume(id, ME)
                except UserError as error:
                    interrupted.append(id)
                    if "under way" not in str(error):
                        raise
            elif action == "rename" and stored:
                id, name = draw.choice(stored), f"name {draw.random()}"
                tell("renaming", id, name)
                runs.rename(id, name, ME)
                tell("renamed", id, name)
            elif action == "delete" and len(stored) > 12:
                id = draw.choice(stored)
                tell("deleting", id)
                runs.delete(id, ME)
                tell("deleted", id)
            elif mine and action in ("stop", "pause", "step", "go on"):
                {"stop": manager.stop, "pause": manager.pause, "step": manager.step, "go on": manager.resume}[
                    action
                ](mine[-1], ME)
        except UserError as error:
            if "You already have" not in str(error) and "no longer there" not in str(error):
                tell("refused", "", f"{action}: {error}")
        time.sleep(draw.uniform(0, 0.02))
    manager.close()
    tell("ended", "")
