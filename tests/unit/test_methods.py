"""Properties of every method: its entry in the registry and its objective."""

import pytest
import torch

from kd.config.distil import METHOD_SETTINGS, DistilConfig
from kd.objectives import METHODS, Outputs, hinton

DEFAULTS = {name: DistilConfig.setting(name)["default"] for name in METHOD_SETTINGS}
LABELS = torch.tensor([3, -1, 0, 9, -1, 3, 5, -1])
N = len(LABELS)
every = pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
taught = pytest.mark.parametrize("method", [m for m in METHODS.values() if m.teacher], ids=lambda m: m.name)
looking = pytest.mark.parametrize(
    "method", [m for m in METHODS.values() if m.feature_view], ids=lambda m: m.name
)


def said(seed, count=N, scale=2.0, width=6):
    """Return random logits and features in double precision.

    Features are non-negative, as after a ReLU, with at least one positive value per row.
    """
    random = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count, 10, generator=random, dtype=torch.float64)
    feature = torch.randn(count, width, generator=random, dtype=torch.float64).relu()
    feature[:, 0] += 0.1
    return Outputs(logits, (feature,))


def settings(method, **changes):
    return {name: DEFAULTS[name] for name in method.settings} | changes


def total(terms):
    return sum(terms.values())


def gradients(method, student, teacher, labels=LABELS, **changes):
    """Return the gradients of the loss by the student's logits and features; 0 if independent."""
    leaves = [
        student.logits.clone().requires_grad_(),
        *(feature.clone().requires_grad_() for feature in student.features),
    ]
    loss = total(
        method.objective(Outputs(leaves[0], tuple(leaves[1:])), teacher, labels, settings(method, **changes))
    )
    return loss, torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)


# -- the registry ---------------------------------------------------------------------------


@every
def test_method_describes_itself_and_its_settings(method):
    assert METHODS[method.name] is method and method.title
    assert method.purpose.endswith(".") and "\n" not in method.purpose and len(method.purpose) < 110
    assert method.paper[-4:].isdigit(), "a paper ends with its year"
    assert set(method.settings) <= set(METHOD_SETTINGS) and method.settings
    assert "arXiv" in method.objective.__doc__ or "Hinton" in method.objective.__doc__


@every
def test_method_reads_only_its_own_settings(method):
    class Noted(dict):
        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

    read = set()
    method.objective(said(0), said(1), LABELS, Noted(settings(method)))
    assert read == set(method.settings)


@every
def test_every_setting_changes_the_loss(method):
    before = total(method.objective(said(0), said(1), LABELS, settings(method)))
    for name in method.settings:
        after = total(
            method.objective(said(0), said(1), LABELS, settings(method, **{name: DEFAULTS[name] * 0.8}))
        )
        assert after != before, name


# -- the objectives -----------------------------------------------------------------------


@every
def test_terms_are_finite_repeatable_scalars(method):
    student, teacher, given = said(0), said(1), settings(method)
    first = method.objective(student, teacher, LABELS, given)
    again = method.objective(student, teacher, LABELS, given)
    assert all(term.shape == () and term.isfinite() for term in first.values()) and 1 <= len(first) <= 4
    assert {name: term.item() for name, term in first.items()} == {
        name: term.item() for name, term in again.items()
    }
    assert torch.equal(student.logits, said(0).logits) and torch.equal(
        teacher.features[0], said(1).features[0]
    )
    assert given == settings(method)


@every
def test_gradients_match_finite_differences(method):
    student, teacher = said(0), said(1)

    def loss(logits, feature):
        return total(method.objective(Outputs(logits, (feature,)), teacher, LABELS, settings(method)))

    inputs = (student.logits.requires_grad_(), (student.features[0] + 0.05).requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs, check_undefined_grad=False)


@every
def test_only_methods_without_a_teacher_work_without_one(method):
    if method.teacher:
        with pytest.raises(ValueError, match="needs the outputs of a teacher"):
            method.objective(said(0), None, LABELS, settings(method))
    else:
        alone = method.objective(said(0), None, LABELS, settings(method))
        assert total(alone) == total(method.objective(said(0), said(1), LABELS, settings(method)))


@every
def test_only_labelled_images_count_in_hard_terms(method):
    """Unlabelled images change no term that uses labels; hard terms are means over labelled images."""
    student, other, teacher = said(0), said(2), said(1)
    labelled = LABELS != -1
    mixed = Outputs(torch.where(labelled[:, None], student.logits, other.logits), student.features)
    one, two = (method.objective(who, teacher, LABELS, settings(method)) for who in (student, mixed))
    few = method.objective(
        *(Outputs(who.logits[labelled], (who.features[0][labelled],)) for who in (student, teacher)),
        LABELS[labelled],
        settings(method),
    )
    for name in {"hard", "smoothed", "virtual teacher"} & set(one):
        assert one[name].item() == two[name].item() == pytest.approx(few[name].item(), rel=1e-12)
    if method.teacher:
        assert total(one) != total(two), "soft targets must cover unlabelled images too"


@every
@pytest.mark.parametrize("count", [1, N])
def test_batch_without_labels_learns_from_the_teacher_alone(method, count):
    student, teacher = (Outputs(who.logits[:count], (who.features[0][:count],)) for who in (said(0), said(1)))
    none = torch.full((count,), -1)
    given = settings(method)
    loss, found = gradients(method, student, teacher, none, **given)
    terms = method.objective(student, teacher, none, given)
    for name in {"hard", "smoothed", "virtual teacher"} & set(terms):
        assert terms[name] == 0
    assert loss.isfinite() and all(gradient.isfinite().all() for gradient in found)
    assert (loss > 0 and found[0].any()) if method.teacher else not (loss or found[0].any())


@taught
def test_batch_of_one_weighs_no_more_than_in_its_batch(method):
    student, teacher, given = said(0), said(1), settings(method)
    together = method.objective(student, teacher, LABELS, given)
    alone = [
        method.objective(
            *(Outputs(who.logits[i : i + 1], (who.features[0][i : i + 1],)) for who in (student, teacher)),
            LABELS[i : i + 1],
            given,
        )
        for i in range(N)
    ]
    for name in set(together) - {"hard", "hint"}:  # a hint is relative to the batch's mean square
        mean = sum(terms[name].item() for terms in alone) / N
        assert mean == pytest.approx(together[name].item()) or mean == 0, name


@taught
def test_student_equal_to_its_teacher_learns_only_from_labels(method):
    teacher = said(1)
    terms = method.objective(teacher, teacher, LABELS, settings(method))
    assert all(term.item() == pytest.approx(0, abs=1e-10) for name, term in terms.items() if name != "hard")
    apart = method.objective(said(0), teacher, LABELS, settings(method))
    assert all(term.item() > 0 for term in apart.values())


@every
def test_soft_weight_0_is_labels_only_and_1_ignores_labels(method):
    if "soft_weight" not in method.settings:
        return
    student, teacher = said(0), said(1)
    changed = torch.where(LABELS == -1, LABELS, (LABELS + 1) % 10)
    assert method.objective(student, teacher, LABELS, settings(method, soft_weight=1.0))["hard"] == 0
    nothing = method.objective(student, teacher, LABELS, settings(method, soft_weight=0.0))
    alone = hinton(student, teacher, LABELS, {"temperature": 1.0, "soft_weight": 0.0})
    assert nothing["hard"].item() == pytest.approx(alone["hard"].item(), rel=1e-12)
    features = {"hint", "attention", "cosine", "similarity", "distance", "angle", "neighbours"}
    assert all(term == 0 for name, term in nothing.items() if name not in {"hard", *features})
    if method.name not in ("dkd", "tf-kd"):  # these need the label to know the target class
        one, two = (
            method.objective(student, teacher, labels, settings(method, soft_weight=1.0))
            for labels in (LABELS, changed)
        )
        assert total(one).item() == pytest.approx(total(two).item(), rel=1e-12)


@looking
def test_feature_weight_0_gives_hintons_loss(method):
    student, teacher = said(0), said(1)
    one, two, none = (
        method.objective(student, teacher, LABELS, settings(method, feature_weight=weight))
        for weight in (1.0, 2.0, 0.0)
    )
    plain = hinton(student, teacher, LABELS, settings(METHODS["hinton"]))
    assert total(none).item() == pytest.approx(total(plain).item(), rel=1e-12)
    for name in set(one) - set(plain):
        assert two[name].item() == pytest.approx(2 * one[name].item(), rel=1e-12)


@every
def test_order_of_images_in_a_batch_does_not_matter(method):
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    shuffled = [Outputs(who.logits[order], (who.features[0][order],)) for who in (said(0), said(1))]
    one, other = (
        method.objective(said(0), said(1), LABELS, settings(method)),
        method.objective(*shuffled, LABELS[order], settings(method)),
    )
    assert {name: term.item() for name, term in one.items()} == pytest.approx(
        {name: term.item() for name, term in other.items()}, rel=1e-9
    )


@every
@pytest.mark.parametrize(
    "kind", ["one image", "the same image twice", "silent layers", "flat logits", "great logits"]
)
def test_unusual_batches_give_finite_losses_and_gradients(method, kind):
    student, teacher = (Outputs(who.logits.float(), (who.features[0].float(),)) for who in (said(0), said(1)))
    labels = LABELS.clone()
    if kind == "one image":
        student, teacher = (Outputs(who.logits[:1], (who.features[0][:1],)) for who in (student, teacher))
        labels = labels[:1]
    elif kind == "the same image twice":
        for who in (student, teacher):
            who.logits[1], who.features[0][1] = who.logits[0], who.features[0][0]
    elif kind == "silent layers":
        student.features[0].zero_()
        teacher.features[0][:3] = 0
    elif kind == "flat logits":
        student.logits.zero_()
    else:
        student, teacher = (Outputs(who.logits * 200, who.features) for who in (student, teacher))
    loss, found = gradients(method, student, teacher, labels)
    assert loss.isfinite() and all(gradient.isfinite().all() for gradient in found)


@every
def test_temperature_preserves_the_size_of_gradients(method):
    """Without the factor T^2, gradients would be 100 times smaller at T = 20 than at T = 2."""
    if "temperature" not in method.settings:
        return
    norms = [
        gradients(method, said(0, scale=1.0), said(1, scale=1.0), temperature=t, soft_weight=1.0)[1][0].norm()
        for t in (2.0, 20.0)
    ]
    assert 0.5 < norms[0] / norms[1] < 4
