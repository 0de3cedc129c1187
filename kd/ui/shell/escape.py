"""Show text that a person wrote exactly as it is: without HTML, Markdown, or pictures from elsewhere."""

from __future__ import annotations

import re

from kd import paths

# What has a meaning in one line of Markdown. Streamlit adds $formula$, :red[colours], :emoji: and bare links.
_MEANS_SOMETHING = re.compile(r"[\\`*\[\]<~$]|(?<!\w)_|_(?!\w)|:(?=\S)|&(?=[#\w])|^[#+>=-]")
_NUMBERED = re.compile(r"^(\d+)([.)])")
# Streamlit looks for :emoji:, :material/icons: and addresses of pages and mail in the text that is left
# once the backslashes are gone, so an invisible character (a word joiner) breaks these up.
_FOUND_LATER = re.compile(r":(?=[\w+-]+:|material/|//)|(?<=www)(?=\.)|(?<=[\w.+-])@(?=[\w-])", re.IGNORECASE)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def plain(text: object) -> str:
    """Return ``text`` as one line, escaped for Streamlit's Markdown: headings, captions, messages, labels.

    Folders of the server are called by their names, such as $KD_HOME: visitors need not know where they are.
    """
    line = _FOUND_LATER.sub("\\g<0>\u2060", " ".join(paths.without_folders(str(text)).split()))
    return _NUMBERED.sub(r"\1\\\2", _MEANS_SOMETHING.sub(r"\\\g<0>", line))


def cell(text: str) -> str:
    """Return ``text`` for a table that can be downloaded as CSV, where no spreadsheet takes it for a formula.

    Source: OWASP, "CSV Injection".
    """
    return f"'{text}" if text.startswith(_FORMULA) else text
