"""How teacher, student and control are marked and coloured."""

from __future__ import annotations

from kd.figures import base

MARKS = base.Roles({"teacher": "◆", "student": "●", "control": "▲"}, other="■")


STREAMLIT_COLOURS = base.Roles({"teacher": "blue", "student": "orange", "control": "gray"}, other="green")
