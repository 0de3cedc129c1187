"""The help of settings and columns uses the glossary's sentences."""

import dataclasses

import pytest

from kd import paths
from kd.config import glossary
from kd.config.glossary import TERMS
from kd.config.kinds import KINDS
from kd.lab.settings import LabSettings
from kd.ui.compare import table

CLASSES = [*(kind.config for kind in KINDS.values()), LabSettings]
SETTINGS = {
    f"{cls.__name__}.{spec.name}": spec.metadata for cls in CLASSES for spec in dataclasses.fields(cls)
}


def term(label):
    """Return the glossary's term that a label names, such as "temperature" for Temperatures; or None."""
    return next((name for name in (label.lower(), label.lower().removesuffix("s")) if name in TERMS), None)


NAMED = {name: term(about["label"]) for name, about in SETTINGS.items() if term(about["label"])}


def test_glossary_page_shows_the_terms_of_the_app():
    assert (paths.ROOT / "docs" / "glossary.md").read_text() == glossary.markdown()


def test_settings_named_like_terms_are_found():
    assert set(NAMED.values()) == {"teacher", "student", "temperature", "soft weight", "method", "scheme"}
    assert {"SweepConfig.soft_weight", "LabSettings.break_temperature", "SearchConfig.methods"} <= set(NAMED)


@pytest.mark.parametrize("name", NAMED)
def test_setting_is_explained_by_the_glossary(name):
    meaning, help = TERMS[NAMED[name]], SETTINGS[name]["help"]
    more = help.removeprefix(meaning)
    assert help.startswith(meaning) and more.count(". ") == 0, "at most one sentence of its own"


@pytest.mark.parametrize("field", ["temperature", "soft_weight", "labels", "seed", "batch_size", "optimizer"])
def test_repeated_setting_is_described_once(field):
    """Sweeps take several values as text and the search's seed fixes more, so they say more."""
    described = {
        tuple(SETTINGS[name][key] for key in ("label", "help", "low", "high", "step", "choices"))
        for name in SETTINGS
        if name.endswith(f".{field}") and name not in ("SearchConfig.seed", f"SweepConfig.{field}")
    }
    assert len(described) == 1


def test_columns_are_explained_by_the_glossary():
    columns = {"control": "control", "agreement": "fidelity", "ECE": "ECE"}
    assert {name: table.COLUMNS[name]["help"] for name in columns} == {
        name: TERMS[term] for name, term in columns.items()
    }
