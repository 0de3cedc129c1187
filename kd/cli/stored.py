"""``kd runs``, ``show``, ``report`` and ``delete``: what the app's Runs page does with stored runs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from kd.cli import files, train
from kd.cli.output import add_json, not_empty, nothing_kept, say
from kd.errors import UserError
from kd.evaluation import comparison, overview
from kd.store import checkpoints, finding, runs


def add(commands: Any) -> None:
    """Add the commands."""
    command(commands, "runs", list_all, "list the stored runs, newest first")
    add_run(command(commands, "show", show, "show a run's settings and results"))
    reporting = command(commands, "report", report, "write a run's settings, results and charts as a page")
    add_run(reporting)
    files.add_output(reporting, "<id>-report.html")
    deleting = command(commands, "delete", delete, "delete a run and its weights, after asking")
    add_run(deleting)
    deleting.add_argument("--yes", action="store_true", help="delete it without asking")


def command(commands: Any, name: str, run: Any, help: str) -> argparse.ArgumentParser:
    """Add a command with --json that keeps nothing when it is stopped."""
    added = commands.add_parser(name, help=help, description=help)
    add_json(added)
    added.set_defaults(run=run, kept=nothing_kept)
    return added


def add_run(command: argparse.ArgumentParser) -> None:
    """Add the argument RUN."""
    command.add_argument(
        "stored", metavar="RUN", type=not_empty, help="a stored run: its id, its name, or how its id begins"
    )


def list_all(given: argparse.Namespace) -> int:
    """List the stored runs, and those that were interrupted."""
    stored, problems = runs.list_runs()
    interrupted, unreadable = checkpoints.list_interrupted()
    problems = [*problems, *unreadable]
    for problem in problems:
        say(problem)
    if given.json:
        found = {
            "runs": [overview.summary(run) for run in stored],
            "interrupted": [overview.interrupted(kept) for kept in interrupted],
            "problems": problems,
        }
        print(json.dumps(found))
    elif stored or interrupted:
        print(overview.table(stored, interrupted))
    else:
        say(f"no run is stored in {runs.home()}")
    return 0


def show(given: argparse.Namespace) -> int:
    """Show a run."""
    run = finding.find(given.stored)
    if given.json:
        print(json.dumps(overview.details(run)))
        return 0
    print(overview.text(run))
    if run.measures:
        print()
        train.print_table(train.result_of(run.id, run.measures))
    return 0


def report(given: argparse.Namespace) -> int:
    """Write a run's report."""
    from kd.reports import report as reports  # imports Plotly, which is slow

    run = finding.find(given.stored)
    if not reports.offered(run):
        raise UserError(f"{run.name} has no report; choose a run of the command distil or teacher.")
    path = files.target(given, f"{run.id}-report.html")
    content = reports.page(run, comparison.stored(run)).encode()
    files.write(path, content, given.force)
    result = {"run": run.id, "file": str(path), "bytes": len(content)}
    print(json.dumps(result) if given.json else f"{path}: {len(content) / 1e6:,.1f} MB")
    return 0


def delete(given: argparse.Namespace) -> int:
    """Delete a run, after asking."""
    run = finding.find(given.stored)
    if not given.yes and not _agreed(run):
        say("nothing was deleted")
        return 1
    runs.remove(run)
    print(json.dumps({"deleted": run.id, "name": run.name}) if given.json else f"{run.name} was deleted.")
    return 0


def _agreed(run: runs.Run) -> bool:
    """Ask on the console whether to delete the run."""
    if sys.stdin is None or not sys.stdin.isatty():
        raise UserError("Nobody can be asked here whether to delete the run; add --yes to delete it.")
    pinned = " It is pinned." if run.pinned else ""
    owned = " A visitor of the app made it." if run.owner else ""
    print(
        f"kd: Delete {run.name} ({run.id}) and its weights? This cannot be undone.{pinned}{owned} [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")
