"""A search of settings by Optuna instead of a grid: each trial is a distillation, judged on the validation images alone.

A sampler proposes settings from what earlier trials came to (TPE, Bergstra et al. 2011), and a trial that falls behind the
median of those before it is given up (after an epoch or more). The study is an Optuna journal in ``$KD_HOME``/searches, so
that a search that was stopped goes on: to the same trials as if it had not been, since each trial's proposal depends on the
seed and the trials before it alone. In the end the best is trained again, to the same weights, and only then are test
images read. It is stored as a run like any other.

Its control has the same settings. They were chosen for the student, so beside it stands a control that had as many tries:
the one that was best on the validation images of all trials that went to their end, whose learning rate is what a control reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, ClassVar, Mapping

from kd import checkpoints, runs
from kd.tables.cells import machine
from kd.config import DistilConfig, Settings, setting
from kd.data import Mnist
from kd.errors import UserError
from kd.experiment import Distillation
from kd.objectives import METHODS
from kd.optimizers import OPTIMIZERS
from kd.randomness import seed
from kd.train import Diverged, Record

STORED = Path(__file__).parents[2] / "benchmarks" / "search.json"
#: What is searched beside the method, from where to where; logarithmic where factors matter.
SPACE: dict[str, tuple[float, float, bool]] = {"temperature": (1.0, 20.0, True), "soft_weight": (0.0, 1.0, False), "learning_rate": (3e-4, 3e-2, True)}
RANDOM = 8  # trials at first that are drawn at random, before there is enough to learn from
PATIENCE = 1  # epochs of a trial before it may be given up


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Settings):
    """Which settings are searched, and what all trials have in common."""

    _architectures: ClassVar = ("student",)

    student: str = setting("mlp-30", "Student", "The network that learns from the teacher.")
    teacher: str = setting("cnn", "Teacher", "The trained network whose answers the student learns to match.")
    trials: int = setting(30, "Trials", "How many settings are tried, at most.", 1, 1000, 1)
    methods: str = setting("hinton,dist,reverse-kl,jsd", "Methods", "Those to choose among, with commas between them.")
    labels: int = setting(0, "Labels", "How many training images have a label. 0: all have one.", 0, 60_000, 10)
    epochs: int = setting(5, "Epochs", "How many times a trial goes through all the training images, unless it is given up.", 1, 200, 1)
    batch_size: int = setting(128, "Batch size", "Images per optimizer step.", 1, 4096, 1)
    optimizer: str = setting("adamw", "Optimizer", "Of all trials.", choices=tuple(OPTIMIZERS))
    seed: int = setting(0, "Seed", "Fixes what is proposed, and each trial's initial weights and order of the images.", 0, 2**31 - 1, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = list(dict.fromkeys(name.strip() for name in self.methods.split(",") if name.strip()))
        object.__setattr__(self, "methods", ",".join(names))
        if not names:
            raise UserError("Methods must have at least one name, such as hinton.")
        for name in names:
            self.distillation({"method": name})  # refuses what does not fit

    def distillation(self, found: Mapping[str, Any]) -> DistilConfig:
        """A trial's own settings."""
        common = {name: getattr(self, name) for name in ("student", "teacher", "labels", "epochs", "batch_size", "optimizer", "seed")}
        return DistilConfig(**common | dict(found))

    @property
    def folder(self) -> Path:
        """Where the search is kept. Named by all that its trials depend on; how many there are is no part of it."""
        digest = hashlib.sha256(json.dumps(self.replace(trials=1).to_dict(), sort_keys=True).encode()).hexdigest()[:16]
        return runs.home() / "searches" / digest


def search(config: SearchConfig, mnist: Mnist, teacher: Any, note: Callable[[int, Record], None] = lambda trial, record: None) -> dict[str, Any]:
    """Searches, from where it was stopped if it was; stores and returns what it came to.

    Args:
        note: is told the trial's number and its records, at the ends of epochs.

    Raises:
        UserError: the search runs in another process, the folder refuses, or no trial went to its end.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    keeper = checkpoints.Keeper(f"search-{config.folder.name}")
    try:
        config.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(runs.cannot_save(error, "The search", " and try again")) from None
    keeper.claim()
    try:
        study = _study(config, mnist, teacher)
        for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):  # those of a process that is no more
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        while (done := len(_ended(study))) < config.trials:
            study.sampler = optuna.samplers.TPESampler(seed=seed(config.seed, "trial", done) % 2**32, n_startup_trials=RANDOM)
            trial = study.ask()
            study.tell(trial, *_tried(trial, config, mnist, teacher, note))
        found = _came_to(study, config, mnist, teacher, note)
        (config.folder / "result.json").write_text(json.dumps(found))
        return found
    finally:
        keeper.leave(ended=False)


def _study(config: SearchConfig, mnist: Mnist, teacher: Any) -> Any:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    pruner = optuna.pruners.MedianPruner(n_startup_trials=RANDOM // 2, n_warmup_steps=PATIENCE)
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(config.folder / "study.journal")))
        study = optuna.create_study(storage=storage, study_name="search", direction="maximize", pruner=pruner, load_if_exists=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"The search in {config.folder} is damaged ({error}); delete that folder to begin anew.") from None
    about = {"data": mnist.digest, "teacher": teacher.digest}
    if study.user_attrs.get("about", about) != about:
        raise UserError(f"This search was begun on other data or with another teacher; delete {config.folder} to begin anew.")
    study.set_user_attr("about", about)
    return study


def _ended(study: Any) -> list[Any]:
    """The trials that went to their end or were given up."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])


def _tried(trial: Any, config: SearchConfig, mnist: Mnist, teacher: Any, note: Callable[[int, Record], None]) -> tuple[float | None, Any]:
    """Trains a trial's student, and its control, to the end or until it is given up: the student's accuracy on the validation images."""
    from optuna.trial import TrialState

    found = {"method": trial.suggest_categorical("method", config.methods.split(","))}
    for name, (low, high, factors) in SPACE.items():
        if name == "learning_rate" or name in METHODS[found["method"]].settings:
            found[name] = trial.suggest_float(name, low, high, log=factors)
    run, began = Distillation(config.distillation(found), mnist, teacher), time.perf_counter()
    try:
        for record in run.records():
            note(trial.number, record)
            value = record.validation_accuracy["student"]
            trial.report(value, round(record.epoch))
            trial.set_user_attr("control", record.validation_accuracy["control"])
            trial.set_user_attr("seconds", round(time.perf_counter() - began, 2))
            if record.step < record.steps and trial.should_prune():
                return None, TrialState.PRUNED
    except Diverged:
        return None, TrialState.PRUNED
    return value, TrialState.COMPLETE


def _came_to(study: Any, config: SearchConfig, mnist: Mnist, teacher: Any, note: Callable[[int, Record], None]) -> dict[str, Any]:
    """The trials, what mattered, and the best of them on the test images."""
    from optuna.trial import TrialState

    complete = study.get_trials(states=[TrialState.COMPLETE])
    if not complete:
        raise UserError("No trial went to its end: all went out of bounds. Try another student or optimizer.")
    best, fair = study.best_trial, max(complete, key=lambda trial: trial.user_attrs["control"])
    run = _again(study, config, best, mnist, teacher, note)
    tuned = run if fair.number == best.number else _again(study, config, fair, mnist, teacher, note)
    scores = run.measures["models"] | {"tuned control": tuned.measures["models"]["control"]}
    trials = [
        {"number": i, "state": trial.state.name.lower(), "value": trial.value, "params": trial.params, "epochs": trial.intermediate_values, **trial.user_attrs}
        for i, trial in enumerate(_ended(study))
    ]
    return {
        "command": _command(config), "machine": machine(), "config": config.to_dict(), "source": mnist.source, "run": run.id,
        "best": best.params | {"validation_accuracy": best.value}, "tuned_control": {"learning_rate": fair.params["learning_rate"], "run": tuned.id},
        "models": scores, "test_images": len(mnist.test), "importances": importances(study), "trials": trials,
    }


def _again(study: Any, config: SearchConfig, trial: Any, mnist: Mnist, teacher: Any, note: Callable[[int, Record], None]) -> runs.Run:
    """A trial trained again, and stored as a run; as the one that it was stored as before, where that is still there."""
    with contextlib.suppress(KeyError, UserError):
        return runs.load(study.user_attrs[f"run {trial.number}"])
    run, rows, last = Distillation(config.distillation(trial.params), mnist, teacher), [], None
    for last in run.records():
        note(trial.number, last)
        rows.append(last.row())
    saved = runs.save(runs.new_id(), run.config, "done", rows, run.trained, run.measures(last), name=f"{config.student}, trial {trial.number} of a search")
    study.set_user_attr(f"run {trial.number}", saved.id)
    return saved


def importances(study: Any) -> dict[str, float]:
    """Setting -> the share of the variance of validation accuracy that it explains, of the trials that went to their end.

    Empty where they are too few to tell. Source: Hutter, Hoos & Leyton-Brown 2014 (fANOVA).
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    try:
        return {name: float(share) for name, share in get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0)).items()}
    except (ValueError, RuntimeError):
        return {}


def _command(config: SearchConfig) -> str:
    return " ".join(["python -m kd search", *(f"--{name.replace('_', '-')} {value}" for name, value in config.to_query().items())])


# -- what was found -----------------------------------------------------------------------------


def own() -> list[Path]:
    """Where the searches in $KD_HOME that came to their end are kept, newest first."""
    return sorted(runs.home().glob("searches/*/result.json"), key=os.path.getmtime, reverse=True)


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


def said(found: Mapping[str, Any]) -> str:
    """What came out, in plain words."""
    best, scores, count = found["best"], found["models"], len(found["trials"])
    given_up = sum(trial["state"] != "complete" for trial in found["trials"])
    settings = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{value}" for name, value in best.items() if name != "validation_accuracy")
    chosen, same = len(best) - 1, "; in the sample they are the same images" if found["source"] == "sample" else ""
    return (
        f"The best of {count} trials ({given_up} given up early), by the validation images: {settings}. It reads {best['validation_accuracy']:.2%} of those, which flatters it, "
        f"since it was chosen by them. On the {found['test_images']:,} test images, read once{same}, it makes {scores['student']['test_errors']} errors; its control, with the "
        f"same settings, {scores['control']['test_errors']}. {chosen} settings were tuned for the student, none for that control; a control that was the best of as many tries at "
        f"its learning rate ({found['tuned_control']['learning_rate']:.3g}) makes {scores['tuned control']['test_errors']}."
    )
