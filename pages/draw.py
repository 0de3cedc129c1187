"""One picture, and the answers of teacher, student and control to it, at any temperature."""

from kd.ui.drawing import page

page.show()
