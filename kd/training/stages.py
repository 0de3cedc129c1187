"""SCHEMES: who is trained, by whom, and in which order.

An objective says what a student learns from a teacher's answers; a scheme says who
its teacher is. A scheme is a list of stages, which share the settings and follow each
other; each is one training by kd.training.loop, of some learners, after those before it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Generator, Mapping

import torch
from torch import Tensor, nn

from kd.data.digits import Mnist
from kd.errors import UserError
from kd.training.learner import Learner
from kd.training.loop import Plan, Record, Teacher, Training, every_epoch

#: The learners of a stage and their teacher, from the networks that earlier stages trained, by name.
Stage = Callable[[Mapping[str, nn.Module]], tuple[list[Learner], Teacher | None]]


class Chain:
    """Stages one after the other, driven like one Training."""

    def __init__(self, stages: list[Stage], mnist: Mnist, plan: Plan, settings: Mapping[str, float]):
        self._stages, self._mnist, self._plan = stages, mnist, plan
        self._steps = plan.epochs * math.ceil(len(mnist.train) / plan.batch_size)  # of each stage
        self._earlier: dict[str, nn.Module] = {}  # what finished stages trained
        self._seconds = 0.0  # that they took
        self._begin(0, settings)

    def _begin(self, at: int, settings: Mapping[str, float]) -> None:
        self._at = at
        self._before = at * self._steps  # of finished stages
        # A schedule counts the steps of all stages; what it changed before is in the settings.
        later = tuple(
            (step - self._before, name, value)
            for step, name, value in self._plan.schedule
            if step > self._before or at == 0
        )
        learners, teacher = self._stages[at](self._earlier)
        self._training = Training(
            learners, self._mnist, dataclasses.replace(self._plan, schedule=later), settings, teacher
        )

    @property
    def settings(self) -> dict[str, float]:
        """Those in force."""
        return self._training.settings

    @property
    def step(self) -> int:
        """Optimizer steps done, of ``steps``, in all stages."""
        return self._before + self._training.step

    @property
    def steps(self) -> int:
        return self._steps * len(self._stages)

    @property
    def trained(self) -> dict[str, nn.Module]:
        """All networks so far, by the learners' names."""
        return self._earlier | {learner.name: learner.model for learner in self._training.learners}

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[Record, None, None]:
        """As Training.records, over all stages: steps and epochs count on from stage to stage."""
        while True:
            for record in self._training.records(lambda step: due(self._before + step)):
                yield self._whole(record)
            if self._at + 1 == len(self._stages):
                return
            self._finish()
            self._seconds += self._training.seconds
            self._begin(self._at + 1, self._training.settings)

    def _finish(self) -> None:
        self._earlier = self.trained
        for model in self._earlier.values():
            for weight in (
                model.parameters()
            ):  # perhaps views of the training's stack, from whose places matrix products may round otherwise
                weight.data = weight.data.clone()

    def _whole(self, record: Record) -> Record:
        """``record`` of a stage as one of the chain."""
        return dataclasses.replace(
            record,
            step=record.step + self._before,
            steps=record.steps * len(self._stages),
            epoch=record.epoch + self._at * self._plan.epochs,
            seconds=record.seconds + self._seconds,
        )

    def state(self) -> dict[str, Tensor]:
        """As Training.state, with the networks of finished stages."""
        earlier = {
            f"earlier.{name}.{key}": value
            for name, model in self._earlier.items()
            for key, value in model.state_dict().items()
        }
        here = {
            "stage": torch.tensor(self._at),
            "stage.seconds": torch.tensor(self._seconds, dtype=torch.float64),
        }
        return self._training.state() | earlier | here

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """As Training.restore.

        Raises:
            UserError: it is the state of another training.
        """
        wrong = UserError(
            "The checkpoint is of another training, or of another version of the program; start the run anew."
        )
        try:
            stage, self._seconds = int(state["stage"]), float(state["stage.seconds"])
            if not 0 <= stage < len(self._stages):
                raise wrong
            while self._at < stage:
                for name, model in self.trained.items():
                    prefix = f"earlier.{name}."
                    model.load_state_dict(
                        {
                            key.removeprefix(prefix): value
                            for key, value in state.items()
                            if key.startswith(prefix)
                        }
                    )
                self._finish()
                self._begin(self._at + 1, self._training.settings)
        except (KeyError, RuntimeError, ValueError) as error:
            raise wrong from error
        self._training.restore(state)
