"""The companions of distillation: a trained network made smaller by sliders, and recovered with its teacher."""

from kd.ui.compress import page

page.show()
