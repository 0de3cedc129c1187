"""Show text that a person wrote exactly as it is: without HTML, Markdown, or pictures from elsewhere."""

from __future__ import annotations

import re

# What has a meaning in one line of Markdown. Streamlit adds $formula$, :red[colours], :emoji: and bare links.
_MEANS_SOMETHING = re.compile(
    r"[\\`*\[\]<~$]|(?<!\w)_|_(?!\w)|:(?=\S)|&(?=[#\w])|(?<=www)\.|^[#+>=-]", re.IGNORECASE
)
_NUMBERED = re.compile(r"^(\d+)([.)])")


def plain(text: object) -> str:
    """Return ``text`` as one line, escaped for Streamlit's Markdown: headings, captions, messages, labels."""
    return _NUMBERED.sub(r"\1\\\2", _MEANS_SOMETHING.sub(r"\\\g<0>", " ".join(str(text).split())))
