"""The stored runs: open, rename, delete, download, and score on your own drawings."""

from kd.ui.runs import page

page.show()
