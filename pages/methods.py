"""All methods: what each does, from which paper, and its accuracy next to its control's."""

from kd.ui.methods import page

page.show()
