"""The text in code, documents and tests is plain English."""

import ast
import re
from pathlib import Path

import pytest

from kd import paths

CODE = [
    path for folder in ("kd", "pages", "tests", "benchmarks") for path in (paths.ROOT / folder).rglob("*.py")
]
TEXTS = [*CODE, *paths.ROOT.glob("*.md"), *(paths.ROOT / "docs").rglob("*.md")]
HERE = Path(__file__)

#: Phrases that must not come back, as regular expressions; each with a sentence that it must find.
PHRASES = {
    r"who only watches": "Who only watches costs a file.",
    r"what (it|they) came to": "What they came to is stored.",
    r"(those )?that none beats": "the picture with those that none beats",
    r"(went|goes|go) out of bounds": "The loss went out of bounds.",
    r"(which )?is no number": "which is no number of at least 1",
    r"share right": "the share right of the images",
    r"reads? [\d.]+% right|reads? right": "the student reads 97% right",
    r"says? least": "those that say least",
    r"gone on (from|with)": "cannot be gone on from",
    r"of whom": "of whom it learned",
    r"the very student": "the very student that was trained",
    r"\bby hand\.": "Stopped by hand.",
    r"is told (once|of)\b": "It is told once.",
    r'"""Sees that': '"""Sees that it fits."""',
    r"Takes up\b": "Takes up the changes.",
    r"(was|were) written out": "The losses were written out.",
    r"beside the labels": "beside the labels the teacher",
    r"is held against": "the network that it is held against",
    r"hears of\b": "The page hears of it.",
    r"(multiplications|milliseconds|bytes|numbers|values|ms|µs) an image": "425 µs an image",
    r"(MB|minutes|seconds) a run\b": "2 MB a run",
    r"so manieth": "the so manieth step",
    r"no more to be guessed": "no more to be guessed than an id",
    r"the digits alike": "labels, the digits alike",
    r"to its best\b": "trained to its best",
    r"brings along": "what it brings along",
    r"\bon show\b": "the run on show",
    r"\b(none|empty|nothing) where\b": "None where it is not valid",
    r"drawn anew": "whether the page is to be drawn anew",
    r"with commas between": "numbers with commas between them",
    r"all have one\b": "0: all have one.",
}


@pytest.mark.parametrize("phrase", PHRASES)
def test_phrase_pattern_finds_its_example(phrase):
    assert re.search(phrase, PHRASES[phrase], re.IGNORECASE)


@pytest.mark.parametrize("phrase", PHRASES)
def test_text_avoids_phrase(phrase):
    found = [
        f"{path.relative_to(paths.ROOT)}:{number}: {line.strip()[:80]}"
        for path in TEXTS
        if path != HERE
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(phrase, line, re.IGNORECASE)
    ]
    assert not found


def documented(tree: ast.AST) -> list[str]:
    """Return all docstrings of a module."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [text for node in ast.walk(tree) if isinstance(node, kinds) if (text := ast.get_docstring(node))]


def test_docstrings_start_with_no_relative_clause():
    wrong = [
        f"{path.relative_to(paths.ROOT)}: {text.splitlines()[0]}"
        for path in CODE
        for text in documented(ast.parse(path.read_text()))
        if re.match(r"(Who|What|Whose)\b", text)
    ]
    assert not wrong


def test_test_names_are_short():
    names = [
        f"{path.relative_to(paths.ROOT)}: {node.name}"
        for path in (paths.ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and len(node.name) > 60
    ]
    assert not names


def test_paths_named_in_documents_exist():
    named = {
        (document.name, path)
        for document in [*paths.ROOT.glob("*.md"), *(paths.ROOT / "docs").glob("*.md")]
        if document.name != "CHANGELOG.md"
        for path in re.findall(r"`((?:kd|tests|pages|docs|benchmarks)/[\w./*-]*)`", document.read_text())
    }
    assert len(named) > 30
    assert not {(name, path) for name, path in named if not list(paths.ROOT.glob(path.rstrip("/")))}
