"""A run's config.json as it is given away."""

from __future__ import annotations

import json

from kd.store import runs, safe_files


def content(run: runs.Run) -> str:
    """Return the run's config.json without the digest by which the server knows its owner.

    Raises:
        UserError, OSError, ValueError: the file is missing or damaged.
    """
    return json.dumps({**safe_files.read_json(run.file("config.json")), "owner": None}, indent=1)
