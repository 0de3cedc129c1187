"""The page of the paper: Hinton's experiments on MNIST, repeated by this program."""

from __future__ import annotations

import streamlit as st

from kd.config.glossary import TERMS
from kd.figures import training
from kd.tables import cells, paper
from kd.ui.charts import chart
from kd.ui.shell import error_boundary


def shown(line: dict, statistic: dict | None) -> str:
    """Return mean and standard deviation, with the unit unless it is errors."""
    if not statistic:
        return ""
    unit = "" if line["unit"] == "errors" else " " + line["unit"]
    return cells.shown(statistic, 1, unit)


def significant(line: dict) -> str:
    tests = line.get("mcnemar", [])
    return f"{sum(test['p'] < 0.05 for test in tests)} of {len(tests)}" if tests else ""


def show() -> None:
    """Draw the whole page."""
    st.title("The paper's table, run again", anchor=False)
    st.markdown(
        "[Hinton, Vinyals & Dean (2015)](https://arxiv.org/abs/1503.02531) popularised distillation; section "
        "3 tests it on MNIST: a large teacher, a small student, students that never saw a 3. Here you see "
        "the paper's result of each experiment next to ours."
    )
    result = error_boundary.load_or_tell(paper.load)
    if result is None:
        st.stop()

    st.dataframe(
        [
            {
                "experiment": line["what"],
                "paper": line["paper"],
                "ours": shown(line, line),
                "control": shown(line, line.get("control")),
                "difference": shown(line, line.get("difference")),
                "beyond chance": significant(line),
            }
            for line in result["lines"]
        ],
        hide_index=True,
        width="stretch",
        height="content",
        column_config={
            "experiment": st.column_config.TextColumn(width=350),
            "paper": st.column_config.TextColumn(width=225),
            "ours": st.column_config.TextColumn(
                help=(
                    "Mean and standard deviation over the seeds; errors on the 10,000 test images, or "
                    "percent."
                )
            ),
            "control": st.column_config.TextColumn(help=TERMS["control"]),
            "beyond chance": st.column_config.TextColumn(
                help=(
                    "For how many seeds McNemar's test finds a difference between student and control "
                    "(p < 0.05)."
                )
            ),
        },
    )
    minutes = result["core_minutes"]
    st.caption(
        f"{result['seeds']} seeds. All were trained on the 60,000 training images, with their own teachers, "
        f"as in the paper; no setting was tuned on the test set. {minutes['teachers']:.0f} core-minutes of "
        f"training for the teachers, {minutes['students']:.0f} for the students ({result['machine']}). Made "
        f"by `{result['command']}`."
    )
    students = paper.curve(result)
    if students:
        st.header("Which temperature?", anchor=False)
        st.markdown(
            "A student of only 30 units cannot follow everything that a high temperature reveals about the "
            "teacher. In the paper, T = 2.5 to 4 was best for it; large students work at any T above 8."
        )
        control = next(iter(students.values()))["control"]
        spoken = "; ".join(f"{point['mean']:.0f} at T = {t:g}" for t, point in students.items())
        chart.live_chart(
            training.temperatures(students, control),
            "temperatures",
            f"Test errors: {spoken}; control {control['mean']:.0f}.",
        )
    with st.expander("How each was trained"):
        st.json(result["recipes"], expanded=False)
