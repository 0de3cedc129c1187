"""The claims of pages, tested by trainings at small scale."""

from kd.config.distil import DistilConfig
from kd.experiments.distil import Distillation
from kd.lab import never_saw
from kd.metrics import classification
from kd.models import inference
from kd.teachers import catalogue


def test_student_recognizes_a_digit_it_never_saw(sample):
    """Check the page's claim at small scale: 4,000 images without a 3, soft targets alone."""
    config = never_saw.recipe("mlp-128", "3", 0).replace(epochs=12, batch_size=64)
    run = Distillation(config, sample, catalogue.load("cnn"))
    assert not (run.transfer.train.labels == 3).any()
    for _ in run.records():
        pass
    logits = {
        role: inference.logits_in_chunks(model, sample.validation.inputs(), 512)
        for role, model in run.trained.items()
    }
    labels = sample.validation.labels
    assert never_saw.recall(logits["control"], labels)[3] == 0
    moved = {role: outputs + never_saw.by_frequency(outputs, "3") for role, outputs in logits.items()}
    student, control = (never_saw.recall(moved[role], labels)[3].item() for role in ("student", "control"))
    print(f"recall of the 3 with the offset: student {student:.2f}, control {control:.2f}")
    assert student > 0.6 and student > control + 0.15


def test_accurate_student_still_differs_from_its_teacher(sample):
    """Fidelity is not accuracy: the student disagrees with the teacher more often than the teacher errs."""
    cnn = catalogue.load("cnn")
    run = Distillation(DistilConfig(epochs=10, batch_size=64, soft_weight=1.0), sample, cnn)
    for _ in run.records():
        pass
    digits = sample.test
    outputs = {
        role: inference.logits_in_chunks(model, digits.inputs(), 512)
        for role, model in {"teacher": cnn.model, **run.trained}.items()
    }
    wrong = {
        role: (logits.argmax(1) != digits.labels).float().mean().item() for role, logits in outputs.items()
    }
    unlike = 1 - classification.fidelity(outputs["student"], outputs["teacher"])["agreement"]
    assert wrong["student"] < wrong["control"] and unlike > 3 * wrong["teacher"], (wrong, unlike)
