"""Show text that a person wrote exactly as it is: without HTML, Markdown, or pictures from elsewhere."""

from __future__ import annotations

import re

# In a single line. Streamlit adds to Markdown: $formula$, :red[colours], :emoji: and links without brackets.
_MEANS_SOMETHING = re.compile(
    r"[\\`*\[\]<~$]|(?<!\w)_|_(?!\w)|:(?=\S)|&(?=[#\w])|(?<=www)\.|^[#+>=-]", re.IGNORECASE
)
_NUMBERED = re.compile(r"^(\d+)([.)])")


def plain(text: object) -> str:
    """Return ``text`` as one line, escaped for Streamlit's Markdown: headings, captions, messages, labels."""
    return _NUMBERED.sub(r"\1\\\2", _MEANS_SOMETHING.sub(r"\\\g<0>", " ".join(str(text).split())))
