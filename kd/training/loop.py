"""The one training loop, a generator of records.

Teachers, students and their controls all train here. The caller drives the generator:
not asking for the next record pauses the training, closing the generator stops it, and
updating ``Training.settings`` between two records changes the settings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence

import torch
from torch import Tensor, nn

from kd.data.digits import Digits, Mnist
from kd.errors import UserError
from kd.metrics import classification
from kd.models.inference import Outputs, logits_in_chunks
from kd.training import clock, memory
from kd.training.batches import Batch, Batches, Teacher
from kd.training.distributed import Ranks
from kd.training.forward_backward import has_dropout
from kd.training.learner import Learner, LearnerState, Step, Trainable
from kd.training.records import Diverged, Plan, Record, changes_after, every_epoch, learning_rate_at
from kd.training.threads import LearnerThreads

__all__ = [
    "Diverged",
    "Learner",
    "Plan",
    "Record",
    "Teacher",
    "Training",
    "accuracy",
    "every_epoch",
    "learning_rate_at",
]


def accuracy(model: nn.Module, digits: Digits) -> float:
    """Return the accuracy (0 to 1) of ``model`` on ``digits``. Does not change the model's mode."""
    return _accuracy(logits_in_chunks(model, digits.inputs(), 512), digits.labels)


class Training:
    """Train all ``learners`` on the same batches in the same order.

    Args:
        learners: the models; at most one is connected with the teacher's hidden layers.
        mnist: the training and validation images. The test images are not read.
        plan: the settings that stay fixed.
        settings: the values that the objectives read, such as temperature and soft_weight.
        teacher: computes the outputs for each batch when the batch is gathered, and the logits of
            the validation images; None if no objective needs a teacher.

    Attributes:
        settings: the current ones; may be updated between two records.
        step: optimizer steps done.
        steps: optimizer steps in the whole training.
        steps_per_epoch: optimizer steps in an epoch.
        seconds: time spent on training and evaluation, without pauses and standstills of the process.

    Raises:
        UserError: the batch size is larger than the training set, or there is not enough memory.
    """

    def __init__(
        self,
        learners: list[Learner],
        mnist: Mnist,
        plan: Plan,
        settings: Mapping[str, float],
        teacher: Teacher | None = None,
    ):
        if plan.batch_size > len(mnist.train):
            raise UserError(
                f"Batch size is {plan.batch_size:,}, "
                f"but there are only {len(mnist.train):,} training images; choose a smaller one."
            )
        self.learners, self.mnist, self.plan, self.teacher = learners, mnist, plan, teacher
        self.settings = {**settings, **changes_after(0, plan.schedule)}
        self.step, self.seconds = 0, 0.0
        self._ranks = Ranks()
        connections = [learner.connection for learner in learners if learner.connection]
        view = connections[0].teacher if connections else None
        self._batches = Batches(mnist.train, plan, teacher, view, self._ranks)
        device = mnist.train.images.device
        memory.check([learner.model for learner in learners], plan.batch_size + self._batches.extra, device)
        self.steps_per_epoch = self._batches.per_epoch
        self.steps = plan.epochs * self.steps_per_epoch
        for learner in learners:
            self._ranks.spread(learner.model)
        self._trainables = self._make_trainables()
        self._has_peers = any(learner.peer for learner in learners)
        # Learners do not train in parallel threads if they are peers (they need each other's outputs),
        # use dropout (it draws from one global generator), run in several processes (each has one
        # core) or on a GPU (which runs operations in parallel by itself).
        self._parallel = device.type == "cpu" and not (
            self._has_peers or any(has_dropout(learner.model) for learner in learners) or self._ranks.size > 1
        )
        self._projections = {
            learner.name: learner.connection.projection
            for learner in learners
            if learner.connection and learner.connection.projection
        }
        self._saved_weights: list[dict[str, Tensor]] = [{} for _ in learners]

    def _make_trainables(self) -> Sequence[Trainable]:
        """Return the objects to update at each step: one per learner, each with its own optimizer."""
        return [
            LearnerState(learner, self.plan.optimizer, self._ranks, self.plan.precision)
            for learner in self.learners
        ]

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[Record, None, None]:
        """Train from the current step to the end.

        Yields a Record at the end of each epoch and after every step for which
        ``due(step)`` is true. Updating ``settings`` between two records, as in
        ``training.settings.update(temperature=8.0)``, takes effect from the next step on.
        Models are left in training mode between records.

        Raises:
            Diverged: a loss or a weight is not finite; checked before each record.
        """
        for learner in self.learners:
            learner.model.train()
        self._save_weights()
        with LearnerThreads([trainable.step for trainable in self._trainables], self._parallel) as threads:
            images, started = 0, clock.now()
            for batch in self._batches.start(self.step, threads):
                images += self._train(batch, threads)
                epoch_ends = self.step % self.steps_per_epoch == 0
                if epoch_ends or due(self.step):
                    threads.wait()
                    losses, train_accuracy = self._means()
                    self._check_finite(losses)
                    digits = self.mnist.validation if epoch_ends else self.mnist.glance
                    validation_accuracy, fidelity = self._evaluate(digits)
                    elapsed = clock.now() - started
                    self.seconds += elapsed
                    record = Record(
                        step=self.step,
                        steps=self.steps,
                        epoch=self.step / self.steps_per_epoch,
                        seconds=self.seconds,
                        images_per_second=images / elapsed,
                        losses=losses,
                        train_accuracy=train_accuracy,
                        validation_accuracy=validation_accuracy,
                        whole_validation=epoch_ends,
                        fidelity=fidelity,
                    )
                    self._save_weights()
                    yield record
                    images, started = 0, clock.now()

    def _means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the mean losses and the training accuracy since the last record."""
        losses: dict[str, float] = {}
        train_accuracy: dict[str, float] = {}
        for trainable in self._trainables:
            own_losses, own_accuracy = trainable.means.means(self._ranks.total)
            losses |= own_losses
            train_accuracy |= own_accuracy
            trainable.means.reset()
        return losses, train_accuracy

    def _save_weights(self) -> None:
        """Copy the current weights, to return to them if training diverges."""
        for learner, saved in zip(self.learners, self._saved_weights):
            for key, value in learner.model.state_dict().items():
                saved[key] = saved[key].copy_(value) if key in saved else value.clone()

    def _check_finite(self, losses: Mapping[str, float]) -> None:
        """Restore the weights of the last record and raise Diverged if a loss or a weight is not finite."""
        # A step can spoil the weights, or the statistics of batch normalization, before any loss shows it.
        tensors = [weight for trainable in self._trainables for weight in trainable.parameters]
        tensors += [buffer for learner in self.learners for buffer in learner.model.buffers()]
        if all(map(math.isfinite, losses.values())) and _all_finite(tensors):
            return
        for learner, weights in zip(self.learners, self._saved_weights):
            learner.model.load_state_dict(weights)
        raise Diverged(
            f"Training diverged after {self.step:,} steps (a loss or a weight is not finite); "
            "try a lower learning rate."
        )

    def _evaluate(self, digits: Digits) -> tuple[dict[str, float], dict[str, float]]:
        """Return each learner's accuracy; and its calibration error and fidelity to the teacher."""
        inputs = digits.inputs()
        accuracies: dict[str, float] = {}
        fidelity: dict[str, float] = {}
        teacher_logits = self.teacher.logits(digits) if self.teacher else None
        for learner in self.learners:
            logits = logits_in_chunks(learner.model, inputs, 512)
            accuracies[learner.name] = _accuracy(logits, digits.labels)
            measures: dict[str, float] = {}
            if teacher_logits is not None:
                measures |= classification.fidelity(logits, teacher_logits)
            measures["ece"] = classification.ece(logits, digits.labels)
            for name, value in measures.items():
                if math.isfinite(value):  # logits may be NaN before divergence is detected
                    fidelity[f"{name} {learner.name}"] = value
        return accuracies, fidelity

    def _train(self, batch: Batch, threads: LearnerThreads[Step]) -> int:
        """Start one optimizer step of each learner; return the number of images in the whole batch.

        The steps may still be running; ``threads.wait()`` waits for them.
        """
        images, labels, teacher = batch
        whole = self._ranks.begin(images)
        step = Step(
            images,
            labels,
            teacher,
            (self.plan.seed, "dropout", self.step),
            self.settings,
            learning_rate_at(self.step, self.steps, self.plan.learning_rate),
        )
        if self._has_peers:
            self._train_peers(step)
        else:
            threads.broadcast(step)
        self.step += 1
        # A new dictionary, since a step that is not done yet still reads the old one.
        self.settings = self.settings | changes_after(self.step, self.plan.schedule)
        return whole

    def _train_peers(self, step: Step) -> None:
        """Take one step of learners that teach each other, from their outputs before the step."""
        states = [state for state in self._trainables if isinstance(state, LearnerState)]
        outputs = [state.forward(step) for state in states]
        logits = {state.name: Outputs(own.logits) for state, own in zip(states, outputs)}
        for learner, state, own in zip(self.learners, states, outputs):
            state.update(own, logits[learner.peer] if learner.peer else step.teacher, step)

    # -- checkpoints -----------------------------------------------------------------

    def state(self) -> dict[str, Tensor]:
        """Return all that is needed to resume from here, as tensors by name. Call it between two records."""
        state = {
            "step": torch.tensor(self.step),
            "seconds": torch.tensor(self.seconds, dtype=torch.float64),
        }
        for name, setting in self.settings.items():
            state[f"setting.{name}"] = torch.tensor(setting, dtype=torch.float64)
        for learner in self.learners:
            for key, value in learner.model.state_dict().items():
                state[f"weights.{learner.name}.{key}"] = value
        for name, projection in self._projections.items():
            for key, value in projection.state_dict().items():
                state[f"projection.{name}.{key}"] = value
        for trainable in self._trainables:
            for i, value in enumerate(trainable.moments):
                state[f"moments.{trainable.name}.{i}"] = value
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from a state() of a Training with the same arguments.

        Raises:
            UserError: it is the state of another training.
        """

        def with_prefix(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}

        try:
            for learner in self.learners:
                learner.model.load_state_dict(with_prefix(f"weights.{learner.name}."))
            for name, projection in self._projections.items():
                projection.load_state_dict(with_prefix(f"projection.{name}."))
            for trainable in self._trainables:
                for i, value in enumerate(trainable.moments):
                    value.copy_(state[f"moments.{trainable.name}.{i}"])
            self.settings = {name: value.item() for name, value in with_prefix("setting.").items()}
            self.step, self.seconds = int(state["step"]), float(state["seconds"])
        except (KeyError, RuntimeError) as error:
            raise UserError(
                "The checkpoint belongs to another training, or to another version of the program; "
                "start a new run."
            ) from error


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).float().mean().item()


def _all_finite(values: list[Tensor]) -> bool:
    extremes = [torch.stack(torch.aminmax(value.detach())).double() for value in values if value.numel()]
    return bool(torch.cat(extremes).isfinite().all())
