"""The Optuna journal of a search: where it is kept, its trials and the importance of the settings."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from kd import paths
from kd.config.search import SearchConfig
from kd.data.digits import Mnist
from kd.errors import UserError
from kd.store import checkpoints

RANDOM = 8  # first trials that are drawn at random, before there is enough to learn from
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
    """Open the Optuna study in a folder, or create it.

    Raises:
        UserError: it is damaged.
    """

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
            f"The search in {at} is damaged ({error}). Delete that folder to start again."
        ) from None


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
