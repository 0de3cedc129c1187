"""Compare stored runs: what each network costs, how accurate it is, and which to choose."""

import runpy

runpy.run_module("kd.ui.compare.page")
