"""The Dockerfile refers to files and settings that exist. Nothing is built here."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINES = [
    line
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
COPIED = [source for line in LINES if line.startswith("COPY ") for source in line.split()[1:-1]]


def test_copied_files_exist_and_are_not_ignored():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert set(COPIED) == allowed and all((ROOT / source).exists() for source in COPIED)


def test_everything_the_app_reads_is_copied():
    outside = set(
        re.findall(r'\bROOT / "([\w.]+)"', "".join(path.read_text() for path in (ROOT / "kd").rglob("*.py")))
    )
    assert outside >= {"runs"}, "the pattern finds what it looks for"
    assert {"app.py", "kd", "pages", ".streamlit", "requirements.txt"} | outside <= set(COPIED) | {"runs"}


def test_image_runs_unprivileged_with_volume_and_health_check():
    instructions = [line.split()[0] for line in LINES]
    user = next(i for i, line in enumerate(LINES) if line.startswith("USER "))
    assert LINES[user].split()[1] not in ("root", "0") and instructions.index("CMD") > user
    assert "VOLUME /data" in LINES and any(
        "/_stcore/health" in line for line in LINES if line.startswith("HEALTHCHECK")
    )
    environment = " ".join(line for line in LINES if line.startswith("ENV "))
    source = "".join(path.read_text() for path in (ROOT / "kd").rglob("*.py"))
    for name in re.findall(r"\b(KD_\w+)=", environment):
        assert f'"{name}"' in source, f"{name} is read somewhere"


@pytest.mark.parametrize(
    "name", ["KD_PRESENTER_PASSWORD", "KD_MAX_RUNS", "KD_MAX_BYTES", "KD_HOME", "KD_CACHE_DIR", "KD_DATA_DIR"]
)
def test_serving_page_documents_each_setting(name):
    assert name in (ROOT / "docs" / "serving.md").read_text()
