"""Choose teacher, student and temperature, and watch the student learn beside its control."""

from kd.ui.distil import page

page.show()
