"""The networks on the Distil page: their layers and their cost."""

from __future__ import annotations

import contextlib

import streamlit as st

from kd.config import kinds
from kd.config.distil import DistilConfig
from kd.config.teacher import TeacherConfig
from kd.errors import UserError
from kd.figures import training
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
    """ "1/73" or "×2.7": how ``part`` compares with ``whole``."""
    return f"1/{whole / part:.0f}" if part * 1.5 < whole else f"×{part / whole:.1f}"


def cost(architecture: str, teacher: str) -> str:
    """One line on what a student costs beside its teacher."""
    ours, theirs = network_size(architecture), network_size(teacher)
    return (
        f"{ours.parameters:,} weights, {kilobytes(ours.bytes)} ({ratio(ours.bytes, theirs.bytes)} of the teacher's), "
        f"{macs(ours.macs)} multiplications an image ({ratio(ours.macs, theirs.macs)})"
    )


def layers(config: DistilConfig | TeacherConfig) -> None:
    """The layers of teacher and student side by side, on one scale; of several teachers one below the other."""
    shown = {"teacher": config.teacher}
    if kinds.of(config).has_teacher:
        shown = {"student": config.student}
        with contextlib.suppress(UserError):  # a teacher that is gone is told above
            shown = {"teacher": shared.manager().teacher(config.teacher).architecture} | shown
    for (who, joined), column in zip(shown.items(), st.columns(2, gap="large")):
        other = next((other.split("+")[0] for other in shown.values() if other != joined), None)
        with column:
            for i, name in enumerate(dict.fromkeys(joined.split("+"))):
                size = network_size(name)
                st.markdown(f":{STREAMLIT_COLOURS[who]}[{MARKS[who]} {who}] **{name}**")
                picture(diagrams.svg(name, training.COLOURS[who], other), f"network_{who}{i or ''}")
                st.caption(
                    f"{registry.architecture(name).purpose} {size.parameters:,} weights, {kilobytes(size.bytes)}, "
                    f"{macs(size.macs)} multiplications an image."
                )
    st.caption(
        "An image passes from top to bottom; the last ten numbers are the logits, one for each digit. The more numbers a layer gives "
        "for one image, the wider its bar: as their square root."
    )


def students_table(teacher: str) -> None:
    """All students and what they cost, before any training."""
    theirs = network_size(teacher)
    rows = []
    for name in [teacher, *registry.students()]:
        ours = network_size(name)
        rows.append(
            {
                "network": f"{name} (teacher)" if name == teacher else name,
                "what it is": "Several networks, whose answers are averaged."
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
            "multiplications": st.column_config.TextColumn(
                help="Multiplications (with addition) to classify one image."
            ),
            "share": st.column_config.TextColumn(help="Its multiplications as a share of the teacher's."),
        },
    )
