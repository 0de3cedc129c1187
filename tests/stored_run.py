"""A stored run for tests of the store: settings, rows, results and file contents."""

from __future__ import annotations

from pathlib import Path

from kd.config.distil import DistilConfig

CONFIG = DistilConfig(student="mlp-30", temperature=7, schedule=((3, "temperature", 2.5),))
ROWS = [
    {
        "step": 4,
        "epoch": 0.4,
        "seconds": 0.1,
        "images_per_second": 4e4,
        "loss student soft": 1 / 3,
        "whole_validation": 0.0,
    },
    {
        "step": 10,
        "epoch": 1.0,
        "seconds": 0.3,
        "images_per_second": 3e4,
        "loss student soft": 0.1,
        "validation student": 2 / 3,
        "whole_validation": 1.0,
    },
]
SCORES = {"test_accuracy": 0.97, "test_errors": 3, "agreement": 0.98}
MEASURES = {
    "seconds": 1.5,
    "test_images": 100,
    "source": "sample",
    "models": {"student": SCORES, "control": SCORES, "teacher": SCORES},
}
STORED = ["config.json", "measures.json", "metrics.csv", "student.safetensors", "control.safetensors"]
OWNER, OTHER = "the owner's token", "another token"


def content(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files under ``folder`` by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
