"""One picture, and what teacher, student and control make of it, side by side over temperature."""

from kd.ui.drawing import page

page.show()
