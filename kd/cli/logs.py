"""``--tensorboard`` and ``--mlflow``: what the charts show, for other programs, as it arrives.

Neither package is imported unless its option is given. A log that cannot be written any more is
reported once and left; the training goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from kd.cli.output import not_empty, say
from kd.errors import UserError
from kd.experiments.base import Series
from kd.training import clock, distributed
from kd.training.records import every_epoch

EVERY = 1.0  # seconds between the records of a training that is logged
FOREVER = 10**8  # seconds; TensorBoard's own thread never flushes, so that its errors arrive here
#: The measures that TensorBoard's table of settings shows.
COMPARED = ("accuracy/validation", "test/test_accuracy")


class Log(Protocol):
    """A log of one run in another program's format."""

    name: str

    def write(self, series: Series) -> None:
        """Write a point of each of the series' curves; any exception means that it cannot."""

    def close(self) -> None:
        """Finish writing."""


class TensorBoardLog:
    """Writes a folder of event files for each series, so that TensorBoard draws them into one chart.

    Args:
        folder: of the run. If it has a log already, that log is continued.
        settings: of the run.

    Raises:
        UserError: TensorBoard is not installed, or the folder cannot be written to.
    """

    name = "TensorBoard"

    def __init__(self, folder: Path, settings: Mapping[str, Any]):
        try:
            from torch.utils import tensorboard
        except ImportError:
            raise UserError(
                "--tensorboard needs the package TensorBoard. Install it with: pip install tensorboard"
            ) from None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(13, "it is read-only")
        except OSError as error:
            raise UserError(
                f"The log cannot be written to {folder}: {error.strerror or error}. "
                "Give another folder to --tensorboard."
            ) from None
        self._new, self._folder, self._settings = tensorboard.SummaryWriter, folder, settings
        self._open: dict[str, Any] = {}

    def write(self, series: Series) -> None:
        """Write a point of each curve to disk."""
        with _quiet_threads():
            if series.name not in self._open:
                self._open[series.name] = self._begin(series)
            writer = self._open[series.name]
            for measure, value in series.values.items():
                writer.add_scalar(measure, value, series.step)
            writer.flush()
            if series.ended:
                self._open.pop(series.name).close()

    def _begin(self, series: Series) -> Any:
        """Return the writer of a series. Earlier points from its step on are hidden: they come again."""
        from torch.utils.tensorboard.summary import hparams

        folder = self._folder / series.name if series.name else self._folder
        writer: Any = self._new(str(folder), purge_step=series.step, flush_secs=FOREVER)
        if series.name:
            settings = _plain(series.settings or self._settings)
            for summary in hparams(settings, dict.fromkeys(COMPARED, 0.0)):
                writer.file_writer.add_summary(summary)
        return writer

    def close(self) -> None:
        """Close all files."""
        with _quiet_threads():
            while self._open:
                self._open.popitem()[1].close()


class MlflowLog:
    """Writes a run of MLflow, and one inside it for each series with settings of its own.

    Args:
        uri: of the tracking server or database, as MLflow takes it.
        id: of the run. If MLflow has it already, that run is continued.
        settings: of the run.

    Raises:
        UserError: MLflow is not installed, or there is none at this address.
    """

    name = "MLflow"

    def __init__(self, uri: str, id: str, settings: Mapping[str, Any]):
        # By default MLflow would try a server that does not answer for many minutes.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        try:
            from mlflow import entities
            from mlflow.tracking import MlflowClient
        except ImportError:
            raise UserError(
                "--mlflow needs the package MLflow. Install it with: pip install mlflow"
            ) from None
        self._metric, self._settings, self._id = entities.Metric, entities.Param, id
        self._runs: dict[str, tuple[str, int]] = {}  # name of a series -> id of its run, last step before
        try:
            self._client = MlflowClient(tracking_uri=uri)
            experiment = self._client.get_experiment_by_name("kd")
            self._experiment = (
                experiment.experiment_id if experiment else self._client.create_experiment("kd")
            )
            self._run("", settings)
        except Exception as error:
            raise UserError(
                f"MLflow cannot be used at {uri}: {_first_line(error)}. Check the address given to --mlflow."
            ) from None

    def _run(self, name: str, settings: Mapping[str, Any]) -> tuple[str, int]:
        """Return the MLflow run of a series, "" for the whole run, and the last step that it has."""
        if name not in self._runs:
            label = f"{self._id} {name}".strip()
            found = self._client.search_runs([self._experiment], f"tags.`kd.run` = '{label}'")
            if found:
                run = found[0]
                histories = [
                    self._client.get_metric_history(run.info.run_id, key) for key in run.data.metrics
                ]
                last = max((point.step for history in histories for point in history), default=-1)
                self._client.update_run(run.info.run_id, status="RUNNING")
            else:
                tags = {"kd.run": label}
                if name:
                    tags["mlflow.parentRunId"] = self._runs[""][0]
                run = self._client.create_run(self._experiment, tags=tags, run_name=name or self._id)
                params = [self._settings(key, str(value)) for key, value in _plain(settings).items()]
                self._client.log_batch(run.info.run_id, params=params)
                last = -1
            self._runs[name] = run.info.run_id, last
        return self._runs[name]

    def write(self, series: Series) -> None:
        """Send a point of each curve, unless MLflow has it from before the run was stopped."""
        own = bool(series.settings)
        run, last = self._run(series.name if own else "", series.settings)
        if series.step > last:
            now = int(1000 * time.time())
            suffix = f" {series.name}" if series.name and not own else ""
            points = [
                self._metric(measure + suffix, value, now, series.step)
                for measure, value in series.values.items()
            ]
            self._client.log_batch(run, metrics=points)
        if series.ended and own:
            self._client.set_terminated(run)

    def close(self) -> None:
        """Mark the run as ended."""
        self._client.set_terminated(self._runs[""][0])


class Logs:
    """The logs of a run, none or several. Failing to write one never raises."""

    def __init__(self, logs: Iterable[Log] = ()):
        self._logs = list(logs)

    @property
    def due(self) -> Callable[[int], bool]:
        """Return whether to yield a record after a step: about one per second if there is a log."""
        if not self._logs or distributed.rank() is not None:  # several processes must agree on each record
            return every_epoch
        last = clock.now()

        def due(step: int) -> bool:
            nonlocal last
            if clock.now() - last < EVERY:
                return False
            last = clock.now()
            return True

        return due

    def write(self, several: Iterable[Series]) -> None:
        """Write to all logs."""
        points = list(several)

        def write(log: Log) -> None:
            for series in points:
                log.write(series)

        self._each(write)

    def close(self) -> None:
        """Close all logs."""
        self._each(lambda log: log.close())
        self._logs.clear()

    def _each(self, do: Callable[[Log], None]) -> None:
        """Do something with each log, and drop one with which it fails."""
        for log in list(self._logs):
            try:
                do(log)
            except Exception as error:  # of another package: training must go on whatever it is
                self._logs.remove(log)
                say(f"warning: the log for {log.name} ends here: {_first_line(error)}. Training continues.")


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add --tensorboard and --mlflow."""
    command.add_argument(
        "--tensorboard",
        type=not_empty,
        metavar="DIR",
        help="also write the curves to this folder, as training goes on, for tensorboard --logdir DIR",
    )
    command.add_argument(
        "--mlflow",
        type=not_empty,
        metavar="URI",
        help="also send settings and curves to MLflow, as training goes on: http://..., sqlite:///mlflow.db",
    )


def opened(given: argparse.Namespace, id: str, settings: Mapping[str, Any]) -> Logs:
    """Return the logs that were asked for, of the run ``id``.

    Raises:
        UserError: a package is missing, or a log cannot be written.
    """
    logs: list[Log] = []
    if not distributed.rank():
        if given.tensorboard:
            logs.append(TensorBoardLog(Path(given.tensorboard) / id, settings))
        if given.mlflow:
            logs.append(MlflowLog(given.mlflow, id, settings))
    return Logs(logs)


def results(measures: Mapping[str, Any], step: int) -> list[Series]:
    """Return the test scores of a run's networks, as the last points of a log."""
    return [
        Series(name, step, {f"test/{score}": value for score, value in scores.items()})
        for name, scores in measures.get("models", {}).items()
    ]


def _plain(settings: Mapping[str, Any]) -> dict[str, bool | str | float | int]:
    return {
        key: value if isinstance(value, (bool, int, float)) else str(value) for key, value in settings.items()
    }


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200].rstrip(".")


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
    """Print no traceback of TensorBoard's thread: its error is raised where it is called, too."""
    usual = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not type(arguments.thread).__module__.startswith("tensorboard"):
            usual(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = usual
