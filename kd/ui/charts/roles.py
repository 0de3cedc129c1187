"""How teacher, student and control are marked and coloured."""

from __future__ import annotations

from kd.figures import training

MARKS = training.Roles({"teacher": "◆", "student": "●", "control": "▲"}, other="■")


STREAMLIT_COLOURS = training.Roles({"teacher": "blue", "student": "orange", "control": "gray"}, other="green")
