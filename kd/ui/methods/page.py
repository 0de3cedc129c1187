"""The Methods page: what each method and scheme does, and its accuracy next to its control's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from kd.config.distil import DistilConfig
from kd.config.glossary import TERMS
from kd.objectives import METHODS, Method
from kd.tables import cells, distilbert, methods, schemes
from kd.ui.shell import error_boundary

_ACCURACY_HELP = (
    "Test accuracy in percent, mean ± standard deviation over the seeds; in brackets the gain over the "
    "control."
)


def show() -> None:
    """Draw the whole page."""
    st.title("Every method, side by side", anchor=False)
    st.markdown(
        "A method says what the student learns from: the teacher's **answers**, its **hidden layers**, the "
        "distances between images (**relations**), or, without a teacher, softened **labels**. "
        "Choose one under *Method* on the **Distil** page."
    )
    _methods(error_boundary.load_or_tell(methods.load))
    if measured := error_boundary.load_or_tell(schemes.load):
        _schemes(measured)
    if measured := error_boundary.load_or_tell(distilbert.load):
        _distilbert(measured)


def _in_percent(measured: Mapping[str, Any]) -> dict[str, str]:
    """Return a control's accuracies, formatted for a sentence."""
    return {column: cells.shown(statistic, unit="%") for column, statistic in measured.items()}


# -- methods -----------------------------------------------------------------------------


def _methods(measured: Mapping[str, Any] | None) -> None:
    columns = {}
    if measured:
        columns = {
            f"{measured['labels']} labels": "few",
            "without soft targets": "alone",
            "all labels": "all",
        }
    st.dataframe(
        [_row(method, measured, columns) for method in METHODS.values()],
        hide_index=True,
        width="stretch",
        height="content",
        column_config={column: st.column_config.TextColumn(help=_ACCURACY_HELP) for column in columns}
        | {
            "what it does": st.column_config.TextColumn(width="large"),
            "--method": st.column_config.TextColumn(help="Its name on the command line."),
        },
    )
    if not measured:
        st.caption(f"To measure their accuracies, run `{methods.COMMAND}`.")
        return
    control = _in_percent(measured["control"])
    st.caption(
        f"The student is {measured['student']}, trained for {measured['epochs']} epochs at the default "
        f"settings, with {measured['seeds']} seeds. The control, the same network trained on the labels "
        f"alone, reaches {control['few']} with {measured['labels']} labels and {control['all']} with all; "
        f"the teacher reaches {measured['teacher']:.2f}%. Without soft targets, the student learns only from "
        f"the teacher's hidden layers. {measured['core_minutes']:.0f} core-minutes ({measured['machine']}). "
        f"Made by `{measured['command']}`."
    )


def _row(method: Method, measured: Mapping[str, Any] | None, columns: Mapping[str, str]) -> dict[str, str]:
    row = {"method": method.title, "learns from": _family(method)}
    if measured and method.name in measured["methods"]:
        accuracies = measured["methods"][method.name]
        row |= {column: methods.shown(accuracies.get(key)) for column, key in columns.items()}
    settings = [DistilConfig.setting(name)["label"].lower() for name in method.settings]
    return row | {
        "what it does": method.purpose,
        "paper": method.paper,
        "settings": ", ".join(settings),
        "--method": method.name,
    }


def _family(method: Method) -> str:
    """Return what a student learns from by this method."""
    if not method.teacher:
        return "labels"
    if not method.feature_view:
        return "answers"
    return "hidden layers" if method.projection or method.feature_view == "maps" else "relations"


# -- schemes -----------------------------------------------------------------------------


def _schemes(measured: Mapping[str, Any]) -> None:
    st.header("Who teaches whom", anchor=False)
    st.markdown(
        "A *scheme* says who the teacher is. All but the first three need no large teacher: the student "
        "learns from networks of its own kind. Choose one under *Scheme* on the **Distil** page."
    )
    columns = {f"{measured['labels']} labels": "few", "all labels": "all"}
    st.dataframe(
        [
            {"scheme": title, **{column: methods.shown(row[key]) for column, key in columns.items()}}
            for title, row in measured["schemes"].items()
        ],
        hide_index=True,
        width="stretch",
        column_config={column: st.column_config.TextColumn(help=_ACCURACY_HELP) for column in columns},
    )
    control = _in_percent(measured["control"])
    st.caption(
        f"All learn from soft targets. The student is {measured['student']}, trained for "
        f"{measured['epochs']} epochs per stage with {measured['seeds']} seeds. The control, the same "
        f"network trained on the labels alone, reaches {control['few']} with {measured['labels']} labels "
        f"and {control['all']} with all. Schemes with several stages train longer than the control. "
        f"{measured['core_minutes']:.0f} core-minutes ({measured['machine']}). Made by "
        f"`{measured['command']}`."
    )


# -- DistilBERT --------------------------------------------------------------------------


def _distilbert(measured: Mapping[str, Any]) -> None:
    st.header("DistilBERT's recipe, on images", anchor=False)
    st.markdown(
        "DistilBERT ([Sanh et al. 2019](https://arxiv.org/abs/1910.01108)) halves a Transformer: the "
        "student begins with every second layer of its teacher and learns from soft targets at T = 2, from "
        f"labels, and from the direction of the last hidden layer. Here `{distilbert.TEACHER}` is halved to "
        f"`{distilbert.STUDENT}`."
    )
    st.dataframe(
        [
            {"the student": what, "ours": ours, "DistilBERT vs BERT": paper}
            for what, ours, paper in distilbert.summary(measured)
        ],
        hide_index=True,
    )
    start = {"inherited": "the teacher's layers", "random": "random weights"}
    teacher = {
        "initialised with": "",
        "network": f"{distilbert.TEACHER} (teacher)",
        "accuracy in %": f"{measured['teacher']['accuracy']:.2f}",
        "control in %": "",
    }
    students = [
        {
            "initialised with": start[row],
            "network": distilbert.STUDENT,
            "accuracy in %": cells.shown(statistic),
            "control in %": cells.shown(statistic["control"]),
        }
        for row, statistic in measured["rows"].items()
    ]
    st.dataframe(
        [teacher, *students],
        hide_index=True,
        column_config={"its control": st.column_config.TextColumn(help=TERMS["control"])},
    )
    st.caption(
        f"On the test set; {measured['seeds']} seed{'s' if measured['seeds'] > 1 else ''}, "
        f"{measured['epochs']} epochs, {measured['core_minutes']:.0f} core-minutes ({measured['machine']}). "
        f"Throughput is measured on batches of {distilbert.BATCH} images. Made by `{measured['command']}`."
    )
