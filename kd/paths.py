"""Every folder and file that the program reads or writes. No other module uses ``__file__``."""

from __future__ import annotations

import os
import re
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).parent
#: The folder that has kd/: a clone of the repository, or the site-packages of an installation.
ROOT = PACKAGE.parent

#: Files that ship with the package. Only the commands that produce them write them.
MEASURED = PACKAGE / "measured"  # results that the tables and pages show
WEIGHTS = PACKAGE / "teachers" / "weights"  # the shipped teachers
RECORDED = PACKAGE / "store" / "recorded"  # a run to replay while there is no other
VALIDATION_IDS = PACKAGE / "data" / "validation_ids.txt"
EXPORT_SCRIPT = PACKAGE / "export" / "script.py"  # goes into an exported archive as classify.py
FRONTEND = PACKAGE / "ui" / "frontend"  # JavaScript, CSS and the npm packages
MAIN_SCRIPT = PACKAGE / "ui" / "main.py"  # Streamlit runs it for each visitor


def page(name: str) -> Path:
    """Return the file of the page called ``name``, such as "distil"."""
    return ROOT / "pages" / f"{name}.py"


def home() -> Path:
    """Return the folder of the runs.

    ``$KD_HOME``; else ``runs`` in a clone of the repository; else, if kd was installed without one,
    the user's data folder.
    """
    if folder := os.environ.get("KD_HOME"):
        return Path(folder)
    if (ROOT / "app.py").exists():
        return ROOT / "runs"
    return Path(platformdirs.user_data_dir("kd-live")) / "runs"


def data_folder() -> Path:
    """Return the folder of the data sets: ``$KD_DATA_DIR``, else a folder in cache_folder()."""
    return Path(os.environ.get("KD_DATA_DIR") or cache_folder() / "data")


def data_folder_is_named() -> bool:
    """Return whether $KD_DATA_DIR names the folder of the data sets."""
    return bool(os.environ.get("KD_DATA_DIR"))


def cache_folder() -> Path:
    """Return the folder of what can be computed again: ``$KD_CACHE_DIR``, else the user's cache folder."""
    return Path(os.environ.get("KD_CACHE_DIR") or platformdirs.user_cache_dir("kd-live"))


def without_folders(text: str) -> str:
    """Return a message with the program's folders called by their names, such as $KD_HOME/searches."""
    named = {
        home(): "$KD_HOME",
        data_folder(): "$KD_DATA_DIR",
        cache_folder(): "$KD_CACHE_DIR",
        PACKAGE: "kd",
        ROOT: "the installation",
        Path(os.path.expanduser("~")): "~",
    }
    # The innermost first: one folder can be in another.
    for folder, name in sorted(named.items(), key=lambda entry: -len(str(entry[0]))):
        if folder.is_absolute() and folder != Path(folder.anchor):
            text = re.sub(rf"(?<![\w/.-]){re.escape(str(folder))}(?![\w-])", name, text)
    return text
