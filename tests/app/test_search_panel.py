"""The searches on the Sweep page in Streamlit's test harness."""

import json

import pytest

from kd import paths
from kd.store import runs
from kd.sweeps import search_results
from kd.ui.shell import session_keys, shared
from tests.apps import TOKEN, ended, query, said
from tests.helpers import wait_until

pytestmark = pytest.mark.app


def made(seed: int, trials: int) -> dict:
    """Return a stored search of a few trials, as search.search() stores it."""
    params = {"method": "hinton", "temperature": 3.2, "soft_weight": 0.9, "learning_rate": 0.004}
    tried = [
        {
            "number": i,
            "state": "pruned" if i == 1 else "complete",
            "value": 0.9 + i / 100,
            "params": params,
            "epochs": {},
            "control": 0.9,
        }
        for i in range(trials)
    ]
    errors = {
        "student": {"test_errors": 31},
        "control": {"test_errors": 35},
        "tuned control": {"test_errors": 33},
    }
    return {
        "command": f"python -m kd search --trials {trials} --seed {seed}",
        "machine": "2 cores",
        "config": {"student": "mlp-30", "seed": seed},
        "source": "full",
        "run": "",
        "best": params | {"validation_accuracy": 0.93},
        "tuned_control": {"learning_rate": 0.01, "run": ""},
        "models": errors,
        "test_images": 10_000,
        "importances": {"learning_rate": 0.7, "temperature": 0.3},
        "trials": tried,
    }


SMALL = {
    "way": "search",
    "student": "mlp-30",
    "methods": "hinton,mse",
    "trials": "4",
    "epochs": "1",
    "batch_size": "250",
}


def test_best_trial_of_a_search_opens_on_the_distil_page(app):
    at = app("sweep", **SMALL)
    assert not at.exception and "**Up to 4 trials** of 1 epoch" in said(at) and "at most about" in said(at)
    at.button(key="search_start").click().run()
    id = ended(at, session_keys.SEARCH_RUN, 120)
    at.run()
    run = runs.load(id)
    found = run.measures["search"]
    assert (
        not at.exception
        and (run.kind, run.state, run.models) == ("search", "done", ())
        and run.owner == runs.owner_digest(TOKEN)
    )
    assert f"it makes {found['models']['student']['test_errors']} errors" in said(at)
    assert {"way": "search", "run": id, "trials": "4"}.items() <= query(at).items()
    at.button(key="search_open").click().run()
    assert (
        not at.exception
        and at.session_state[session_keys.RUN] == found["run"]
        and query(at)["run"] == found["run"]
    )
    assert runs.load(found["run"]).owner == runs.owner_digest(TOKEN), "the best is the visitor's own"
    assert [metric.value for metric in at.metric][1] == f"{found['models']['student']['test_accuracy']:.2%}"
    listed = app("runs")
    assert not listed.exception and "search of 4 trials, mlp-30" in str(listed.dataframe[0].value)
    name = next(name for name in listed.selectbox(key="run_choice").options if name.startswith("search of"))
    listed.selectbox(key="run_choice").set_value(id).run()
    assert not listed.exception, name
    listed.button(key="open").click().run()
    assert (
        not listed.exception
        and listed.session_state[session_keys.WAY] == "search"
        and query(listed)["run"] == id
    )
    # A link to it needs no more than its id.
    shared = app("sweep", run=id)
    assert (
        not shared.exception
        and shared.session_state[session_keys.WAY] == "search"
        and shared.session_state[session_keys.SEARCH]["methods"] == "hinton,mse"
    )


def test_stopped_search_never_reads_a_test_image(app):
    at = app("sweep", **SMALL | {"trials": "20", "epochs": "20"})
    at.button(key="search_start").click().run()
    id = at.session_state[session_keys.SEARCH_RUN]
    wait_until(lambda: shared.manager().snapshot(id, TOKEN).rows)
    at.run()
    at.button(key="search_pause").click().run()
    wait_until(lambda: shared.manager().snapshot(id, TOKEN).state == "paused")
    at.run()
    assert "Trial 1 of 20" in said(at) and not at.exception
    at.button(key="search_resume").click().run()
    wait_until(lambda: shared.manager().snapshot(id, TOKEN).rows[-1]["trial"] >= 1, seconds=120)
    at.run()
    at.button(key="search_stop").click().run()
    ended(at, session_keys.SEARCH_RUN, 120)
    at.run()
    found = runs.load(id).measures["search"]
    assert not at.exception and runs.load(id).state == "stopped" and found["trials"] and "models" not in found
    assert "test images are read when the search has ended" in said(at)
    at.button(key="search_open").click().run()
    assert not at.exception and at.session_state[session_keys.SETTINGS]["distil"][
        "learning_rate"
    ] == pytest.approx(found["best"]["learning_rate"])


@pytest.mark.parametrize(
    "wrong, told",
    [
        (
            {"trials": "101"},
            "A search that is started here can have at most 100 trials, "
            "not 101; the command line, python -m kd search, has no such limit.",
        ),
        (
            {"trials": "100", "epochs": "11"},
            "100 trials of 11 epochs are 1,100 epochs, "
            "and a search that is started here can have at most 1,000",
        ),
        ({"methods": "hinton,attention"}, "compares feature maps"),
    ],
)
def test_invalid_search_gives_a_sentence(app, wrong, told):
    at = app("sweep", **SMALL | wrong)
    assert not at.exception and told in " ".join(error.value.replace("\\", "") for error in at.error)
    if "methods" not in wrong:  # else the defaults are shown
        assert at.button(key="search_start").disabled


def test_grid_and_search_share_one_page(app):
    at = app("sweep")
    assert at.segmented_control(key=session_keys.WAY_WIDGET).value == "sweep" and not any(
        button.key == "search_start" for button in at.button
    )
    at.segmented_control(key=session_keys.WAY_WIDGET).set_value("search").run()
    assert not at.exception and at.button(key="search_start") and query(at) == {"way": "search"}
    at.segmented_control(key=session_keys.WAY_WIDGET).set_value("sweep").run()
    assert not at.exception and at.button(key="grid_start") and query(at) == {}


def test_stored_searches_can_be_chosen(app, tmp_path):
    for seed, trials in ((0, 3), (1, 4)):
        folder = paths.home() / "searches" / str(seed)
        folder.mkdir(parents=True)
        (folder / "result.json").write_text(json.dumps(made(seed, trials)))
    (paths.home() / "searches" / "damaged").mkdir()
    (paths.home() / "searches" / "damaged" / "result.json").write_text("{")
    at = app("sweep", way="search")
    assert not at.exception and "it makes 31 errors; its control, with the same settings, 35" in said(at)
    box = at.selectbox(key="search_chosen")
    assert len(box.options) == 2
    box.set_value("python -m kd search --trials 4 --seed 1").run()
    assert not at.exception and "The best of 4 trials (1 stopped early)" in said(at)
    box.set_value("python -m kd search --trials 3 --seed 0").run()
    assert not at.exception and "The best of 3 trials (1 stopped early)" in said(at)


def test_page_explains_how_to_start_a_first_search(app, monkeypatch, tmp_path):
    monkeypatch.setattr(search_results, "STORED", tmp_path / "none.json")
    at = app("sweep", way="search")
    assert not at.exception and "python -m kd search --student mlp-30" in said(at)
