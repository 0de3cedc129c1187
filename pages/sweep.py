"""Many students at once: all combinations of some settings, or a search that proposes the next ones."""

import runpy

runpy.run_module("kd.ui.sweep.page")
