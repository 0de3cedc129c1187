"""Hinton's table: the paper's experiments on MNIST, repeated by this program."""

from kd.ui.paper import page

page.show()
