"""Compare stored runs: what each network costs, how accurate it is, and which to choose."""

from kd.ui.compare import page

page.show()
