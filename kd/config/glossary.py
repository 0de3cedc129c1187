"""The glossary: one or two sentences per term, for docs/glossary.md and the help of settings and columns."""

from __future__ import annotations

TERMS: dict[str, str] = {
    "teacher": (
        "The large trained network that the student learns from. It does not change during distillation."
    ),
    "student": "The small network that is trained to match the teacher.",
    "control": (
        "The same network as the student, with the same initial weights and the same batches, trained on the "
        "labels alone. The difference between student and control is what the teacher adds."
    ),
    "soft targets": (
        "The teacher's probabilities for all classes, used as the target in place of a label. They also say "
        "which wrong classes are plausible."
    ),
    "temperature": (
        "Divides the logits before the softmax. At 1 the teacher's probabilities are nearly one-hot; a "
        "higher temperature shows which other classes it considers."
    ),
    "soft weight": (
        "The share of the loss that comes from matching the teacher; the rest is the cross-entropy with the "
        "labels. 0 ignores the teacher, 1 ignores the labels."
    ),
    "transfer set": (
        "The images that the student is trained on. They need not have labels, because the teacher's outputs "
        "are the targets."
    ),
    "method": (
        "What the student matches: the teacher's probabilities, its hidden layers, or relations between "
        "images."
    ),
    "scheme": (
        "Which network teaches which, and in what order: the teacher, an assistant in between, earlier "
        "copies of the student, or two students together."
    ),
    "run": "One training with its settings, metrics, weights and results, stored in a folder of its own.",
    "record": (
        "The state of a training at one step: loss terms, accuracies, time and speed. The charts draw "
        "records."
    ),
    "sweep": "Many trainings, one for each combination of chosen settings, shown as a heat map.",
    "checkpoint": (
        "The full state of an unfinished training on disk: weights, optimizer, random numbers and position. "
        "Resuming from it gives the same weights as never having stopped."
    ),
    "fidelity": (
        "How closely a student's outputs follow its teacher's: the share of images on which both predict the "
        "same class, and the KL divergence between their probabilities. It is not accuracy."
    ),
    "ECE": (
        "Expected calibration error: the average difference between confidence and accuracy over bins of "
        "confidence. 0 means that 80% confidence is correct 80% of the time."
    ),
    "Pareto front": (
        "The networks for which no other network is both at least as accurate and at least as fast."
    ),
}


def markdown() -> str:
    """Return the content of docs/glossary.md."""
    entries = "\n".join(f"- **{term}**: {meaning}" for term, meaning in TERMS.items())
    about = "The help of settings and columns uses the same sentences (`kd/config/glossary.py`)."
    return f"# Glossary\n\n{about}\n\n{entries}\n"
