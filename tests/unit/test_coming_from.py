"""The page for users of other libraries: its code gives their losses, by independent formulas."""

import ast
import re
import shlex

import pytest
import torch

from kd import paths
from kd.cli.main import parser
from kd.objectives import METHODS

PAGE = (paths.ROOT / "docs" / "coming-from.md").read_text()
SETUP, *BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"```bash\nkd (.*?)\n```", PAGE)


# -- the libraries' formulas, from probabilities -----------------------------------------------


def probabilities(logits, temperature):
    powers = torch.exp(logits / temperature)
    return powers / powers.sum(1, keepdim=True)


def divergences(first, second):
    """Return KL(first || second) of each row."""
    return (first * torch.log(first / second)).sum(1)


def forward_kl(student, teacher, temperature):
    return divergences(probabilities(teacher, temperature), probabilities(student, temperature))


def label_losses(student, labels):
    return -torch.log(probabilities(student, 1)[range(len(labels)), labels])


def keras(student, teacher, labels, alpha, temperature, power=2):
    distillation = forward_kl(student, teacher, temperature).mean() * temperature**power
    return alpha * label_losses(student, labels).mean() + (1 - alpha) * distillation


def keras_without_t2(student, teacher, labels, alpha, temperature):
    return keras(student, teacher, labels, alpha, temperature, power=0)


def keras_distiller(student, teacher, labels, student_loss_weight, temperature):
    return keras(student, teacher, labels, student_loss_weight, temperature)


def torchdistill(student, teacher, labels, alpha, temperature, beta=None, reduction="batchmean"):
    soft, hard = forward_kl(student, teacher, temperature), label_losses(student, labels)
    soft, hard = {
        "batchmean": (soft.sum() / len(soft), hard.mean()),
        "mean": (soft.sum() / student.numel(), hard.mean()),
        "sum": (soft.sum(), hard.sum()),
    }[reduction]
    if alpha == 0:
        return soft
    return alpha * hard + (1 - alpha if beta is None else beta) * temperature**2 * soft


def torchdistill_alpha_0(student, teacher, labels, temperature):
    return torchdistill(student, teacher, labels, 0, temperature)


def torchdistill_mean(student, teacher, labels, alpha, temperature, classes):
    assert classes == student.shape[1]
    return torchdistill(student, teacher, labels, alpha, temperature, reduction="mean")


def torchdistill_sum(student, teacher, labels, alpha, temperature, classes):
    return torchdistill(student, teacher, labels, alpha, temperature, reduction="sum")


def pytorch(student, teacher, labels, T, soft_target_loss_weight, ce_loss_weight):
    soft = forward_kl(student, teacher, T).sum() / len(student) * T**2
    return soft_target_loss_weight * soft + ce_loss_weight * label_losses(student, labels).mean()


def pytorch_first(student, teacher, labels, T, soft_target_loss_weight, ce_loss_weight):
    cross = -(probabilities(teacher, T) * torch.log(probabilities(student, T))).sum() / len(student)
    return soft_target_loss_weight * cross * T**2 + ce_loss_weight * label_losses(student, labels).mean()


def trl(student, teacher, labels, beta, temperature):
    ours, theirs = probabilities(student, temperature), probabilities(teacher, temperature)
    if beta in (0, 1):
        return (divergences(ours, theirs) if beta else divergences(theirs, ours)).mean()
    mixture = beta * theirs + (1 - beta) * ours
    return (beta * divergences(theirs, mixture) + (1 - beta) * divergences(ours, mixture)).mean()


def trl_beta_0(student, teacher, labels, temperature):
    return trl(student, teacher, labels, 0, temperature)


def trl_beta_1(student, teacher, labels, temperature):
    return trl(student, teacher, labels, 1, temperature)


#: By the name that the page gives the loss: its formula, and settings other than the page's.
LIBRARIES = {
    "keras_example": (keras, {"alpha": 0.35, "temperature": 3.5}),
    "keras_without_t2": (keras_without_t2, {"alpha": 0.35, "temperature": 3.5}),
    "keras_distiller": (keras_distiller, {"student_loss_weight": 0.2, "temperature": 1.5}),
    "torchdistill": (torchdistill, {"alpha": 0.3, "temperature": 2.5}),
    "torchdistill_beta": (torchdistill, {"alpha": 0.3, "beta": 1.9, "temperature": 2.5}),
    "torchdistill_alpha_0": (torchdistill_alpha_0, {"temperature": 2.5}),
    "torchdistill_mean": (torchdistill_mean, {"alpha": 0.3, "temperature": 2.5}),
    "torchdistill_sum": (torchdistill_sum, {"alpha": 0.3, "temperature": 2.5}),
    "pytorch_tutorial": (pytorch, {"T": 3.5, "soft_target_loss_weight": 0.6, "ce_loss_weight": 1.7}),
    "pytorch_first_edition": (
        pytorch_first,
        {"T": 3.5, "soft_target_loss_weight": 0.6, "ce_loss_weight": 1.7},
    ),
    "trl": (trl, {"beta": 0.15, "temperature": 2.5}),
    "trl_beta_0": (trl_beta_0, {"temperature": 2.5}),
    "trl_beta_1": (trl_beta_1, {"temperature": 2.5}),
}


# -- the page's code ---------------------------------------------------------------------------


def assigned(statement):
    """Return the names that an assignment sets."""
    return [
        node.id for target in statement.targets for node in ast.walk(target) if isinstance(node, ast.Name)
    ]


def losses_of(block):
    """Return the names in a block that are a library's loss."""
    return [name for line in ast.parse(block).body for name in assigned(line) if name in LIBRARIES]


CASES = [(name, block) for block in BLOCKS for name in losses_of(block)]


def page_names():
    """Run the page's first block, and give it other logits in double precision."""
    names = {}
    exec(SETUP, names)
    generator = torch.Generator().manual_seed(5)
    normal = torch.randn(2, 7, 10, generator=generator, dtype=torch.float64)
    names["student"], names["teacher"] = (2 * normal[0]).requires_grad_(), 3 * normal[1]
    names["labels"] = torch.tensor([3, 0, 9, 3, 5, 7, 1])
    return names


def run_block(block, names, others=None):
    """Run a block, whose first line sets its settings; return them with ``others`` replaced."""
    first, *rest = ast.parse(block).body
    exec(compile(ast.Module([first], []), "page", "exec"), names)
    names.update(others or {})
    exec(compile(ast.Module(rest, []), "page", "exec"), names)
    return {name: names[name] for name in assigned(first)}


def assert_same(loss, expected, student):
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    (gradient,), (right,) = (torch.autograd.grad(value, student) for value in (loss, expected))
    assert right.abs().max() > 1e-4
    torch.testing.assert_close(gradient, right, rtol=1e-9, atol=1e-12)


def test_page_names_each_library_loss_once():
    assert sorted(name for name, _ in CASES) == sorted(LIBRARIES)
    assert all(losses_of(block) for block in BLOCKS)


def test_page_setup_runs_as_written():
    names = {}
    exec(SETUP, names)
    for block in BLOCKS:
        run_block(block, names)
        assert all(names[name].item() > 0 for name in losses_of(block))


@pytest.mark.parametrize("own", [True, False], ids=["written", "other"])
@pytest.mark.parametrize(("name", "block"), CASES, ids=[name for name, _ in CASES])
def test_page_line_gives_the_library_loss(name, block, own):
    formula, others = LIBRARIES[name]
    names = page_names()
    settings = run_block(block, names, {} if own else others)
    expected = formula(names["student"], names["teacher"], names["labels"], **settings)
    assert_same(names[name], expected, names["student"])


#: By library, in the page's order: the loss that its command trains with, and its share of ours.
TRAINED = {"keras_example": 1, "torchdistill": 1, "pytorch_tutorial": 1, "trl": 1 / 4}


def test_page_has_a_command_for_each_library():
    assert len(COMMANDS) == len(TRAINED)


@pytest.mark.parametrize(("name", "command"), list(zip(TRAINED, COMMANDS)), ids=TRAINED)
def test_page_command_trains_with_the_library_loss(name, command):
    given = parser().parse_args(shlex.split(command))
    config = given.kind.config.from_arguments(given)
    names = page_names()
    settings = run_block(dict(CASES)[name], names)
    ours = {key: getattr(config, key) for key in METHODS[config.method].settings}
    loss = TRAINED[name] * names["ours"](config.method, **ours)
    formula, _ = LIBRARIES[name]
    expected = formula(names["student"], names["teacher"], names["labels"], **settings)
    assert_same(loss, expected, names["student"])


def test_page_conversion_of_an_old_keras_weight_is_right():
    (quoted,) = re.findall(r"a soft weight of (0\.\d+)", " ".join(PAGE.split()))
    assert float(quoted) == pytest.approx(0.009 / 0.109, abs=0.005)


@pytest.mark.parametrize("place", ["README.md", "docs/methods.md", "docs/user-guide.md"])
def test_page_is_linked(place):
    assert "coming-from.md)" in (paths.ROOT / place).read_text()
