"""Named starting points for a distillation."""

from __future__ import annotations

from typing import Any

#: Named starting points. Only what differs from the defaults is listed.
PRESETS: dict[str, dict[str, Any]] = {
    "Quick look": {},
    "Hinton 2015": {
        "student": "mlp-800x2",
        "temperature": 20.0,
        "soft_weight": 1.0,
        "epochs": 20,
        "learning_rate": 2e-3,
    },
    "Tiny student": {"student": "mlp-30", "temperature": 3.0, "epochs": 10},
    "Hard labels only": {"soft_weight": 0.0, "temperature": 1.0},
    "Where to look": {"method": "attention", "student": "cnn-tiny", "labels": 100},
    "Relations alone": {"method": "pkt", "soft_weight": 0.0, "labels": 100},
}
