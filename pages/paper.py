"""Hinton's table: the paper's experiments on MNIST, repeated by this program."""

import runpy

runpy.run_module("kd.ui.paper.page")
