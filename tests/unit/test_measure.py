"""Manually counted sizes, and scores of constructed logits."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from kd.errors import UserError
from kd.metrics import classification
from kd.metrics.size import network_size
from kd.models import registry


def convolution(side, inputs, outputs):
    """Return the MACs of a 3x3 convolution with an output of side x side."""
    return side * side * outputs * 9 * inputs


def plain(*layers):
    """Return weights and MACs of 3x3 convolutions, (side, channels) of each output, and a linear layer."""
    inputs = [1, *(channels for _, channels in layers[:-1])]
    weights = sum(9 * before * channels + 2 * channels for before, (_, channels) in zip(inputs, layers))
    macs = sum(convolution(side, before, channels) for before, (side, channels) in zip(inputs, layers))
    side, channels = layers[-1]
    return weights + side * side * channels * 10 + 10, macs + side * side * channels * 10


def separable(inputs, outputs):
    """Return the weights of a depthwise and a pointwise convolution with their batch normalization."""
    return 9 * inputs + 2 * inputs + inputs * outputs + 2 * outputs


def separable_macs(side, inputs, outputs):
    return side * side * (9 * inputs + inputs * outputs)


def transformer(blocks, side=7, width=96):
    """Return weights and MACs of a Transformer with a class token and MLPs of four times its width."""
    patches = (28 // side) ** 2
    tokens = patches + 1
    embedding = (
        side * side * width + width + width + tokens * width
    )  # patch embedding and its bias, class token, positions
    attention = (3 * width * width + 3 * width) + (width * width + width)
    mlp = (4 * width * width + 4 * width) + (4 * width * width + width)
    weights = embedding + blocks * (attention + mlp + 2 * 2 * width) + 2 * width + 10 * width + 10
    # Queries, keys, values and output; attention scores and weighted sums; the MLP.
    block = tokens * 4 * width * width + 2 * tokens * tokens * width + tokens * 8 * width * width
    return weights, patches * side * side * width + blocks * block + 10 * width


# Parameters: weights and biases. A convolution has no bias; batch normalization has two values per channel.
BY_HAND = {
    "linear": (784 * 10 + 10, 784 * 10),
    "mlp-30": (784 * 30 + 30 + 30 * 10 + 10, 784 * 30 + 30 * 10),
    "mlp-128": (784 * 128 + 128 + 128 * 10 + 10, 784 * 128 + 128 * 10),
    "mlp-800x2": (1_276_810, 784 * 800 + 800 * 800 + 800 * 10),
    "mlp-64-32": (784 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10, 784 * 64 + 64 * 32 + 32 * 10),
    "cnn-tiny": plain((14, 8), (7, 16), (4, 32)),
    "cnn-small": plain((14, 16), (14, 32), (7, 48), (7, 48)),
    "cnn": plain((28, 24), (14, 32), (14, 48), (7, 64), (7, 64)),
    "cnn-pen": plain((28, 24), (14, 48), (14, 64), (7, 96), (7, 128), (7, 192)),
    "cnn-wide": plain((28, 32), (28, 32), (14, 64), (14, 64), (7, 128), (7, 128)),
    "cnn-separable": (
        9 * 16 + 2 * 16 + separable(16, 32) + separable(32, 64) + separable(64, 64) + 64 * 10 + 10,
        convolution(14, 1, 16)
        + separable_macs(14, 16, 32)
        + separable_macs(7, 32, 64)
        + separable_macs(7, 64, 64)
        + 64 * 10,
    ),
    "mlp-1200x2": (
        784 * 1200 + 1200 + 1200 * 1200 + 1200 + 1200 * 10 + 10,
        784 * 1200 + 1200 * 1200 + 1200 * 10,
    ),
    "vit": transformer(6),
    "vit-half": transformer(3),
}


def test_every_architecture_has_an_expected_count():
    assert set(BY_HAND) >= set(registry.ARCHITECTURES)


@pytest.mark.parametrize("name", BY_HAND)
def test_parameters_and_macs_equal_the_expected_counts(name):
    size = network_size(name)
    assert (size.parameters, size.macs) == BY_HAND[name]


@pytest.mark.parametrize("name", BY_HAND)
def test_bytes_equal_the_size_of_a_file_of_weights(name, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({key: value.contiguous() for key, value in registry.build(name, 0).state_dict().items()}, path)
    content = path.read_bytes()
    header = int.from_bytes(content[:8], "little")
    assert (
        max(entry["data_offsets"][1] for entry in json.loads(content[8 : 8 + header]).values())
        == network_size(name).bytes
    )
    assert len(content) - 8 - header == network_size(name).bytes


def test_half_transformer_is_smaller_and_whole_is_under_5_mb():
    whole, half = network_size("vit"), network_size("vit-half")
    assert half.parameters <= 0.6 * whole.parameters and whole.bytes < 5e6


def test_size_of_unknown_architecture_is_refused():
    with pytest.raises(UserError):
        network_size("resnet")


NINE = math.log(9.0)


def logits(*classes, sure=NINE):
    """Return logits that make one class nine times as likely as each other class."""
    return torch.nn.functional.one_hot(torch.tensor(classes), 10).float() * sure


def test_scores_of_constructed_logits():
    labels = torch.tensor([1, 2, 3, 4])
    found = classification.scores(logits(1, 2, 3, 0), labels, logits(1, 2, 0, 0))
    # One class has probability 1/2, each other class 1/18; only the third image adds to the KL.
    kl = (1 / 2 - 1 / 18) * math.log(9.0) / 4
    assert found == {
        "test_accuracy": 0.75,
        "test_errors": 1,
        "agreement": 0.75,
        "kl": pytest.approx(kl, rel=1e-5),
    }


def test_agreement_counts_shared_errors_too():
    found = classification.scores(logits(5, 5), torch.tensor([1, 2]), logits(5, 5))
    assert (found["test_errors"], found["agreement"]) == (2, 1.0) and found["kl"] == pytest.approx(
        0, abs=1e-6
    )


def test_kl_is_from_teacher_to_student():
    sure, unsure, label = logits(1, sure=8.0), logits(1, sure=0.0), torch.tensor([1])

    def written_out(teacher, student):
        p, q = teacher.double().softmax(1), student.double().softmax(1)
        return float((p * (p / q).log()).sum())

    assert classification.scores(sure, label, unsure)["kl"] == pytest.approx(
        written_out(unsure, sure), rel=1e-5
    )
    assert classification.scores(unsure, label, sure)["kl"] == pytest.approx(
        written_out(sure, unsure), rel=1e-5
    )
    assert written_out(unsure, sure) != pytest.approx(written_out(sure, unsure), rel=0.1)


def test_scores_are_plain_numbers():
    found = classification.scores(logits(1), torch.tensor([1]), logits(1))
    assert json.loads(json.dumps(found)) == found


def test_quality_equals_a_manual_count():
    said = torch.eye(10)[[0, 0, 1, 2, 2, 2, 3, 9, 9, 9]] * 5
    labels = torch.tensor([0, 1, 1, 2, 2, 3, 3, 9, 9, 8])
    found = classification.quality(said, labels, said)
    assert found["test_errors"] == 3 and found["agreement"] == 1 and found["kl"] == pytest.approx(0, abs=1e-6)
    assert found["errors_by_class"] == [0, 1, 0, 1, 0, 0, 0, 0, 1, 0]
    assert found["confusion"][3] == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0] and sum(map(sum, found["confusion"])) == 10
    # Wilson's interval for 7 of 10, by its formula.
    z, p, n = 1.959964, 0.7, 10
    middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    assert found["interval"] == pytest.approx(
        [(middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)], rel=1e-5
    )
    sure = math.exp(5) / (math.exp(5) + 9)
    assert found["ece"] == pytest.approx(sure - 0.7)


def test_memory_is_weights_plus_the_largest_activations():
    assert network_size("mlp-30").memory == network_size("mlp-30").bytes + 4 * (
        784 + 784
    )  # Flatten reads and writes an image
    assert (
        network_size("cnn").memory == network_size("cnn").bytes + 4 * 2 * 24 * 28 * 28
    )  # the first batch normalization
