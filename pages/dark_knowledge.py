"""The dark-knowledge lab: experiments that show why soft targets teach more than labels."""

import runpy

runpy.run_module("kd.ui.lab.page")
