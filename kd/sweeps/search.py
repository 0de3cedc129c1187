"""A search of settings by Optuna instead of a grid: each trial is a distillation, judged on the validation images alone.

A sampler proposes settings from what earlier trials came to (TPE, Bergstra et al. 2011), and a trial that falls behind the
median of those before it is given up (after an epoch or more). The study is an Optuna journal in ``$KD_HOME``/searches, so
that a search that was stopped goes on: to the same trials as if it had not been, since each trial's proposal depends on the
seed and the trials before it alone. In the end the best is trained again, to the same weights, and only then are test
images read. It is stored as a run like any other.

Its control has the same settings. They were chosen for the student, so beside it stands a control that had as many tries:
the one that was best on the validation images of all trials that went to their end, whose learning rate is what a control reads.

A search is an experiment like any other, a generator of records, that the job manager drives; search() drives it for the command line.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kd import paths
from kd.config.search import SearchConfig
from kd.data.digits import Mnist
from kd.device import training_device
from kd.errors import UserError
from kd.experiments.base import Distillation, Experiment
from kd.objectives import METHODS, feature_matching
from kd.randomness import seed
from kd.store import checkpoints, runs
from kd.tables.cells import machine
from kd.teachers.averaged import MeanTeacher
from kd.teachers.cached import CachedTeacher
from kd.training.loop import Diverged, Record, every_epoch

STORED = paths.MEASURED / "search.json"
#: What is searched beside the method, from where to where; logarithmic where factors matter.
SPACE: dict[str, tuple[float, float, bool]] = {
    "temperature": (1.0, 20.0, True),
    "soft_weight": (0.0, 1.0, False),
    "learning_rate": (3e-4, 3e-2, True),
}
RANDOM = 8  # trials at first that are drawn at random, before there is enough to learn from
PATIENCE = 1  # epochs of a trial before it may be given up
MAX_ROWS = 1_000  # of the best's curve
STATES = ("running", "complete", "pruned")  # of a trial; the last is one that was given up


def folder(config: SearchConfig, mnist: Mnist, teacher: Any) -> Path:
    """Where the search is kept. Named by all that its trials depend on; how many there are is no part of it."""
    about = json.dumps([config.replace(trials=1).to_dict(), mnist.digest, teacher.digest], sort_keys=True)
    return paths.home() / "searches" / hashlib.sha256(about.encode()).hexdigest()[:16]


def search(
    config: SearchConfig,
    mnist: Mnist,
    teacher: Any,
    note: Callable[[int, Record], None] = lambda trial, record: None,
) -> dict[str, Any]:
    """Searches, from where it was stopped if it was; stores and returns what it came to.

    Args:
        note: is told the trial's place and its records, at the ends of epochs.

    Raises:
        UserError: the search runs in another process, the folder refuses, or no trial went to its end.
    """
    run = Search(config, mnist, teacher)
    for record in run.records():
        if record.fresh:
            note(record.trial, record)
    return run.training.found


@dataclass(frozen=True)
class SearchRecord(Record):
    """A record of one trial; ``step`` and ``steps`` count those of the whole search, ``epoch`` is the share of it that is done."""

    trial: int = 0  # its place among those that count
    state: str = "running"  # one of STATES
    params: Mapping[str, float] = field(
        default_factory=dict
    )  # its settings; the method by its place in the list
    again: bool = False  # the training that is stored in the end
    fresh: bool = True  # trained just now

    def row(self) -> dict[str, float]:
        about = {
            name: getattr(self, name) for name in ("step", "epoch", "seconds", "images_per_second", "trial")
        }
        live = {f"validation {name}": value for name, value in self.validation_accuracy.items()} | {
            f"setting {name}": value for name, value in self.params.items()
        }
        return (
            about
            | live
            | {
                "state": float(STATES.index(self.state)),
                "again": float(self.again),
                "whole_validation": float(self.whole_validation),
            }
        )


class Search(Experiment):
    """A search and, in the end, its best.

    Raises:
        UserError: a method cannot look into the teacher.
    """

    config: SearchConfig
    training: Trials | None

    def __init__(self, config: SearchConfig, mnist: Mnist, teacher: CachedTeacher | MeanTeacher):
        self.config, self.mnist, self.reference, self.teacher = (
            config,
            mnist.to(training_device()),
            teacher,
            teacher,
        )
        self.stages, self.transfer, self.settings = [], self.mnist, {}
        for method in config.methods.split(","):
            feature_matching.check(METHODS[method], "teacher", teacher.architecture)

    def _training(self) -> Trials:
        return Trials(self.config, self.mnist, self.teacher, self.owner)

    def measures(self, last: Record | None) -> dict[str, Any]:
        """What it came to; of one that was stopped without a word on test images, which it has not read."""
        self.reference.keep()
        return {
            "seconds": last.seconds if last else 0.0,
            "source": self.mnist.source,
            "data": self.mnist.digest,
            "teacher": self.reference.digest,
            "test_images": len(self.mnist.test),
            "models": {},
            "search": self.training.found or self.training.so_far() if self.training else None,
        }


class Trials:
    """All trials as if they were one training: what train.Training is to other experiments.

    Args:
        owner: of the runs that are stored in the end, as a digest.
    """

    trained: Mapping[str, nn.Module] = {}

    def __init__(self, config: SearchConfig, mnist: Mnist, teacher: Any, owner: str | None):
        self.settings: dict[str, float] = {}
        self.found: dict[str, Any] = {}  # what it came to; empty until it has ended
        self._config, self._mnist, self._teacher, self._owner = config, mnist, teacher, owner
        self._each = config.epochs * math.ceil(len(mnist.train) / config.batch_size)  # steps of a trial
        self.steps = self._each * (
            config.trials + 2
        )  # with the best, and the best control where it is another's
        self.step, self.seconds = 0, 0.0
        self._study: Any = None

    def records(self, due: Callable[[int], bool] = every_epoch) -> Generator[SearchRecord, None, None]:
        """Searches, from where the journal stands; what it has is told first. There are no settings to change."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        at = folder(self._config, self._mnist, self._teacher)
        keeper = checkpoints.Keeper(f"search-{at.name}")
        try:
            at.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(runs.cannot_save(error, "The search", " and try again")) from None
        _claim(keeper)
        try:
            study = self._study = _study(at)
            for trial in study.get_trials(
                states=[optuna.trial.TrialState.RUNNING]
            ):  # those of a process that is no more
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            for place, trial in enumerate(_ended(study)[: self._config.trials]):
                yield self._earlier(place, trial)
            while (done := len(_ended(study))) < self._config.trials:
                study.sampler = optuna.samplers.TPESampler(
                    seed=seed(self._config.seed, "trial", done) % 2**32, n_startup_trials=RANDOM
                )
                yield from self._tried(study.ask(), done, due)
            found = yield from self._came_to(due)
            try:
                (at / "result.json").write_text(json.dumps(found))
            except OSError as error:
                raise UserError(runs.cannot_save(error, "The search", " and try again")) from None
            self.found = found
            self.step = self.steps
            yield SearchRecord(
                self.step, self.steps, 1.0, self.seconds, 0.0, {}, {}, {}, True, again=True, fresh=False
            )
        finally:
            keeper.leave(ended=False)

    def _tried(
        self, trial: Any, place: int, due: Callable[[int], bool]
    ) -> Generator[SearchRecord, None, None]:
        """Trains a trial's student, and its control, to the end or until it is given up: judged by the student's accuracy on the validation images."""
        from optuna.trial import TrialState

        found = {"method": trial.suggest_categorical("method", self._config.methods.split(","))}
        for name, (low, high, factors) in SPACE.items():
            if name == "learning_rate" or name in METHODS[found["method"]].settings:
                found[name] = trial.suggest_float(name, low, high, log=factors)
        about, before = (
            SearchRecord(0, 0, 0.0, 0.0, 0.0, {}, {}, {}, False, trial=place, params=self._numbers(found)),
            self.seconds,
        )
        try:
            for record in Distillation(self._config.distillation(found), self._mnist, self._teacher).records(
                due
            ):
                state = "running"
                if record.whole_validation:
                    trial.report(record.validation_accuracy["student"], round(record.epoch))
                    trial.set_user_attr("control", record.validation_accuracy["control"])
                    trial.set_user_attr("seconds", round(record.seconds, 2))
                    state = (
                        "complete"
                        if record.step == record.steps
                        else "pruned"
                        if trial.should_prune()
                        else "running"
                    )
                if state == "complete":
                    self._study.tell(trial, record.validation_accuracy["student"])
                elif state == "pruned":
                    self._study.tell(trial, state=TrialState.PRUNED)
                yield self._whole(record, place, before, dataclasses.replace(about, state=state))
                if state == "pruned":
                    return
        except Diverged:
            self._study.tell(trial, state=TrialState.PRUNED)

    def _whole(self, record: Record, place: int, before: float, about: SearchRecord) -> SearchRecord:
        """``record`` of the training at ``place`` as one of the search. One that is given up takes no more steps."""
        self.step = self._each * place + (record.step if about.state == "running" else self._each)
        self.seconds = before + record.seconds
        same = {
            name: getattr(record, name)
            for name in ("images_per_second", "validation_accuracy", "whole_validation")
        }
        return dataclasses.replace(
            about,
            step=self.step,
            steps=self.steps,
            epoch=self.step / self.steps,
            seconds=self.seconds,
            **same,
        )

    def _earlier(self, place: int, trial: Any) -> SearchRecord:
        """A trial that had ended before, as its last record."""
        self.step = self._each * (place + 1)
        known = (
            {} if trial.value is None else {"student": trial.value, "control": trial.user_attrs["control"]}
        )
        return SearchRecord(
            self.step,
            self.steps,
            self.step / self.steps,
            self.seconds,
            0.0,
            {},
            {},
            known,
            True,
            trial=place,
            state=trial.state.name.lower(),
            params=self._numbers(trial.params),
            fresh=False,
        )

    def _numbers(self, params: Mapping[str, Any]) -> dict[str, float]:
        return {
            name: float(self._config.methods.split(",").index(value) if name == "method" else value)
            for name, value in params.items()
        }

    def _came_to(self, due: Callable[[int], bool]) -> Generator[SearchRecord, None, dict[str, Any]]:
        """The trials, what mattered, and the best of them on the test images."""
        complete = _complete(self._study)
        if not complete:
            raise Diverged(
                "No trial went to its end: all went out of bounds. Try another student or optimizer."
            )
        best, fair = self._study.best_trial, max(complete, key=lambda trial: trial.user_attrs["control"])
        run = yield from self._again(best, 0, due)
        tuned = run if fair.number == best.number else (yield from self._again(fair, 1, due))
        return self.so_far() | {
            "run": run.id,
            "tuned_control": {"learning_rate": fair.params["learning_rate"], "run": tuned.id},
            "models": run.measures["models"] | {"tuned control": tuned.measures["models"]["control"]},
            "test_images": len(self._mnist.test),
        }

    def _again(
        self, trial: Any, place: int, due: Callable[[int], bool]
    ) -> Generator[SearchRecord, None, runs.Run]:
        """A trial trained again, and stored as a run; as the one that it was stored as before, where that is still there."""
        with contextlib.suppress(KeyError, UserError):
            return runs.load(self._study.user_attrs[f"run {trial.number}"])
        run, rows, last, before = (
            Distillation(self._config.distillation(trial.params), self._mnist, self._teacher),
            [],
            None,
            self.seconds,
        )
        number = next(i for i, other in enumerate(_ended(self._study)) if other.number == trial.number)
        about = SearchRecord(
            0,
            0,
            0.0,
            0.0,
            0.0,
            {},
            {},
            {},
            False,
            trial=number,
            params=self._numbers(trial.params),
            again=True,
        )
        for last in run.records(due):
            if last.whole_validation or len(rows) < MAX_ROWS:
                rows.append(last.row())
            yield self._whole(last, self._config.trials + place, before, about)
        name = f"{self._config.student}, trial {number + 1} of a search"
        saved = runs.save(
            runs.new_id(), run.config, "done", rows, run.trained, run.measures(last), self._owner, name=name
        )
        self._study.set_user_attr(f"run {trial.number}", saved.id)
        return saved

    def so_far(self) -> dict[str, Any]:
        """The trials that have ended, their best by the validation images where one went to its end, and what mattered."""
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
            for i, trial in enumerate(_ended(self._study))
        ]
        best = (
            {"best": self._study.best_trial.params | {"validation_accuracy": self._study.best_value}}
            if _complete(self._study)
            else {}
        )
        return {
            "command": self._config.command,
            "machine": machine(),
            "config": self._config.to_dict(),
            "source": self._mnist.source,
            **best,
            "importances": importances(self._study),
            "trials": trials,
        }

    def state(self) -> dict[str, Tensor]:
        """Where it stands. All else that going on needs is in the journal: a trial under way begins anew."""
        return {"step": torch.tensor(self.step), "seconds": torch.tensor(self.seconds, dtype=torch.float64)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


def _claim(keeper: checkpoints.Keeper) -> None:
    try:
        keeper.claim()
    except UserError as error:
        if str(error) != checkpoints.ELSEWHERE:
            raise
        raise UserError(
            "This very search is in training elsewhere: by somebody else here, in another server, or from the command line. Wait for it, or change a setting, such as the seed."
        ) from None


def _study(at: Path) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    pruner = optuna.pruners.MedianPruner(n_startup_trials=RANDOM // 2, n_warmup_steps=PATIENCE)
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(at / "study.journal")))
        return optuna.create_study(
            storage=storage, study_name="search", direction="maximize", pruner=pruner, load_if_exists=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"The search in {at} is damaged ({error}); delete that folder to begin anew."
        ) from None


def _ended(study: Any) -> list[Any]:
    """The trials that went to their end or were given up."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])


def _complete(study: Any) -> list[Any]:
    """The trials that went to their end."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def importances(study: Any) -> dict[str, float]:
    """Setting -> the share of the variance of validation accuracy that it explains, of the trials that went to their end.

    Empty where they are too few to tell. Source: Hutter, Hoos & Leyton-Brown 2014 (fANOVA).
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    try:
        return {
            name: float(share)
            for name, share in get_param_importances(
                study, evaluator=FanovaImportanceEvaluator(seed=0)
            ).items()
        }
    except (ValueError, RuntimeError):
        return {}


# -- what was found -----------------------------------------------------------------------------


def read(config: SearchConfig, rows: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """From the rows of a run: the trials, as what a search came to has them; the last may be under way."""
    found: dict[int, dict[str, Any]] = {}
    names = config.methods.split(",")
    for row in rows:
        if row["again"]:
            continue
        given = {
            name.removeprefix("setting "): value for name, value in row.items() if name.startswith("setting ")
        }
        trial = found.setdefault(int(row["trial"]), {"value": None})
        trial |= {
            "number": int(row["trial"]),
            "state": STATES[int(row["state"])],
            "epochs": {},
            "params": {
                name: names[int(value)] if name == "method" else value for name, value in given.items()
            },
        }
        if row["whole_validation"] and "validation student" in row:
            trial |= {"value": row["validation student"], "control": row["validation control"]}
    trials = [found[number] for number in sorted(found)]
    for trial in trials[:-1]:
        if trial["state"] == "running":  # it went out of bounds, and had no last record
            trial["state"] = "pruned"
    return trials


def own() -> list[Path]:
    """Where the searches in $KD_HOME that came to their end are kept, newest first."""
    return sorted(paths.home().glob("searches/*/result.json"), key=os.path.getmtime, reverse=True)


def stored() -> list[dict[str, Any]]:
    """The searches in $KD_HOME that came to their end, newest first; without one, what was measured for the README."""
    found = []
    for path in own() or [STORED]:
        try:
            one = json.loads(path.read_text())
            assert one["trials"] and one["best"] and one["models"]
            found.append(one)
        except (OSError, ValueError, KeyError, TypeError, AssertionError):
            continue  # one that is damaged is as good as none
    return found


def best(trials: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of trials the one that went to its end and reads most validation images right."""
    return max(
        (trial for trial in trials if trial["state"] == "complete"),
        key=lambda trial: trial["value"],
        default=None,
    )


def told(params: Mapping[str, Any]) -> str:
    """ "hinton, temperature 3.9, soft weight 0.5": a trial's settings."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{value}"
        for name, value in params.items()
    )


def said(found: Mapping[str, Any]) -> str:
    """What came out, in plain words; of a search that was stopped, what it had come to."""
    count, given_up = len(found["trials"]), sum(trial["state"] != "complete" for trial in found["trials"])
    if "best" not in found:
        return f"None of {count} trials went to its end."
    best, scores = found["best"], found.get("models")
    settings = told({name: value for name, value in best.items() if name != "validation_accuracy"})
    if not scores:
        return (
            f"The best of {count} trials so far ({given_up} given up early), by the validation images: {settings}. It reads {best['validation_accuracy']:.2%} of those. "
            "Test images are read when a search has come to its end."
        )
    chosen, same = (
        len(best) - 1,
        "; in the sample they are the same images" if found["source"] == "sample" else "",
    )
    return (
        f"The best of {count} trials ({given_up} given up early), by the validation images: {settings}. It reads {best['validation_accuracy']:.2%} of those, which flatters it, "
        f"since it was chosen by them. On the {found['test_images']:,} test images, read once{same}, it makes {scores['student']['test_errors']} errors; its control, with the "
        f"same settings, {scores['control']['test_errors']}. {chosen} settings were tuned for the student, none for that control; a control that was the best of as many tries at "
        f"its learning rate ({found['tuned_control']['learning_rate']:.3g}) makes {scores['tuned control']['test_errors']}."
    )
