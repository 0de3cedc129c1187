"""Choose teacher, student and temperature, and watch the student learn next to its control."""

from kd.ui.distil import page

page.show()
