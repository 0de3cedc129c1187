"""The commands that train and store a run, one for each kind of run that has a help text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from kd.cli import logs
from kd.cli.output import add_json, load_mnist, not_empty, say
from kd.config import kinds
from kd.config.kind import Kind
from kd.device import training_device
from kd.errors import UserError
from kd.experiments import compress
from kd.experiments.base import Experiment
from kd.figures import base
from kd.store import checkpoints, runs
from kd.sweeps import sweep_summary
from kd.tables import cells
from kd.teachers import catalogue, doubts
from kd.training import distributed
from kd.training.loop import Record


class Extra:
    """Additions to the command of a kind of run: none, unless a subclass overrides the methods."""

    def add_arguments(self, command: argparse.ArgumentParser) -> None:
        """Add options."""

    def check(self, given: argparse.Namespace) -> None:
        """Raise a UserError where the options do not fit together."""

    def ready(self, experiment: Experiment, given: argparse.Namespace) -> None:
        """Raise a UserError where the command could not finish what is about to begin."""

    def experiment(self, experiment: Experiment, given: argparse.Namespace) -> Experiment:
        """Return the experiment to run in place of ``experiment``."""
        return experiment

    def finish(self, run: runs.Run, experiment: Experiment, given: argparse.Namespace) -> None:
        """Do what is left to do after the run is stored."""


def add(commands: Any, kind: Kind, extra: Extra) -> None:
    """Add the command of a kind of run, with all of its settings as options."""
    command = commands.add_parser(
        kind.name, help=kind.help, description=kind.help, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kind.config.add_arguments(command)
    add_json(command)
    command.add_argument(
        "--resume",
        type=not_empty,
        metavar="ID",
        help="go on with a run that was interrupted; it keeps its own settings",
    )
    if kind.logged:
        logs.add_arguments(command)
    extra.add_arguments(command)
    command.set_defaults(run=run, kept=kept, kind=kind, extra=extra, id="")


def run(given: argparse.Namespace) -> int:
    """Train, store and print a run."""
    kind: Kind = given.kind
    given.extra.check(given)
    checkpoint = checkpoints.load(given.resume) if given.resume else None
    config = checkpoint.config if checkpoint else kind.config.from_arguments(given)
    if kinds.of(config) is not kind:
        raise UserError(
            f"{given.resume} is not a run of this kind; resume it with the command that it was started with."
        )
    given.id = checkpoint.id if checkpoint else runs.new_id()
    if distributed.rank() is not None and not kind.distributed:
        raise UserError(
            "Only a teacher can be trained by several processes; start this command without torchrun."
        )
    if not distributed.rank():
        runs.check_writable()
    with distributed.joined(training_device()):
        experiment = given.extra.experiment(_experiment(config), given)
        given.extra.ready(experiment, given)
        if distributed.rank():  # the first process shows and stores what all of them do
            for _ in experiment.records(state=checkpoint.state if checkpoint else None):
                pass
            return 0
        log = logs.opened(given, given.id, config.to_dict()) if kind.logged else logs.Logs()
        result = _trained(given.id, experiment, checkpoint, log)
    given.extra.finish(runs.load(given.id), experiment, given)
    if given.json:
        print(json.dumps(result))
    else:
        print_table(result)
    return 0


def kept(given: argparse.Namespace) -> str:
    """Return a sentence on what is kept of a stopped run, and how to resume it."""
    try:
        checkpoint = checkpoints.load(given.id, state=False)
    except UserError:
        return "nothing was stored"
    what = checkpoint.about.kept(checkpoint.rows)
    return f"{what} are kept: python -m kd {given.command} --resume {given.id}"


def _experiment(config: Any) -> Experiment:
    # The teacher first, so that a wrong name is reported before a download.
    kind = kinds.of(config)
    reference = catalogue.load(config.teacher, training_device()) if kind.has_teacher else None
    if reference:
        kind.check_teacher(config, reference.architecture)
    mnist = load_mnist()
    distributed.agree(mnist.digest)
    if reference and (doubt := doubts.of(reference, mnist.to(training_device()).glance)):
        say(f"warning: {doubt}")
    return kind.build(config, mnist, reference)


def _trained(
    id: str, experiment: Experiment, checkpoint: checkpoints.Checkpoint | None, log: logs.Logs
) -> dict[str, Any]:
    """Train with a progress bar, store the run, and return what --json prints."""
    owner = checkpoint.owner if checkpoint else None  # a run that the app began stays its owner's
    keeper = checkpoints.Keeper(id, owner)
    if checkpoint:
        checkpoint.check(
            experiment.mnist.digest, experiment.reference.digest if experiment.reference else None
        )
        keeper.claim()
    try:
        if checkpoint:
            checkpoint = checkpoints.load(
                id
            )  # again: before the claim, another process could have resumed it
        rows, last = _records(id, experiment, keeper, checkpoint, log)
        measures = experiment.measures(last)
        log.write(logs.results(measures, last.step if last else 0))
        runs.save(
            id,
            experiment.config,
            "done",
            rows,
            experiment.trained,
            measures,
            owner,
            tensors=experiment.tensors,
        )
        keeper.leave(ended=True)
    finally:
        keeper.leave(ended=False)
        log.close()
    return result_of(id, measures) | _details(experiment.config, measures)


def result_of(id: str, measures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run measured, as its command prints it."""
    return {
        "run": id,
        "seconds": round(measures["seconds"], 2),
        "source": measures["source"],
        **measures["models"],
        **{key: measures[key] for key in ("curves", "stages", "cells") if key in measures},
    }


def _details(config: Any, measures: dict[str, Any]) -> dict[str, Any]:
    """Return what goes with the cells of a sweep."""
    if "cells" not in measures:
        return {}
    return {
        "means": sweep_summary.means(measures["cells"]),
        "config": config.to_dict(),
        "command": config.command,
        "machine": cells.machine(),
    }


def _records(
    id: str,
    experiment: Experiment,
    keeper: checkpoints.Keeper,
    checkpoint: checkpoints.Checkpoint | None,
    log: logs.Logs,
) -> tuple[list[dict[str, float]], Record | None]:
    """Train to the end, with a checkpoint now and then, and return all rows and the last record."""
    rows: list[dict[str, float]] = list(checkpoint.rows) if checkpoint else []
    last, told = None, None
    records = experiment.records(log.due, checkpoint.state if checkpoint else None)
    few_learners = kinds.of(experiment.config).few_learners
    with tqdm(unit="step", initial=int(rows[-1]["step"]) if rows else 0, file=sys.stderr) as bar:
        for last in records:
            rows.append(last.row())
            log.write(experiment.series(last))
            bar.total = last.steps
            bar.update(last.step - bar.n)
            if few_learners:
                bar.set_postfix({name: f"{value:.2%}" for name, value in last.validation_accuracy.items()})
            # Results of cells are kept as soon as they are there, unless writing would slow down training.
            fresh_results = getattr(last, "outcomes", ()) and last.step < last.steps
            if keeper.due(last) or (fresh_results and keeper.cheap):
                problem = keeper.keep(experiment, experiment.config, rows)
                if problem != told:
                    how = f"checkpoints are kept; to resume after an interruption, add --resume {id}"
                    bar.write(f"kd: {problem or how}", file=sys.stderr)
                    told = problem
    return rows, last


def print_table(result: dict[str, Any]) -> None:
    """Print the results of a run, which are what --json prints."""
    print(f"run {result['run']}, {result['seconds']} s, MNIST {result['source']}")
    if "cells" in result:
        print(sweep_summary.text(result["cells"]))
        return
    if "curves" in result:
        for name, curve in result["curves"].items():
            for point in curve:
                print(f"{name:20}{point['value']:>10g}{point['mean']:>10.2%} ± {point['sd']:.2%}")
        return
    print(f"{'':14}{'accuracy':>10}{'errors':>8}{'agreement with teacher':>24}")
    names = [name for name, found in result.items() if isinstance(found, dict)]
    for name in sorted(names, key=base.order):
        model = result[name]
        print(f"{name:14}{model['test_accuracy']:>10.2%}{model['test_errors']:>8}{model['agreement']:>24.2%}")
    if "stages" in result:
        print(compress.text(result["stages"]))
