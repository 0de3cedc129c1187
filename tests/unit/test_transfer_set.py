"""Test omitted classes, label budgets and wrong labels."""

import pytest
import torch

from kd.data import transfer_set
from kd.data.digits import UNLABELLED
from kd.errors import UserError
from kd.randomness import generator


@pytest.mark.parametrize("omitted", ["3", "01234569"])
def test_without_removes_only_the_omitted_digits(mnist, omitted):
    left = transfer_set.without(mnist.train, omitted)
    stay = [i for i, label in enumerate(mnist.train.labels.tolist()) if str(label) not in omitted]
    assert left.ids.tolist() == mnist.train.ids[stay].tolist() and torch.equal(
        left.images, mnist.train.images[stay]
    )
    assert transfer_set.without(mnist.train, "") is mnist.train


@pytest.mark.parametrize("count", [10, 37, 1000])
def test_labels_are_spread_evenly_and_all_images_stay(mnist, count):
    some = transfer_set.with_labels(mnist.train, count, generator("x"))
    has = some.labels != UNLABELLED
    assert has.sum() == count and torch.equal(some.labels[has], mnist.train.labels[has])
    of_each = some.labels[has].bincount(minlength=10)
    assert of_each.max() - of_each.min() <= 1
    assert torch.equal(some.images, mnist.train.images) and torch.equal(some.ids, mnist.train.ids)


def test_more_labels_include_the_fewer_of_the_same_seed(mnist):
    few, again, other = (
        transfer_set.with_labels(mnist.train, 50, generator(key)).labels for key in ("a", "a", "b")
    )
    assert torch.equal(few, again) and not torch.equal(few, other)
    more = transfer_set.with_labels(mnist.train, 200, generator("a")).labels
    assert (more[few != UNLABELLED] != UNLABELLED).all()


def test_more_labels_than_images_are_refused(mnist):
    with pytest.raises(UserError, match="Only 1,000 images are available for 1,001 labels. Choose fewer"):
        transfer_set.with_labels(mnist.train, 1001, generator("a"))


# -- wrong labels --------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6])
def test_wrong_labels_have_the_share_and_are_uniform(sample, share):
    noisy = transfer_set.with_wrong_labels(sample.train, share, generator(1))
    wrong = noisy.labels != sample.train.labels
    assert wrong.sum() == round(share * len(sample.train))
    assert noisy.ids is sample.train.ids  # so the teacher's logits are found as before
    if share:
        steps = ((noisy.labels - sample.train.labels)[wrong] % 10).bincount(minlength=10)
        expected = wrong.sum() / 9
        assert steps[0] == 0 and ((steps[1:] - expected).abs() < 5 * expected**0.5).all()


def test_wrong_labels_are_classes_that_occur(sample):
    few = transfer_set.with_labels(transfer_set.without(sample.train, "0123456"), 30, generator(1))
    noisy = transfer_set.with_wrong_labels(few, 0.5, generator(1))
    assert ((noisy.labels == UNLABELLED) == (few.labels == UNLABELLED)).all()
    assert (noisy.labels != few.labels).sum() == 15
    assert set(noisy.labels.unique().tolist()) == {UNLABELLED, 7, 8, 9}
