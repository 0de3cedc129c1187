"""The dark-knowledge lab: experiments that show why soft targets teach more than labels."""

from kd.ui.lab import page

page.show()
