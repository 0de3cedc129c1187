"""Feature matching: the layers compared, their views, and the projections trained with a student."""

import dataclasses

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from kd.config.distil import DistilConfig
from kd.data.augmentation import AUGMENTATIONS
from kd.data.digits import Mnist
from kd.errors import UserError
from kd.experiments.distil import Distillation
from kd.metrics import size
from kd.models import inference, registry
from kd.models.layers import ClassToken
from kd.objectives import METHODS, feature_matching, labels_only
from kd.objectives.feature_matching import GRID, View, connect
from kd.teachers.cached import MAX_FEATURES, CachedTeacher
from kd.training.loop import Learner, Plan, Training
from tests.helpers import identical, small_teacher

IMAGES = torch.randn(5, 1, 28, 28, generator=torch.Generator().manual_seed(0))
LOOKING = [method for method in METHODS.values() if method.feature_view]
looking = pytest.mark.parametrize("method", LOOKING, ids=lambda method: method.name)
SHORT = DistilConfig(student="cnn-tiny", epochs=1, batch_size=100)


@pytest.fixture(scope="module")
def teacher():
    """Return an untrained CNN as a teacher."""
    return CachedTeacher("cnn", "cnn-tiny", registry.build("cnn-tiny", 7))


# -- features ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("linear", ()),
        ("mlp-64-32", ((64,), (32,))),
        ("mlp-1200x2", ((1200,), (1200,))),
        ("cnn-tiny", ((8, 14, 14), (16, 7, 7), (32, 4, 4))),
        ("cnn", ((24, 28, 28), (32, 14, 14), (48, 14, 14), (64, 7, 7), (64, 7, 7))),
        ("vit-half", ((96,),) * 3),
    ],
)
def test_features_are_hidden_layers_from_shallow_to_deep(name, shapes):
    assert registry.feature_shapes(name) == shapes
    model = registry.build(name, 0).eval()
    said = inference.outputs(model, IMAGES)
    assert torch.equal(said.logits, model(IMAGES)) and [
        tuple(feature.shape[1:]) for feature in said.features
    ] == list(shapes)


@pytest.mark.parametrize("name", registry.students())
def test_last_feature_is_the_input_of_the_last_layers(name):
    model = registry.build(name, 0).eval()
    features = inference.outputs(model, IMAGES).features
    if features:
        place = next(i for i in range(len(model) - 1, -1, -1) if isinstance(model[i], inference.FEATURES))
        rest = [
            layer for layer in model[place + 1 :] if not isinstance(layer, ClassToken)
        ]  # a block's feature already includes it
        torch.testing.assert_close(nn.Sequential(*rest)(features[-1]), model(IMAGES))


def test_view_gives_one_vector_per_image_and_layer():
    feature = torch.arange(2 * 3 * 8 * 8.0).view(2, 3, 8, 8)
    vector = torch.arange(10.0).view(2, 5)
    first, second = View((1, 0), (9, 2))([feature, vector])
    assert torch.equal(first, vector)
    cells = feature.view(2, 3, 2, 4, 2, 4).mean((3, 5))
    assert torch.equal(second, cells.flatten(1))
    (attention,) = View((0,), (2,), attention=True)([feature])
    torch.testing.assert_close(attention, feature.square().sum(1).view(2, 2, 4, 2, 4).mean((2, 4)).flatten(1))


# -- connections ---------------------------------------------------------------------------------


@looking
@pytest.mark.parametrize("student", registry.students())
@pytest.mark.parametrize("taught", ["cnn", "cnn-wide", "mlp-1200x2", "vit"])
def test_any_two_networks_are_connected_or_refused(method, student, taught):
    try:
        joined = connect(method, student, taught, 0)
    except UserError as error:
        assert str(error).startswith(f"The method {method.name} compares ") and str(error).endswith(
            "or method."
        )
        shapes = registry.feature_shapes(student), registry.feature_shapes(taught)
        assert (
            not all(shapes)
            or method.feature_view == "maps"
            and not all(any(len(s) == 3 for s in of) for of in shapes)
        )
        return
    said = joined(inference.outputs(registry.build(student, 0).eval(), IMAGES))
    theirs = joined.teacher(inference.outputs(registry.build(taught, 0).eval(), IMAGES).features)
    assert len(said.features) == len(theirs) >= 1
    if method.projection or method.feature_view == "maps":
        assert [feature.shape for feature in said.features] == [feature.shape for feature in theirs]
    loss = sum(
        METHODS[method.name]
        .objective(
            said, inference.Outputs(torch.zeros(5, 10), theirs), torch.arange(5), DistilConfig().__dict__
        )
        .values()
    )
    assert loss.isfinite()


def test_response_methods_need_no_connection():
    assert all(
        connect(method, "linear", "linear", 0) is None
        for method in METHODS.values()
        if not method.feature_view
    )


def test_middle_and_last_layers_are_selected():
    hint, last = (connect(METHODS[name], "mlp-64-32-16", "cnn", 0) for name in ("fitnets", "similarity"))
    assert (hint.student.layers, hint.teacher.layers) == ((1,), (2,))
    assert (last.student.layers, last.teacher.layers) == ((2,), (4,))
    assert last.teacher.widths(registry.feature_shapes("cnn")) == [64 * GRID**2]


def test_attention_pairs_maps_of_equal_or_next_larger_size():
    joined = connect(METHODS["attention"], "cnn-tiny", "cnn", 0)
    assert (joined.student.layers, joined.teacher.layers) == ((0, 1, 2), (2, 4, 4))
    assert joined.student.sides == joined.teacher.sides == (14, 7, 4)
    larger = connect(METHODS["attention"], "cnn", "cnn-tiny", 0)
    assert (larger.student.layers, larger.teacher.layers, larger.teacher.sides) == (
        (0, 2, 4),
        (0, 0, 1),
        (14, 14, 7),
    )


def test_several_teachers_have_no_common_layers():
    with pytest.raises(
        UserError,
        match=(
            "The method rkd compares hidden layers, which several teachers do not share; choose one teacher."
        ),
    ):
        connect(METHODS["rkd"], "mlp-30", "cnn+cnn", 0)
    assert connect(METHODS["dkd"], "mlp-30", "cnn+cnn", 0) is None


def test_projection_depends_only_on_the_seed():
    def weights(seed):
        return connect(METHODS["cosine"], "mlp-30", "cnn", seed).projection.state_dict()

    torch.manual_seed(1)
    first = weights(3)
    torch.manual_seed(2)
    assert identical(first, weights(3)) and not identical(first, weights(4))


# -- a teacher's features -------------------------------------------------------------------------


def test_teacher_features_are_computed_once_per_image_id(teacher, mnist, monkeypatch):
    fresh = CachedTeacher("cnn", "cnn-tiny", teacher.model)
    view = connect(METHODS["cosine"], "mlp-30", "cnn-tiny", 0).teacher
    asked = []
    real = inference.in_chunks
    monkeypatch.setattr(
        inference,
        "in_chunks",
        lambda model, ask, inputs: asked.append(len(inputs)) or real(model, ask, inputs),
    )
    few = mnist.train.take(torch.tensor([5, 290, 17]))
    first = fresh.outputs(few, view).features
    expected = view(inference.outputs(teacher.model, few.inputs()).features)
    torch.testing.assert_close(first, expected, rtol=1e-3, atol=1e-3)  # kept in half precision
    again = fresh.outputs(few.take(torch.tensor([2, 0, 1])), view).features
    assert torch.equal(again[0], first[0][[2, 0, 1]]) and len(asked) == 1
    assert all(not feature.requires_grad and feature.dtype == torch.float32 for feature in first)


def test_other_view_has_its_own_table(teacher, mnist):
    few = mnist.train.take(slice(0, 20))
    views = [
        connect(METHODS[name], "cnn-tiny", "cnn-tiny", 0).teacher
        for name in ("cosine", "fitnets", "attention", "cosine")
    ]
    for view in views:
        expected = view(inference.outputs(teacher.model, few.inputs()).features)
        torch.testing.assert_close(teacher.outputs(few, view).features, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("augmentation", ["none", "jitter", "affine"])
def test_logits_and_features_share_one_pass_of_the_teacher(teacher, mnist, monkeypatch, augmentation):
    fresh = CachedTeacher("cnn", "cnn-tiny", teacher.model)
    view = connect(METHODS["cosine"], "mlp-30", "cnn-tiny", 0).teacher
    digits = mnist.train.take(slice(0, 50))
    if augmentation != "none":
        digits = AUGMENTATIONS[augmentation](digits, torch.Generator().manual_seed(0))
    passed = []
    real = inference.in_chunks
    monkeypatch.setattr(
        inference,
        "in_chunks",
        lambda model, ask, inputs: passed.append(len(inputs)) or real(model, ask, inputs),
    )
    said = fresh.outputs(digits, view)
    assert passed == [64]  # 50 filled up to a whole chunk
    assert torch.equal(said.logits, CachedTeacher("cnn", "cnn-tiny", teacher.model).logits(digits)), (
        "the same to the bit"
    )
    if augmentation != "affine":  # affine views are not kept
        passed.clear()
        assert torch.equal(fresh.logits(digits), said.logits) and not passed


@pytest.mark.parametrize("augmentation", ["jitter", "affine"])
def test_features_of_augmented_images_match_the_students_view(teacher, mnist, augmentation):
    view = connect(METHODS["cosine"], "mlp-30", "cnn-tiny", 0).teacher
    teacher.outputs(mnist.train.take(slice(0, 50)), view)  # features of the original images
    moved = AUGMENTATIONS[augmentation](mnist.train.take(slice(0, 50)), torch.Generator().manual_seed(0))
    expected = view(inference.outputs(teacher.model, moved.inputs()).features)
    torch.testing.assert_close(teacher.outputs(moved, view).features, expected, rtol=1e-4, atol=1e-5)


def test_features_too_large_to_keep_are_computed_each_time(mnist):
    wide = CachedTeacher("wide", "mlp-1200x2", registry.build("mlp-1200x2", 0))
    view = connect(METHODS["cosine"], "mlp-30", "mlp-1200x2", 0).teacher
    assert (
        wide.outputs(mnist.train.take(slice(0, 10)), view).features[0].shape == (10, 1200)
        and 1200 > MAX_FEATURES
    )
    assert wide._view is None


def test_shipped_teacher_features_are_kept_for_every_method():
    for method in LOOKING:
        for student in registry.students():
            try:
                view = connect(method, student, "cnn", 0).teacher
            except UserError:
                continue
            assert sum(view.widths(registry.feature_shapes("cnn"))) <= MAX_FEATURES


# -- training with a connection ----------------------------------------------------------------------


@pytest.fixture
def mnist(mnist):
    """300 training and 20 validation images: three steps per epoch."""
    judged = mnist.test.take(slice(0, 20))
    return Mnist(mnist.train.take(slice(0, 300)), judged, judged, "sample")


def distilled(mnist, teacher, **settings):
    experiment = Distillation(SHORT.replace(**settings), mnist, teacher)
    list(experiment.records())
    return experiment


def projection(experiment):
    """Return copies of the weights of the student's projection, by name."""
    mark = "projection.student."
    return {
        key.removeprefix(mark): value
        for key, value in experiment.training.state().items()
        if key.startswith(mark)
    }


@looking
def test_connection_changes_the_student_and_not_the_control(mnist, teacher, method):
    student = "cnn-tiny" if method.feature_view == "maps" else "mlp-30"
    plain, taught, unheard = (
        distilled(mnist, teacher, student=student, method=name, **more)
        for name, more in (("hinton", {}), (method.name, {}), (method.name, {"feature_weight": 0.0}))
    )
    assert identical(plain.trained["control"], taught.trained["control"]), (
        "same weights to begin with, same batches, to the bit"
    )
    assert not identical(plain.trained["student"], taught.trained["student"])
    assert identical(plain.trained["student"], unheard.trained["student"]), (
        "weight 0 is Hinton's distillation"
    )


def test_projection_is_trained_but_not_part_of_the_student(mnist, teacher):
    experiment = distilled(mnist, teacher, method="cosine")
    begun = connect(METHODS["cosine"], "cnn-tiny", "cnn-tiny", 0).projection.state_dict()
    assert projection(experiment).keys() == begun.keys() and not identical(begun, projection(experiment))
    count = sum(value.numel() for value in experiment.trained["student"].parameters())
    assert count == size.network_size("cnn-tiny").parameters and set(experiment.trained) == {
        "student",
        "control",
    }


def test_projection_takes_the_same_step_as_adamw(mnist, teacher):
    """Compare one step with plain PyTorch: the projection is one more layer under the same optimizer."""
    few = dataclasses.replace(mnist, train=mnist.train.take(slice(0, 100)))
    config = SHORT.replace(method="cosine", student="mlp-30", soft_weight=0.0)
    experiment = Distillation(config, few, teacher)
    joined, model = connect(METHODS["cosine"], "mlp-30", "cnn-tiny", 0), registry.build("mlp-30", 0)
    optimizer = torch.optim.AdamW(
        [*model.parameters(), *joined.projection.parameters()], lr=config.learning_rate, weight_decay=1e-2
    )
    taught = teacher.outputs(few.train, joined.teacher)
    terms = METHODS["cosine"].objective(
        joined(inference.outputs(model, few.train.inputs())), taught, few.train.labels, experiment.settings
    )
    sum(terms.values()).backward()
    optimizer.step()
    list(experiment.records())
    torch.testing.assert_close(
        projection(experiment), dict(joined.projection.state_dict()), rtol=1e-4, atol=1e-5
    )
    for ours, theirs in zip(experiment.trained["student"].parameters(), model.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("student", "method"), [("mlp-30", "cosine"), ("cnn-tiny", "fitnets"), ("cnn-tiny", "attention")]
)
def test_resuming_from_a_checkpoint_equals_no_interruption(mnist, teacher, student, method):
    def experiment():
        return Distillation(
            SHORT.replace(student=student, method=method, augmentation="jitter"), mnist, teacher
        )

    whole, first, second = experiment(), experiment(), experiment()
    list(whole.records())
    for _ in first.records(lambda step: step == 2):
        break
    state = load(save({key: value.contiguous() for key, value in first.training.state().items()}))
    list(second.records(state=state))
    for name in ("student", "control"):
        assert identical(whole.trained[name], second.trained[name])
    assert identical(projection(whole), projection(second)) and (method == "attention") == (
        not projection(whole)
    )


def test_checkpoint_of_another_method_is_refused(mnist, teacher):
    state = Distillation(SHORT, mnist, teacher)
    list(state.records())
    with pytest.raises(UserError, match="another training"):
        Distillation(SHORT.replace(method="cosine"), mnist, teacher).records(state=state.training.state())


def test_only_requested_features_are_computed(mnist, monkeypatch):
    """Hinton's distillation computes no features of the networks or the teacher."""
    monkeypatch.setattr(
        "kd.training.forward_backward.outputs", lambda *_: pytest.fail("a student's features were computed")
    )
    monkeypatch.setattr(
        CachedTeacher, "outputs", lambda *_: pytest.fail("a teacher's features were computed")
    )
    for name in ("mlp-30", "cnn-tiny"):
        list(Distillation(SHORT.replace(student=name), mnist, small_teacher()).records())


def test_method_without_a_teacher_does_not_use_one(mnist, monkeypatch):
    monkeypatch.setattr(CachedTeacher, "logits", lambda *_: pytest.fail("the teacher was asked"))
    for method in ("label-smoothing", "tf-kd"):
        list(Distillation(SHORT.replace(method=method), mnist, small_teacher()).records())


def test_learner_without_connection_needs_no_teacher_features(mnist):
    learners = [Learner("control", registry.build("mlp-30", 0), labels_only)]
    list(Training(learners, mnist, Plan(1, 100, 1e-3, 0), {}).records())


def test_unsupported_network_is_refused_before_training():
    with pytest.raises(
        UserError,
        match=(
            r"compares feature maps \(the outputs of convolutions\), but the teacher mlp-32 has none; "
            r"choose another teacher"
        ),
    ):
        feature_matching.check(METHODS["attention"], "teacher", "mlp-32")
