"""Make a trained network smaller with sliders, and fine-tune it with the teacher."""

from kd.ui.compress import page

page.show()
