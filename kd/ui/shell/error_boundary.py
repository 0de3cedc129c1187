"""Show a UserError as a sentence on the page, wherever it is raised."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import streamlit as st

from kd.errors import UserError
from kd.ui.shell.escape import plain

T = TypeVar("T")


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Show a UserError in place of the content that raised it.

    Wrap pages in it, and fragments too, because a fragment reruns without its page.
    """
    try:
        yield
    except UserError as error:
        st.error(plain(error))


def load_or_tell(load: Callable[[], T | None]) -> T | None:
    """Return a stored table; None if there is none. If it is damaged, say so on the page and return None."""
    try:
        return load()
    except UserError as error:
        st.error(plain(error))
        return None
