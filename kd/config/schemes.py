"""SCHEMES: the ways to choose the student's teacher."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scheme:
    """The description of a scheme, and the settings that only it reads."""

    name: str
    title: str
    purpose: str  # one line
    paper: str
    settings: tuple[str, ...] = ()
    teacher: bool = True  # whether it uses the config's teacher


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in [
        Scheme(
            "teacher", "From the teacher", "The teacher teaches the student.", "Hinton, Vinyals & Dean 2015"
        ),
        Scheme(
            "assistant",
            "Through an assistant",
            "The teacher teaches a medium-sized network, which then teaches the student.",
            "Mirzadeh et al. 2020 (TAKD)",
            ("assistant",),
        ),
        Scheme(
            "born-again",
            "Born again",
            "No teacher: the control, once trained, teaches a new copy of itself, which teaches the next. "
            "One generation is Tf-KD's self-training.",
            "Furlanello et al. 2018; Yuan et al. 2020",
            ("generations",),
            teacher=False,
        ),
        Scheme(
            "mutual",
            "Two students together",
            "No teacher: two students with different initial weights teach each other as they learn.",
            "Zhang et al. 2018 (deep mutual learning)",
            teacher=False,
        ),
        Scheme(
            "exits",
            "From its own depth",
            "No teacher: a classifier on each earlier hidden layer learns from the student's own output. "
            "The classifiers are dropped afterwards.",
            "Zhang et al. 2019 (be your own teacher)",
            teacher=False,
        ),
    ]
}
