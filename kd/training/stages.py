"""A chain of trainings, in which earlier networks may teach later ones.

An objective defines what a student learns from a teacher's outputs; a scheme defines the
teacher. A scheme is a list of stages with the same settings. Each stage trains some learners
with kd.training.loop, and may use the networks of earlier stages.
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

#: Takes the networks that earlier stages trained, by name; returns the stage's learners and their teacher.
Stage = Callable[[Mapping[str, nn.Module]], tuple[list[Learner], Teacher | None]]


class Chain:
    """Several stages, one after the other, with the interface of one Training.

    Args:
        stages: at least one.
        mnist: the training and validation images.
        plan: the plan of each stage, except that steps in its schedule are counted over all stages.
        settings: the values that the objectives read, such as temperature.
    """

    def __init__(self, stages: list[Stage], mnist: Mnist, plan: Plan, settings: Mapping[str, float]):
        self._stages, self._mnist, self._plan = stages, mnist, plan
        self._steps_per_stage = plan.epochs * math.ceil(len(mnist.train) / plan.batch_size)
        self._earlier: dict[str, nn.Module] = {}  # the networks of finished stages
        self._earlier_seconds = 0.0
        self._begin(0, settings)

    def _begin(self, stage: int, settings: Mapping[str, float]) -> None:
        self._stage = stage
        self._earlier_steps = stage * self._steps_per_stage
        # The settings already include the changes scheduled before this stage.
        schedule = tuple(
            (step - self._earlier_steps, name, value)
            for step, name, value in self._plan.schedule
            if step > self._earlier_steps or stage == 0
        )
        learners, teacher = self._stages[stage](self._earlier)
        plan = dataclasses.replace(self._plan, schedule=schedule)
        self._training = Training(learners, self._mnist, plan, settings, teacher)

    @property
    def settings(self) -> dict[str, float]:
        """The current settings; may be updated between two records."""
        return self._training.settings

    @property
    def step(self) -> int:
        """Optimizer steps done, in all stages."""
        return self._earlier_steps + self._training.step

    @property
    def steps(self) -> int:
        """Optimizer steps in all stages."""
        return self._steps_per_stage * len(self._stages)

    @property
    def trained(self) -> dict[str, nn.Module]:
        """All networks so far, by the learners' names."""
        return self._earlier | {learner.name: learner.model for learner in self._training.learners}

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[Record, None, None]:
        """Train all stages, as Training.records does; steps and epochs are counted over all stages."""
        while True:
            for record in self._training.records(lambda step: due(self._earlier_steps + step)):
                yield self._in_chain(record)
            if self._stage + 1 == len(self._stages):
                return
            self._finish()
            self._earlier_seconds += self._training.seconds
            self._begin(self._stage + 1, self._training.settings)

    def _finish(self) -> None:
        """Keep the networks of the current stage."""
        self._earlier = self.trained
        for model in self._earlier.values():
            for weight in model.parameters():
                # A weight may be a view of the training's flat tensor. Copy it, since matrix products may
                # round differently for operands at another memory alignment.
                weight.data = weight.data.clone()

    def _in_chain(self, record: Record) -> Record:
        """Return a stage's record with the steps, epochs and seconds of the chain."""
        return dataclasses.replace(
            record,
            step=record.step + self._earlier_steps,
            steps=record.steps * len(self._stages),
            epoch=record.epoch + self._stage * self._plan.epochs,
            seconds=record.seconds + self._earlier_seconds,
        )

    def state(self) -> dict[str, Tensor]:
        """Return all that is needed to resume: Training.state() and the networks of finished stages."""
        state = self._training.state()
        for name, model in self._earlier.items():
            for key, value in model.state_dict().items():
                state[f"earlier.{name}.{key}"] = value
        state["stage"] = torch.tensor(self._stage)
        state["stage.seconds"] = torch.tensor(self._earlier_seconds, dtype=torch.float64)
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a state() of a Chain with the same arguments.

        Raises:
            UserError: it is the state of another training.
        """
        other_training = UserError(
            "The checkpoint belongs to another training, or to another version of the program; "
            "start a new run."
        )
        try:
            stage, self._earlier_seconds = int(state["stage"]), float(state["stage.seconds"])
            if not 0 <= stage < len(self._stages):
                raise other_training
            while self._stage < stage:
                for name, model in self.trained.items():
                    prefix = f"earlier.{name}."
                    weights = {
                        key.removeprefix(prefix): value
                        for key, value in state.items()
                        if key.startswith(prefix)
                    }
                    model.load_state_dict(weights)
                self._finish()
                self._begin(self._stage + 1, self._training.settings)
        except (KeyError, RuntimeError, ValueError) as error:
            raise other_training from error
        self._training.restore(state)
