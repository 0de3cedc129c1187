"""Many students at once: all combinations of some settings, or a search that proposes the next ones."""

from kd.ui.sweep import page

page.show()
