"""All methods: what each does, from which paper, and how it fares beside its control."""

import streamlit as st

from kd.config.distil import DistilConfig
from kd.objectives import METHODS, Method
from kd.tables import cells, comparison, distilbert, schemes
from kd.ui.shell import error_boundary

st.title("Every method, side by side", anchor=False)
st.markdown(
    "A method says what the student learns: from the teacher's **answers**, from its **hidden layers**, from how images lie to each other "
    "for it (**relations**), or, without a teacher, from **labels** that are softened. Choose one under *Method* on the **Distil** page."
)
measured = error_boundary.load_or_tell(comparison.load)


def family(method: Method) -> str:
    if not method.teacher:
        return "labels"
    return (
        "answers"
        if not method.looks
        else "hidden layers"
        if method.projection or method.looks == "maps"
        else "relations"
    )


def row(method: Method) -> dict[str, str]:
    line = {"method": method.title, "learns from": family(method)}
    if measured and method.name in measured["methods"]:
        of = measured["methods"][method.name]
        line |= {column: comparison.shown(of.get(key)) for column, key in COLUMNS.items()}
    settings = [DistilConfig.setting(name)["label"].lower() for name in method.settings]
    return line | {
        "what it does": method.purpose,
        "paper": method.paper,
        "settings": ", ".join(settings),
        "--method": method.name,
    }


COLUMNS = (
    {f"{measured['labels']} labels": "few", "without soft targets": "alone", "all labels": "all"}
    if measured
    else {}
)
told = "Test images that it reads right in percent, mean ± standard deviation over the seeds, and in brackets the gain over the control."
st.dataframe(
    [row(method) for method in METHODS.values()],
    hide_index=True,
    width="stretch",
    height="content",
    column_config={column: st.column_config.TextColumn(help=told) for column in COLUMNS}
    | {
        "what it does": st.column_config.TextColumn(width="large"),
        "--method": st.column_config.TextColumn(help="Its name on the command line."),
    },
)
if measured:
    control = {column: cells.shown(of, unit="%") for column, of in measured["control"].items()}
    st.caption(
        f"The student is {measured['student']}, trained for {measured['epochs']} epochs at the default settings, with {measured['seeds']} seeds. "
        f"Its control, the same network taught by the labels alone, reads {control['few']} right with {measured['labels']} labels and {control['all']} "
        f"with all; the teacher reads {measured['teacher']:.2f}%. Without soft targets the teacher's answers are left out, and all that it teaches comes "
        f"from its hidden layers. {measured['core_minutes']:.0f} core-minutes ({measured['machine']}). Made by `{measured['command']}`."
    )
else:
    st.caption(f"Their accuracies are measured by `{comparison.COMMAND}`.")

who = error_boundary.load_or_tell(schemes.load)
if who:
    st.header("Who teaches whom", anchor=False)
    st.markdown(
        "A *scheme* says who the teacher is. All but the first three have no big teacher: the student's own kind teaches it. Choose one under *Scheme* on the **Distil** page."
    )
    st.dataframe(
        [
            {
                "scheme": title,
                **{
                    column: comparison.shown(of[key])
                    for column, key in ((f"{who['labels']} labels", "few"), ("all labels", "all"))
                },
            }
            for title, of in who["schemes"].items()
        ],
        hide_index=True,
        width="stretch",
        column_config={
            f"{who['labels']} labels": st.column_config.TextColumn(help=told),
            "all labels": st.column_config.TextColumn(help=told),
        },
    )
    control = {column: cells.shown(of, unit="%") for column, of in who["control"].items()}
    st.caption(
        f"All learn by soft targets; the student is {who['student']}, each stage {who['epochs']} epochs, {who['seeds']} seeds. The control, the same network taught by the "
        f"labels alone, reads {control['few']} right with {who['labels']} labels and {control['all']} with all. Schemes of several stages train longer than it. "
        f"{who['core_minutes']:.0f} core-minutes ({who['machine']}). Made by `{who['command']}`."
    )

halved = error_boundary.load_or_tell(distilbert.load)
if halved:
    st.header("DistilBERT's recipe, on images", anchor=False)
    st.markdown(
        "DistilBERT ([Sanh et al. 2019](https://arxiv.org/abs/1910.01108)) halves a Transformer: the student begins with every second layer of its teacher and learns "
        f"from soft targets at T = 2, from labels, and from the direction of the last hidden layer. Here `{distilbert.TEACHER}` is halved to `{distilbert.STUDENT}`."
    )
    st.dataframe(
        [
            {"the student": what, "ours": ours, "DistilBERT, of BERT": paper}
            for what, ours, paper in distilbert.summary(halved)
        ],
        hide_index=True,
    )
    begun = {"inherited": "the teacher's layers", "random": "random weights"}
    st.dataframe(
        [
            {
                "begun with": "itself the teacher",
                "network": distilbert.TEACHER,
                "% right": f"{halved['teacher']['accuracy']:.2f}",
                "its control": "",
            }
        ]
        + [
            {
                "begun with": begun[row],
                "network": distilbert.STUDENT,
                "% right": cells.shown(of),
                "its control": cells.shown(of["control"]),
            }
            for row, of in halved["rows"].items()
        ],
        hide_index=True,
    )
    st.caption(
        f"On the test set; {halved['seeds']} seed{'s' if halved['seeds'] > 1 else ''}, {halved['epochs']} epochs, {halved['core_minutes']:.0f} core-minutes "
        f"({halved['machine']}). Throughput is at {distilbert.BATCH} images at once. Made by `{halved['command']}`."
    )
