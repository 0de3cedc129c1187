"""METHODS: every way to teach a student, by name.

An objective takes what student and teacher said about one batch and returns its
named terms, already weighted: their sum is the loss, their names are the legend of
the loss chart. To add a method, write its function in the file of its family and
add one entry here.
"""

from __future__ import annotations

from kd.models.inference import Outputs
from kd.objectives.base import (
    Method,
    Objective,
    Settings,
    Terms,
    cross_entropy,
    hinton,
    labels_only,
    soft_loss,
)
from kd.objectives.exits import self_distillation
from kd.objectives.feature import attention, cosine, fitnets
from kd.objectives.regularization import label_smoothing, virtual_teacher
from kd.objectives.relation import pkt, rkd, similarity
from kd.objectives.response import dist, dkd, jsd, mse, reverse_kl, standardized

__all__ = [
    "METHODS",
    "Method",
    "Objective",
    "Outputs",
    "Settings",
    "Terms",
    "cross_entropy",
    "self_distillation",
    "hinton",
    "labels_only",
    "soft_loss",
]

_SOFT = ("temperature", "soft_weight")
_FEATURES = (*_SOFT, "feature_weight")

METHODS: dict[str, Method] = {
    method.name: method
    for method in [
        # -- the answers ------------------------------------------------------------------
        Method(
            "hinton",
            "Soft targets (Hinton)",
            "Match all of the teacher's probabilities, softened by a temperature.",
            "Hinton, Vinyals & Dean 2015",
            hinton,
            _SOFT,
        ),
        Method(
            "mse",
            "Logits by squared error",
            "Match the teacher's raw logits by squared error, as if the temperature were infinite.",
            "Kim et al. 2021",
            mse,
            ("soft_weight",),
        ),
        Method(
            "dkd",
            "Decoupled (DKD)",
            "Weigh apart how sure the teacher is of the class and how it compares the others.",
            "Zhao et al. 2022",
            dkd,
            (*_SOFT, "target_weight", "nontarget_weight"),
        ),
        Method(
            "dist",
            "Correlations (DIST)",
            "Rank classes and images as the teacher does, without matching its values.",
            "Huang et al. 2022",
            dist,
            (*_SOFT, "intra_weight"),
        ),
        Method(
            "standardized",
            "Standardized logits",
            "Match the shape of the teacher's logits, whatever their range.",
            "Sun et al. 2024",
            standardized,
            _SOFT,
        ),
        Method(
            "reverse-kl",
            "Reverse KL",
            "Say nothing that the teacher finds impossible; its lesser doubts may be left out.",
            "Gu et al. 2024",
            reverse_kl,
            _SOFT,
        ),
        Method(
            "jsd",
            "Jensen-Shannon (GKD)",
            "Meet the teacher on the way: a mix of both directions of the divergence.",
            "Agarwal et al. 2024",
            jsd,
            (*_SOFT, "jsd_mix"),
        ),
        # -- hidden layers ------------------------------------------------------------------
        Method(
            "fitnets",
            "Hints (FitNets)",
            "Also predict the teacher's middle layer from the student's own.",
            "Romero et al. 2015",
            fitnets,
            _FEATURES,
            feature_view="middle",
            projection=True,
        ),
        Method(
            "attention",
            "Attention maps (AT)",
            "Also look where the teacher looks. For convolutional networks.",
            "Zagoruyko & Komodakis 2017",
            attention,
            _FEATURES,
            feature_view="maps",
        ),
        Method(
            "cosine",
            "Cosine of hidden states",
            "Also point the last hidden layer where the teacher's points.",
            "Sanh et al. 2019",
            cosine,
            _FEATURES,
            feature_view="last",
            projection=True,
        ),
        # -- relations between images -----------------------------------------------------------
        Method(
            "similarity",
            "Similarity-preserving (SP)",
            "Also find the same images of a batch alike that the teacher finds alike.",
            "Tung & Mori 2019",
            similarity,
            _FEATURES,
            feature_view="last",
        ),
        Method(
            "rkd",
            "Distances and angles (RKD)",
            "Also place the images at the teacher's distances and angles to each other.",
            "Park et al. 2019",
            rkd,
            _FEATURES,
            feature_view="last",
        ),
        Method(
            "pkt",
            "Neighbourhoods (PKT)",
            "Also give each image the neighbours that it has for the teacher, as probabilities.",
            "Passalis & Tefas 2018",
            pkt,
            _FEATURES,
            feature_view="last",
        ),
        # -- no teacher ----------------------------------------------------------------------------
        Method(
            "label-smoothing",
            "Label smoothing",
            "No teacher: labels that leave every other class a little probability.",
            "Szegedy et al. 2016",
            label_smoothing,
            ("smoothing",),
            teacher=False,
        ),
        Method(
            "tf-kd",
            "Virtual teacher (Tf-KD)",
            "No teacher: soft targets of one that is always right and never quite sure.",
            "Yuan et al. 2020",
            virtual_teacher,
            (*_SOFT, "certainty"),
            teacher=False,
        ),
    ]
}
