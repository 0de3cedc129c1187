"""The networks on the Distil page: their layers and their cost."""

from __future__ import annotations

import contextlib

import streamlit as st

from kd.config import kinds
from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.errors import UserError
from kd.figures import base
from kd.metrics.size import network_size
from kd.models import diagrams, registry
from kd.ui.charts.inline_svg import picture
from kd.ui.charts.roles import MARKS, STREAMLIT_COLOURS
from kd.ui.shell import shared


def kilobytes(count: int) -> str:
    return f"{count / 1024:,.0f} KB"


def macs(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count < 10e6 else f"{count / 1e6:.1f} M"


def ratio(part: float, whole: float) -> str:
    """Return how ``part`` compares with ``whole``: "1/73" or "×2.7"."""
    return f"1/{whole / part:.0f}" if part * 1.5 < whole else f"×{part / whole:.1f}"


def cost(architecture: str, teacher: str) -> str:
    """Return one line on what a student costs compared with its teacher."""
    ours, theirs = network_size(architecture), network_size(teacher)
    return (
        f"{ours.parameters:,} weights, {kilobytes(ours.bytes)} ({_compared(ours.bytes, theirs.bytes)} the "
        f"teacher), {_multiplications(ours.macs, theirs.macs)}"
    )


def _compared(ours: int, theirs: int) -> str:
    """Return how a size compares with another: "13% smaller than" or "73× smaller than"."""
    if ours == theirs:
        return "as large as"
    small, large = sorted((ours, theirs))
    word = "smaller" if ours < theirs else "larger"
    amount = f"{large / small:.0f}×" if large >= 2 * small else f"{abs(1 - ours / theirs):.0%}"
    return f"{amount} {word} than"


def _multiplications(ours: int, theirs: int) -> str:
    """Return how many multiplications a network needs: "73× fewer multiplications per image"."""
    if ours * 1.5 < theirs:
        return f"{theirs / ours:.0f}× fewer multiplications per image"
    return f"{macs(ours)} multiplications per image ({ratio(ours, theirs)} of the teacher's)"


def layers(config: DistilConfig | TeacherConfig) -> None:
    """Show the layers of teacher and student side by side, to one scale; stack several teachers."""
    shown = {"teacher": config.teacher}
    if kinds.of(config).has_teacher:
        shown = {"student": config.student}
        with contextlib.suppress(UserError):  # the page reports a missing teacher above
            shown = {"teacher": shared.manager().teacher(config.teacher).architecture} | shown
    for (role, joined), column in zip(shown.items(), st.columns(2, gap="large")):
        other = next((other.split("+")[0] for other in shown.values() if other != joined), None)
        with column:
            for i, name in enumerate(dict.fromkeys(joined.split("+"))):
                size = network_size(name)
                st.markdown(f":{STREAMLIT_COLOURS[role]}[{MARKS[role]} {role}] **{name}**")
                picture(diagrams.svg(name, base.COLOURS[role], other), f"network_{role}{i or ''}")
                st.caption(
                    f"{registry.architecture(name).purpose} {size.parameters:,} weights, "
                    f"{kilobytes(size.bytes)}, {macs(size.macs)} multiplications per image."
                )
    st.caption(
        "Read from top to bottom; the last ten numbers are the logits, one per digit. Bar width is "
        "proportional to the square root of the layer's output size."
    )


def students_table(teacher: str) -> None:
    """Show all students and what they cost, before any training."""
    theirs = network_size(teacher)
    rows = []
    for name in [teacher, *registry.students()]:
        ours = network_size(name)
        rows.append(
            {
                "network": f"{name} (teacher)" if name == teacher else name,
                "what it is": "Several networks with averaged answers."
                if "+" in name
                else registry.architecture(name).purpose,
                "weights": ours.parameters,
                "size": kilobytes(ours.bytes),
                "multiplications": macs(ours.macs),
                "share": "" if name == teacher else ratio(ours.macs, theirs.macs),
            }
        )
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        column_config={
            "weights": st.column_config.NumberColumn(format="localized"),
            "multiplications": st.column_config.TextColumn(help="Multiplications (with addition) per image."),
            "share": st.column_config.TextColumn(help="Multiplications relative to the teacher."),
        },
    )
