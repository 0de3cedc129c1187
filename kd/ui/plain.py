"""Plain words: what went wrong as a sentence, and what people wrote letter by letter."""

from __future__ import annotations

import contextlib
import re
from typing import Iterator

import streamlit as st

from kd.errors import UserError

# In a single line. Streamlit adds to Markdown: $formula$, :red[colours], :emoji: and links without brackets.
_MEANS_SOMETHING = re.compile(r"[\\`*\[\]<~$]|(?<!\w)_|_(?!\w)|:(?=\S)|&(?=[#\w])|(?<=www)\.|^[#+>=-]", re.IGNORECASE)
_NUMBERED = re.compile(r"^(\d+)([.)])")


def plain(text: object) -> str:
    """``text``, as one line, for where Streamlit reads Markdown (headings, captions, messages, labels): as neither HTML nor Markdown, nor a picture fetched from elsewhere."""
    return _NUMBERED.sub(r"\1\\\2", _MEANS_SOMETHING.sub(r"\\\g<0>", " ".join(str(text).split())))


@contextlib.contextmanager
def plainly() -> Iterator[None]:
    """Shows a UserError in place of what would have come. Around a page, and around each fragment: those run without their page."""
    try:
        yield
    except UserError as error:
        st.error(plain(error))
