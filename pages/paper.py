"""Hinton's table: the paper's experiments on MNIST, run again by this program."""

import streamlit as st

from kd.figures import training
from kd.tables import cells, paper
from kd.ui.charts import chart
from kd.ui.shell import error_boundary

st.title("The paper's table, run again", anchor=False)
st.markdown(
    "Distillation became known by a paper of 2015 ([Hinton, Vinyals & Dean](https://arxiv.org/abs/1503.02531)). Its section 3 tries it on MNIST: "
    "a large teacher, a small student, students that never saw a 3. Here each of these experiments stands beside what this program measured."
)
result = error_boundary.load_or_tell(paper.load)
if result is None:
    st.stop()


def shown(line: dict, of: dict | None) -> str:
    """Mean and standard deviation, with the unit where it is not errors."""
    if not of:
        return ""
    unit = "" if line["unit"] == "errors" else " " + line["unit"]
    return cells.shown(of, 1, unit)


def significant(line: dict) -> str:
    tests = line.get("mcnemar", [])
    return f"{sum(test['p'] < 0.05 for test in tests)} of {len(tests)}" if tests else ""


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
            help="Mean and standard deviation over the seeds; errors on the 10,000 test images, or percent."
        ),
        "control": st.column_config.TextColumn(
            help="The same student, same seed and batches, taught by the labels alone."
        ),
        "beyond chance": st.column_config.TextColumn(
            help="In how many seeds McNemar's test tells student and control apart (p < 0.05)."
        ),
    },
)
minutes = result["core_minutes"]
st.caption(
    f"{result['seeds']} seeds. All were trained on the 60,000 training images, by teachers of their own, as in the paper; nothing was chosen on the "
    f"test set. {minutes['teachers']:.0f} core-minutes of training for the teachers, {minutes['students']:.0f} for the students "
    f"({result['machine']}). Made by `{result['command']}`."
)
students = paper.curve(result)
if students:
    st.header("Which temperature?", anchor=False)
    st.markdown(
        "A student of only 30 units cannot follow everything that a high temperature shows of the teacher. The paper found that T of 2.5 to 4 "
        "served it best; large students do not mind."
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
