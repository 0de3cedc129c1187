"""Losses on relations between images, compared with their formulas in NumPy and with their papers."""

import itertools
import math

import numpy as np
import pytest
import torch

from kd.objectives import Outputs, hinton
from kd.objectives.relation import (
    ANGLE,
    DISTANCE,
    MAX_ANGLE_IMAGES,
    NEIGHBOURS,
    SIMILARITY,
    pkt,
    rkd,
    similarity,
)

SETTINGS = {"temperature": 4.0, "soft_weight": 0.5, "feature_weight": 0.7}
random = np.random.default_rng(7)
N, D, E = 6, 4, 9
STUDENT, TEACHER = random.normal(size=(N, D)), random.normal(size=(N, E))
LABELS = torch.tensor([3, -1, 0, 9, -1, 1])
TERMS = {similarity: ["similarity"], rkd: ["distance", "angle"], pkt: ["neighbours"]}
every = pytest.mark.parametrize("objective", TERMS, ids=lambda objective: objective.__name__)


def terms(objective, student, teacher):
    """Return the method's own terms; check that the others are Hinton's."""
    logits = np.random.default_rng(8).normal(0, 2, (2, len(student), 10))
    labels = LABELS if len(student) == N else torch.arange(len(student)) % 10
    said, taught = (
        Outputs(torch.tensor(values), (torch.tensor(f),)) for values, f in zip(logits, (student, teacher))
    )
    made = objective(said, taught, labels, SETTINGS)
    plain = hinton(said, taught, labels, SETTINGS)
    assert set(made) == {*plain, *TERMS[objective]} and all(made[name] == plain[name] for name in plain)
    return {name: made[name].item() for name in TERMS[objective]}


def rotation(size, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]


def huber(x):
    return x * x / 2 if abs(x) <= 1 else abs(x) - 0.5


# -- the formulas --------------------------------------------------------------------------------


def test_similarity_compares_row_normalized_inner_products():
    def rows(points):
        matrix = np.array([[float(a @ b) for b in points] for a in points])
        return np.array([row / math.sqrt(sum(row**2)) for row in matrix])

    by_hand = ((rows(STUDENT) - rows(TEACHER)) ** 2).sum() / N**2
    assert terms(similarity, STUDENT, TEACHER)["similarity"] == pytest.approx(
        0.7 * SIMILARITY * by_hand, rel=1e-10
    )


def distances(points):
    found = [np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2)]
    return [distance / np.mean(found) for distance in found]


def angles(points):
    """Return the cosine of the angle at the middle image, for all ordered triplets of different images."""
    return [
        (points[i] - points[j])
        @ (points[k] - points[j])
        / (np.linalg.norm(points[i] - points[j]) * np.linalg.norm(points[k] - points[j]))
        for i, j, k in itertools.permutations(range(len(points)), 3)
    ]


def test_rkd_is_huber_loss_of_distances_and_angles():
    found = terms(rkd, STUDENT, 3 * TEACHER)
    by_pairs = np.mean([huber(s - t) for s, t in zip(distances(STUDENT), distances(TEACHER))])
    by_triplets = np.mean([huber(s - t) for s, t in zip(angles(STUDENT), angles(TEACHER))])
    assert found["distance"] == pytest.approx(0.7 * DISTANCE * by_pairs, rel=1e-10)
    assert found["angle"] == pytest.approx(0.7 * ANGLE * by_triplets, rel=1e-10)


def test_pkt_is_the_divergence_of_neighbour_probabilities():
    def shares(points):
        near = np.array(
            [[(a @ b / np.linalg.norm(a) / np.linalg.norm(b) + 1) / 2 for b in points] for a in points]
        )
        return [[near[i, j] / (near[i].sum() - near[i, i]) for j in range(N) if j != i] for i in range(N)]

    by_hand = np.mean(
        [sum(p * math.log(p / q) for p, q in zip(*rows)) for rows in zip(shares(TEACHER), shares(STUDENT))]
    )
    assert terms(pkt, STUDENT, TEACHER)["neighbours"] == pytest.approx(0.7 * NEIGHBOURS * by_hand, rel=1e-9)


# -- invariances -----------------------------------------------------------------------


@every
def test_relations_ignore_rotation_and_scale(objective):
    """A student whose features are the teacher's, rotated and scaled, has nothing to learn."""
    before = terms(objective, STUDENT, TEACHER)
    moved = terms(objective, 0.1 * STUDENT @ rotation(D), 5 * TEACHER @ rotation(E))
    assert moved == pytest.approx(before, rel=1e-9)
    agreed = terms(objective, 0.1 * TEACHER @ rotation(E), TEACHER)
    assert all(value == pytest.approx(0, abs=1e-12) for value in agreed.values())


def test_only_distances_and_angles_ignore_a_shift():
    shift = np.arange(D)
    assert terms(rkd, STUDENT + shift, TEACHER) == pytest.approx(terms(rkd, STUDENT, TEACHER), rel=1e-9)
    for objective in (similarity, pkt):
        assert terms(objective, STUDENT + shift, TEACHER) != pytest.approx(
            terms(objective, STUDENT, TEACHER), rel=1e-2
        )


def test_pkt_and_angles_ignore_scale_of_single_images():
    lengths = np.linspace(0.5, 3, N)[:, None]
    assert terms(pkt, lengths * STUDENT, TEACHER) == pytest.approx(terms(pkt, STUDENT, TEACHER), rel=1e-9)


@every
def test_batch_of_one_image_has_no_relations(objective):
    assert set(terms(objective, STUDENT[:1], TEACHER[:1]).values()) == {0.0}


def test_angles_use_only_the_first_images_of_a_batch():
    student, teacher = random.normal(size=(2, MAX_ANGLE_IMAGES + 10, D))
    other = student.copy()
    other[MAX_ANGLE_IMAGES:] += 1.0
    one, two = terms(rkd, student, teacher), terms(rkd, other, teacher)
    assert one["angle"] == pytest.approx(two["angle"], rel=1e-12) and one["distance"] != pytest.approx(
        two["distance"], rel=1e-3
    )
    few = np.mean([huber(s - t) for s, t in zip(angles(student[:8]), angles(teacher[:8]))])
    assert terms(rkd, student[:8], teacher[:8])["angle"] == pytest.approx(0.7 * ANGLE * few, rel=1e-9)
