"""The Optuna journal of a search: where it is kept, its trials and the importance of the settings."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

from kd import paths
from kd.config.search import SearchConfig
from kd.data.digits import Mnist
from kd.errors import UserError
from kd.store import checkpoints, runs

RANDOM = 8  # first trials that are drawn at random, before there is enough to learn from
STALE = 2.0  # seconds after which the journal's lock is taken for left over
PATIENCE = 1  # epochs of a trial before it may be pruned


def folder(config: SearchConfig, mnist: Mnist, teacher: Any) -> Path:
    """Return the folder of a search, named by everything its trials depend on but not by their number."""
    key = json.dumps([config.replace(trials=1).to_dict(), mnist.digest, teacher.digest], sort_keys=True)
    return paths.home() / "searches" / hashlib.sha256(key.encode()).hexdigest()[:16]


def claim(keeper: checkpoints.Keeper) -> None:
    """Claim a search for this process.

    Raises:
        UserError: it runs elsewhere.
    """
    try:
        keeper.claim()
    except UserError as error:
        if str(error) != checkpoints.ELSEWHERE:
            raise
        raise UserError(
            "This search is already in training elsewhere: started by somebody else here, in another "
            "server or from the command line. Wait for it, or change a setting, such as the seed."
        ) from None


def open_study(at: Path) -> Any:
    """Open the Optuna study in a folder, or create it. Only the process that claimed the search may.

    Raises:
        UserError: it is damaged, it cannot be read or written, or a process that ended left it locked.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    pruner = optuna.pruners.MedianPruner(n_startup_trials=RANDOM // 2, n_warmup_steps=PATIENCE)
    path = at / "study.journal"
    try:
        with open(path, "ab"):
            pass  # a folder that cannot be written to is reported as such, not as one without symbolic links
        _wait_for_lock(path.with_name(f"{path.name}.lock"))
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), _lock(path)))
        return optuna.create_study(
            storage=storage, study_name="search", direction="maximize", pruner=pruner, load_if_exists=True
        )
    except OSError as error:
        raise UserError(runs.cannot_save(error, "The search", " and try again")) from None
    except (ValueError, KeyError) as error:
        raise UserError(
            f"The search in {at} is damaged ({error}). Delete that folder to start again."
        ) from None


def _lock(path: Path) -> Any:
    """Return Optuna's lock by a symbolic link, or by an exclusive file where there are no such links."""
    from optuna.storages.journal import JournalFileOpenLock, JournalFileSymlinkLock

    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        os.symlink(path.name, probe)
        probe.unlink()
        return JournalFileSymlinkLock(str(path))
    except (OSError, NotImplementedError):  # FAT, and Windows without developer mode
        return JournalFileOpenLock(str(path))


def _wait_for_lock(lock: Path) -> None:
    """Wait until Optuna's lock is released, which takes milliseconds.

    Raises:
        UserError: it is not. Optuna would wait for half a minute without a word.
    """
    until = time.monotonic() + STALE
    while os.path.lexists(lock):
        if time.monotonic() > until:
            raise UserError(
                f"The search is locked by {lock}, left behind by a process that was killed. "
                "Delete that file and start the search again."
            )
        time.sleep(0.05)


def ended(study: Any) -> list[Any]:
    """Return the trials that were completed or pruned."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])


def complete(study: Any) -> list[Any]:
    """Return the trials that were completed."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def importances(study: Any) -> dict[str, float]:
    """Return the fraction of the variance of validation accuracy that each setting explains.

    Only complete trials count; empty if there are too few. Source: Hutter, Hoos & Leyton-Brown 2014
    (fANOVA).
    """
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    try:
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
        return {name: float(share) for name, share in shares.items()}
    except (ValueError, RuntimeError):
        return {}
