"""What a person can mend is told in its own sentence, wherever on a page it comes up."""

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
    """Shows a UserError in place of what would have come. Around a page, and around each fragment: those run without their page."""
    try:
        yield
    except UserError as error:
        st.error(plain(error))


def load_or_tell(load: Callable[[], T | None]) -> T | None:
    """A table that was measured and stored; None where there is none. A damaged one is told in a sentence."""
    try:
        return load()
    except UserError as error:
        st.error(plain(error))
        return None
