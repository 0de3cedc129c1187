"""Search settings with Optuna instead of a grid: each trial is a distillation, judged on validation images.

A sampler proposes settings from the results of earlier trials (TPE, Bergstra et al. 2011), and a trial
that falls behind the median of those before it is pruned, after an epoch or more. The Optuna journal is
in ``$KD_HOME``/searches, so that a stopped search continues with the same trials as if it had not
stopped: each proposal depends only on the seed and the earlier trials. At the end the best trial is
trained again, to the same weights, and only then are test images read. It is stored as a run.

Its control has the same settings, which were chosen for the student. For a fair comparison there is a
second control that had as many tries: the best control on the validation images of all complete trials,
whose learning rate is the only setting that a control reads.

A search is an experiment like any other, a generator of records, which the job manager drives;
search() drives it for the command line.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kd.config.search import SearchConfig
from kd.data.digits import Mnist
from kd.device import training_device
from kd.errors import UserError
from kd.experiments.base import Experiment, NetworkTeacher, Series
from kd.experiments.distil import Distillation
from kd.objectives import METHODS, feature_matching
from kd.randomness import seed
from kd.store import checkpoints, runs
from kd.sweeps import search_journal
from kd.sweeps.search_journal import RANDOM
from kd.sweeps.search_results import STATES
from kd.tables.cells import machine
from kd.training.loop import Diverged, Record, every_epoch

#: Setting besides the method -> its lowest and highest value, and whether it is searched on a log scale.
SPACE: dict[str, tuple[float, float, bool]] = {
    "temperature": (1.0, 20.0, True),
    "soft_weight": (0.0, 1.0, False),
    "learning_rate": (3e-4, 3e-2, True),
}
MAX_ROWS = 1_000  # stored of the best trial's training


def search(
    config: SearchConfig,
    mnist: Mnist,
    teacher: Any,
    note: Callable[[int, Record], None] = lambda trial, record: None,
) -> dict[str, Any]:
    """Run a search, or continue one that was stopped; store and return its result.

    Args:
        config: the search.
        mnist: the data.
        teacher: the teacher of all trials.
        note: called with the trial's place and its record at the ends of epochs.

    Raises:
        UserError: the search runs in another process, the folder cannot be written, or no trial was
            completed.
    """
    return driven(Search(config, mnist, teacher), note)


def driven(run: Search, note: Callable[[int, Record], None]) -> dict[str, Any]:
    """Run a search to its end and return its result; see search()."""
    for record in run.records():
        if isinstance(record, SearchRecord) and record.fresh:
            note(record.trial, record)
    return run.result


@dataclass(frozen=True)
class SearchRecord(Record):
    """A record of one trial.

    ``step`` and ``steps`` count the steps of the whole search; ``epoch`` is the fraction that is done.
    """

    trial: int = 0  # its place among the trials that count
    own_step: int = 0  # steps of the trial's training
    state: str = "running"  # one of STATES
    params: Mapping[str, float] = field(default_factory=dict)  # its settings; the method as an index
    again: bool = False  # whether this is the final training, which is stored as a run
    fresh: bool = True  # whether it was trained just now, not read from the journal

    def row(self) -> dict[str, float]:
        """Return the record as a row of metrics."""
        row: dict[str, float] = {
            name: getattr(self, name) for name in ("step", "epoch", "seconds", "images_per_second", "trial")
        }
        row |= {f"validation {name}": value for name, value in self.validation_accuracy.items()}
        row |= {f"setting {name}": value for name, value in self.params.items()}
        return row | {
            "state": float(STATES.index(self.state)),
            "again": float(self.again),
            "whole_validation": float(self.whole_validation),
        }


class Search(Experiment):
    """A search and the final training of its best trial.

    Raises:
        UserError: a method cannot use the teacher's hidden layers.
    """

    config: SearchConfig
    reference: NetworkTeacher
    teacher: NetworkTeacher
    training: Trials | None

    def __init__(self, config: SearchConfig, mnist: Mnist, teacher: NetworkTeacher):
        self.config, self.mnist = config, mnist.to(training_device())
        self.reference = self.teacher = teacher
        self.stages, self.transfer, self.settings = [], self.mnist, {}
        for method in config.methods.split(","):
            feature_matching.check(METHODS[method], "teacher", teacher.architecture)

    def _training(self) -> Trials:
        return Trials(self.config, self.mnist, self.teacher, self.owner)

    @property
    def result(self) -> dict[str, Any]:
        """The result of the search; empty until it has ended."""
        return self.training.result if self.training else {}

    def series(self, record: Record) -> list[Series]:
        """Return the accuracies of the record's trial; none for trials of an earlier process."""
        assert isinstance(record, SearchRecord)
        if not record.fresh:
            return []
        values = {
            "accuracy/validation" if name == "student" else f"accuracy/validation {name}": value
            for name, value in record.validation_accuracy.items()
        }
        methods = self.config.methods.split(",")
        settings = {
            name: methods[int(value)] if name == "method" else value for name, value in record.params.items()
        }
        name = f"trial {record.trial + 1}{' again' if record.again else ''}"
        return [Series(name, record.own_step, values, settings, ended=record.state != "running")]

    def measures(self, last: Record | None) -> dict[str, Any]:
        """Return the result; that of a stopped search has no test scores, since it read no test images."""
        self.reference.keep()
        return {
            "seconds": last.seconds if last else 0.0,
            "source": self.mnist.source,
            "data": self.mnist.digest,
            "teacher": self.reference.digest,
            "test_images": len(self.mnist.test),
            "models": {},
            "search": self.training.result or self.training.summary() if self.training else None,
        }


class Trials:
    """All trials, driven like one kd.training.loop.Training.

    Args:
        config: the search.
        mnist: the data.
        teacher: the teacher of all trials.
        owner: the digest of the token that owns the runs stored at the end.
    """

    trained: Mapping[str, nn.Module] = {}

    def __init__(self, config: SearchConfig, mnist: Mnist, teacher: Any, owner: str | None):
        self.settings: dict[str, float] = {}
        self.result: dict[str, Any] = {}  # empty until the search has ended
        self._config, self._mnist, self._teacher, self._owner = config, mnist, teacher, owner
        self._trial_steps = config.epochs * math.ceil(len(mnist.train) / config.batch_size)
        # Two more: the best trial, and the best control if it belongs to another trial.
        self.steps = self._trial_steps * (config.trials + 2)
        self.step, self.seconds = 0, 0.0
        self._study: Any = None

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[SearchRecord, None, None]:
        """Search from the state of the journal; first report the trials that it has.

        No setting can change during a search.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        folder = search_journal.folder(self._config, self._mnist, self._teacher)
        keeper = checkpoints.Keeper(f"search-{folder.name}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(runs.cannot_save(error, "The search", " and try again")) from None
        search_journal.claim(keeper)
        try:
            study = self._study = search_journal.open_study(folder)
            # Trials that are still running belong to a process that has died.
            for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            for place, trial in enumerate(search_journal.ended(study)[: self._config.trials]):
                yield self._earlier(place, trial)
            while (done := len(search_journal.ended(study))) < self._config.trials:
                study.sampler = optuna.samplers.TPESampler(
                    seed=seed(self._config.seed, "trial", done) % 2**32, n_startup_trials=RANDOM
                )
                yield from self._try(study.ask(), done, due)
            result = yield from self._finish(due)
            (folder / "result.json").write_text(json.dumps(result))
            self.result = result
            self.step = self.steps
            yield self._record(self.seconds, whole_validation=True, again=True, fresh=False)
        except OSError as error:  # also of the journal, in the middle of the search
            raise UserError(runs.cannot_save(error, "The search", " and try again")) from None
        finally:
            keeper.leave(ended=False)

    def _record(self, seconds: float, **values: Any) -> SearchRecord:
        """Return a record of the search at the current step."""
        return SearchRecord(
            step=self.step,
            steps=self.steps,
            epoch=self.step / self.steps,
            seconds=seconds,
            **{
                "images_per_second": 0.0,
                "losses": {},
                "train_accuracy": {},
                "validation_accuracy": {},
                "whole_validation": False,
                **values,
            },
        )

    def _try(self, trial: Any, place: int, due: Callable[[int], bool]) -> Generator[SearchRecord, None, None]:
        """Train a trial's student and control until they end or the trial is pruned.

        A trial is judged by the student's accuracy on the validation images.
        """
        from optuna.trial import TrialState

        params = {"method": trial.suggest_categorical("method", self._config.methods.split(","))}
        for name, (low, high, logarithmic) in SPACE.items():
            if name == "learning_rate" or name in METHODS[params["method"]].settings:
                params[name] = trial.suggest_float(name, low, high, log=logarithmic)
        values: dict[str, Any] = {"trial": place, "params": self._numbers(params)}
        before = self.seconds
        run = Distillation(self._config.distillation(params), self._mnist, self._teacher)
        try:
            for record in run.records(due):
                state = "running"
                if record.whole_validation:
                    accuracy = record.validation_accuracy["student"]
                    trial.report(accuracy, round(record.epoch))
                    trial.set_user_attr("control", record.validation_accuracy["control"])
                    trial.set_user_attr("seconds", round(record.seconds, 2))
                    if record.step == record.steps:
                        state = "complete"
                        self._study.tell(trial, accuracy)
                    elif trial.should_prune():
                        state = "pruned"
                        self._study.tell(trial, state=TrialState.PRUNED)
                yield self._search_record(record, place, before, values | {"state": state})
                if state == "pruned":
                    return
        except Diverged:
            self._study.tell(trial, state=TrialState.PRUNED)

    def _search_record(
        self, record: Record, place: int, before: float, values: Mapping[str, Any]
    ) -> SearchRecord:
        """Return the record of the training at ``place`` as a record of the search.

        A pruned trial counts as all its steps, because it takes no more of them.
        """
        running = values.get("state", "running") == "running"
        self.step = self._trial_steps * place + (record.step if running else self._trial_steps)
        self.seconds = before + record.seconds
        same = {
            name: getattr(record, name)
            for name in ("images_per_second", "validation_accuracy", "whole_validation")
        }
        return self._record(self.seconds, own_step=record.step, **same, **values)

    def _earlier(self, place: int, trial: Any) -> SearchRecord:
        """Return the last record of a trial that had ended before."""
        self.step = self._trial_steps * (place + 1)
        accuracy = {}
        if trial.value is not None:
            accuracy = {"student": trial.value, "control": trial.user_attrs["control"]}
        return self._record(
            self.seconds,
            validation_accuracy=accuracy,
            whole_validation=True,
            trial=place,
            state=trial.state.name.lower(),
            params=self._numbers(trial.params),
            fresh=False,
        )

    def _numbers(self, params: Mapping[str, Any]) -> dict[str, float]:
        """Return a trial's settings as numbers, the method as its index in the list."""
        methods = self._config.methods.split(",")
        return {
            name: float(methods.index(value) if name == "method" else value) for name, value in params.items()
        }

    def _finish(self, due: Callable[[int], bool]) -> Generator[SearchRecord, None, dict[str, Any]]:
        """Train the best trial and the best control again, and return the result with their test scores."""
        complete = search_journal.complete(self._study)
        if not complete:
            raise Diverged("No trial was completed: all diverged. Try another student or optimizer.")
        best = self._study.best_trial
        best_control = max(complete, key=lambda trial: trial.user_attrs["control"])
        run = yield from self._again(best, 0, due)
        tuned = run
        if best_control.number != best.number:
            tuned = yield from self._again(best_control, 1, due)
        return self.summary() | {
            "run": run.id,
            "tuned_control": {"learning_rate": best_control.params["learning_rate"], "run": tuned.id},
            "models": run.measures["models"] | {"tuned control": tuned.measures["models"]["control"]},
            "test_images": len(self._mnist.test),
        }

    def _again(
        self, trial: Any, place: int, due: Callable[[int], bool]
    ) -> Generator[SearchRecord, None, runs.Run]:
        """Train a trial again and store it as a run; return the run that it was stored as before, if any."""
        with contextlib.suppress(KeyError, UserError):
            return runs.load(self._study.user_attrs[f"run {trial.number}"])
        run = Distillation(self._config.distillation(trial.params), self._mnist, self._teacher)
        rows: list[dict[str, float]] = []
        last, before = None, self.seconds
        numbers = [other.number for other in search_journal.ended(self._study)]
        number = numbers.index(trial.number)
        values = {"trial": number, "params": self._numbers(trial.params), "again": True}
        for last in run.records(due):
            if last.whole_validation or len(rows) < MAX_ROWS:
                rows.append(last.row())
            yield self._search_record(last, self._config.trials + place, before, values)
        name = f"{self._config.student}, trial {number + 1} of a search"
        saved = runs.save(
            runs.new_id(), run.config, "done", rows, run.trained, run.measures(last), self._owner, name=name
        )
        self._study.set_user_attr(f"run {trial.number}", saved.id)
        return saved

    def summary(self) -> dict[str, Any]:
        """Return the trials that have ended, the best of the complete ones, and the settings' importances."""
        if self._study is None:
            return {}
        trials = [
            {
                "number": i,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "params": trial.params,
                "epochs": trial.intermediate_values,
                **trial.user_attrs,
            }
            for i, trial in enumerate(search_journal.ended(self._study))
        ]
        best = {}
        if search_journal.complete(self._study):
            params = self._study.best_trial.params
            best = {"best": params | {"validation_accuracy": self._study.best_value}}
        return {
            "command": self._config.command,
            "machine": machine(),
            "config": self._config.to_dict(),
            "source": self._mnist.source,
            **best,
            "importances": search_journal.importances(self._study),
            "trials": trials,
        }

    def state(self) -> dict[str, Tensor]:
        """Return the position. The rest is in the journal: a trial in progress starts again."""
        return {"step": torch.tensor(self.step), "seconds": torch.tensor(self.seconds, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore a position that state() returned."""
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
