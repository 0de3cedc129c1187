"""The lab's figures, as plain dicts like those of kd.figures.base."""

from kd.figures.lab.accuracy import BUDGET_LINES, label_budget, severity, wrong_labels
from kd.figures.lab.networks import DIGIT_COLOURS, feature_map, weights
from kd.figures.lab.soft_targets import class_heat_map, entropy_curve, recall_bars
from kd.figures.lab.training import TAUGHT, fidelity, gradient_ratio, reliability, wrong_shares

__all__ = [
    "BUDGET_LINES",
    "DIGIT_COLOURS",
    "TAUGHT",
    "class_heat_map",
    "entropy_curve",
    "feature_map",
    "fidelity",
    "gradient_ratio",
    "label_budget",
    "recall_bars",
    "reliability",
    "severity",
    "weights",
    "wrong_labels",
    "wrong_shares",
]
