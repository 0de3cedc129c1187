"""List the distillation methods by name (METHODS).

An objective takes the outputs of student and teacher for one batch and returns named, weighted terms. Their
sum is the loss; their names are the legend of the loss chart. To add a method, write its function in the file
of its family and add an entry here.
"""

from __future__ import annotations

from kd.objectives.base import Method
from kd.objectives.feature import attention, cosine, fitnets
from kd.objectives.regularization import label_smoothing, virtual_teacher
from kd.objectives.relation import pkt, rkd, similarity
from kd.objectives.response import dist, dkd, hinton, jsd, mse, reverse_kl, standardized

_SOFT = ("temperature", "soft_weight")
_FEATURES = (*_SOFT, "feature_weight")

METHODS: dict[str, Method] = {
    method.name: method
    for method in [
        # -- logits ------------------------------------------------------------------
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
            "Weight the teacher's confidence and its ranking of the other classes separately.",
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
            "Avoid classes that the teacher rules out, even if some of its less likely classes are missed.",
            "Gu et al. 2024",
            reverse_kl,
            _SOFT,
        ),
        Method(
            "jsd",
            "Jensen-Shannon (GKD)",
            "Mix both directions of the KL divergence between student and teacher.",
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
            "Also align the direction of the last hidden layer with the teacher's.",
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
            "Also match which images of a batch the teacher finds similar.",
            "Tung & Mori 2019",
            similarity,
            _FEATURES,
            feature_view="last",
        ),
        Method(
            "rkd",
            "Distances and angles (RKD)",
            "Also match the teacher's distances and angles between images.",
            "Park et al. 2019",
            rkd,
            _FEATURES,
            feature_view="last",
        ),
        Method(
            "pkt",
            "Neighbourhoods (PKT)",
            "Also match how the teacher distributes probability over the neighbours of each image.",
            "Passalis & Tefas 2018",
            pkt,
            _FEATURES,
            feature_view="last",
        ),
        # -- no teacher ----------------------------------------------------------------------------
        Method(
            "label-smoothing",
            "Label smoothing",
            "No teacher: labels that give every other class a small probability.",
            "Szegedy et al. 2016",
            label_smoothing,
            ("smoothing",),
            teacher=False,
        ),
        Method(
            "tf-kd",
            "Virtual teacher (Tf-KD)",
            "No teacher: soft targets from a virtual teacher that is always right but never certain.",
            "Yuan et al. 2020",
            virtual_teacher,
            (*_SOFT, "certainty"),
            teacher=False,
        ),
    ]
}
