"""What a person can mend is told in its own sentence, wherever on a page it comes up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import streamlit as st

from kd.errors import UserError
from kd.ui.shell.escape import plain


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Shows a UserError in place of what would have come. Around a page, and around each fragment: those run without their page."""
    try:
        yield
    except UserError as error:
        st.error(plain(error))
