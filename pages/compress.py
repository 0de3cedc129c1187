"""Make a trained network smaller by sliders, and recover its accuracy with the teacher."""

from kd.ui.compress import page

page.show()
