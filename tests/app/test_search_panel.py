"""The searches on the Sweep page, in Streamlit's own test harness."""

import json

import pytest

from kd import runs
from kd.sweeps import search
from tests.apps import said

pytestmark = pytest.mark.app


def made(seed: int, trials: int) -> dict:
    """What search.search() stores, of few trials."""
    params = {"method": "hinton", "temperature": 3.2, "soft_weight": 0.9, "learning_rate": 0.004}
    tried = [{"number": i, "state": "pruned" if i == 1 else "complete", "value": 0.9 + i / 100, "params": params, "epochs": {}, "control": 0.9} for i in range(trials)]
    errors = {"student": {"test_errors": 31}, "control": {"test_errors": 35}, "tuned control": {"test_errors": 33}}
    return {
        "command": f"python -m kd search --trials {trials} --seed {seed}", "machine": "2 cores", "config": {"student": "mlp-30", "seed": seed}, "source": "full", "run": "",
        "best": params | {"validation_accuracy": 0.93}, "tuned_control": {"learning_rate": 0.01, "run": ""}, "models": errors, "test_images": 10_000,
        "importances": {"learning_rate": 0.7, "temperature": 0.3}, "trials": tried,
    }


def test_searches_are_shown_and_can_be_chosen_among(app, tmp_path):
    for seed, trials in ((0, 3), (1, 4)):
        folder = runs.home() / "searches" / str(seed)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(made(seed, trials)))
    (runs.home() / "searches" / "damaged").mkdir()
    (runs.home() / "searches" / "damaged" / "result.json").write_text("{")
    at = app("sweep")
    assert not at.exception and "it makes 31 errors; its control, with the same settings, 35" in said(at)
    box = at.selectbox(key="search_chosen")
    assert len(box.options) == 2
    box.set_value("python -m kd search --trials 4 --seed 1").run()
    assert not at.exception and "The best of 4 trials (1 given up early)" in said(at)
    box.set_value("python -m kd search --trials 3 --seed 0").run()
    assert not at.exception and "The best of 3 trials (1 given up early)" in said(at)


def test_without_one_the_page_says_how_to_make_it(app, monkeypatch, tmp_path):
    monkeypatch.setattr(search, "STORED", tmp_path / "none.json")
    at = app("sweep")
    assert not at.exception and "python -m kd search --student mlp-30" in said(at)
