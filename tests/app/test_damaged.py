"""Problems under an open page give a sentence; no page ever shows an exception."""

import shutil

import pytest

from kd.config.distil import DistilConfig
from kd.experiments.distil import Distillation
from kd.store import runs
from kd.teachers import catalogue
from kd.ui.shell import shared
from tests.apps import TOKEN, said

pytestmark = pytest.mark.app
PAGES = [None, "draw", "dark_knowledge", "compress"]


@pytest.fixture
def stored(app, mnist):
    """Return a finished run of this visitor."""
    config = DistilConfig(student="mlp-30", epochs=1)
    experiment = Distillation(config, mnist, shared.manager().teacher("cnn"))
    rows, last = [], None
    for last in experiment.records():
        rows.append(last.row())
    return runs.save(
        runs.new_id(),
        config,
        "done",
        rows,
        experiment.trained,
        experiment.measures(last),
        runs.owner_digest(TOKEN),
    )


def damaged_metrics(run):
    (run.folder / "metrics.csv").write_text("step,epoch\n1,nan\n")


def damaged_measures(run):
    (run.folder / "measures.json").write_text('{"models": {"student": {"test_accuracy": NaN}}}')


def all_gone(run):
    shutil.rmtree(run.folder)


DAMAGES = [damaged_metrics, damaged_measures, all_gone]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_page_survives_a_run_damaged_or_deleted_meanwhile(app, stored, damage):
    at = app(None, run=stored.id)
    assert not at.exception and "gone" not in said(at)
    damage(stored)
    at.run()
    assert not at.exception
    told = said(at)
    for page in ("draw", "runs", "compare"):
        other = app(page, run=stored.id)
        assert not other.exception, page
        told += said(other)
    assert "no longer there" in told if damage is all_gone else "damaged" in told or "missing" in told


@pytest.mark.parametrize("whole", [["vit"], []], ids=["one is left", "none is left"])
def test_damaged_teacher_is_named_and_every_page_opens(app, monkeypatch, tmp_path, whole):
    folder = tmp_path / "weights"
    shutil.copytree(catalogue.WEIGHTS, folder)
    for path in folder.glob("*.safetensors"):
        if "." not in path.stem and path.stem not in whole:
            path.write_bytes(path.read_bytes()[:1000])
    monkeypatch.setattr(catalogue, "WEIGHTS", folder)
    for page in PAGES:
        at = app(page)
        assert not at.exception, page
        assert "cnn.safetensors is damaged and cannot be read; restore it" in said(at), page
    at = app(None, mode="teacher")
    assert not at.exception and not at.error, "a teacher can still be trained"


@pytest.mark.parametrize(
    "page, query",
    [
        (None, {"student": "mlp-1", "schedule": "1:temperature=2;" * 1001}),
        (None, {"student": "vit_rank-50"}),
        ("dark_knowledge", {"panel": "<b>", "run": "../x", "lab_run": "/etc/passwd", "drawn": "x" * 3000}),
        ("compress", {"network": "../x", "teacher": "+".join(["cnn"] * 200)}),
    ],
)
def test_no_address_makes_a_page_fail(app, page, query):
    """Try some made-up addresses. tests/stage/pages.py has many more."""
    assert not app(page, **query).exception


def test_pages_accept_a_stopped_chain_without_a_student(app, mnist):
    config = DistilConfig(student="mlp-30", epochs=2, scheme="born-again", generations=1)
    experiment = Distillation(config, mnist, shared.manager().teacher("cnn"))
    last = next(experiment.records())
    run = runs.save(
        runs.new_id(),
        config,
        "stopped",
        [last.row()],
        experiment.trained,
        experiment.measures(last),
        runs.owner_digest(TOKEN),
        message="Ended.",
    )
    assert runs.load(run.id).models == ("control",)
    assert all(not app(page, run=run.id).exception for page in ("runs", "compare"))
    at = app(None, run=run.id)
    assert not at.exception and "Ended." in said(at)
