"""A project folder without write access, used by another user: every page works, and says what it cannot."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from kd import paths

NOBODY = 65534
#: Opens each page, and a run that cannot be stored; prints what the pages say.
VISIT = """
import json, secrets
from pathlib import Path
from streamlit.testing.v1 import AppTest
from kd import paths
from kd.config.distil import DistilConfig
from kd.ui.shell import session_keys, shared

said = {"root": str(paths.ROOT)}
for page in sorted(path.stem for path in (paths.ROOT / "pages").glob("*.py")):
    at = AppTest.from_file(str(paths.MAIN_SCRIPT), default_timeout=120)
    at.session_state[session_keys.OWNER] = "me" * 20
    at = at.switch_page(str(paths.page(page))).run()
    said[page] = {"exceptions": [e.message for e in at.exception], "errors": [e.value for e in at.error]}
manager = shared.manager()
id = manager.start(DistilConfig(student="linear", epochs=1, batch_size=1000), "me" * 20)
while (snap := manager.snapshot(id, "me" * 20)).active:
    pass
said["run"] = [snap.state, snap.saved, snap.message]
manager.close()
print(json.dumps(said))
"""


@pytest.fixture
def project() -> Iterator[Path]:
    """Return a copy of the program that nobody but root can write to."""
    folder = Path(tempfile.mkdtemp())
    copy = folder / "project"
    copy.mkdir()
    for name in ("kd", "pages", ".streamlit"):
        left_out = shutil.ignore_patterns("node_modules", "__pycache__", "*.pyc")
        shutil.copytree(paths.ROOT / name, copy / name, ignore=left_out)
    shutil.copy(paths.ROOT / "app.py", copy)
    for path in [folder, copy, *copy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield copy
    for path in [folder, copy, *copy.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)


def another_user() -> list[str]:
    """Return the command before a command that runs it as another user, who may read everything.

    Only root can do that; for others the missing rights to write are enough.
    """
    if os.geteuid() != 0:
        return []
    read = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *read]


def test_pages_work_for_another_user_without_write_access(project: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KD_")}
    environment |= {"HOME": "/nonexistent", "http_proxy": nowhere, "https_proxy": nowhere}
    python = [*another_user(), sys.executable]
    try:
        subprocess.run([*python, "-c", "import torch"], env=environment, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let another user run Python: {error}")
    done = subprocess.run(
        [*python, "-c", VISIT], cwd=project, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said.pop("root") == str(project)
    state, saved, message = said.pop("run")
    assert (state, saved) == ("done", False) and "set KD_HOME" in message, message
    assert len(said) == 9
    for page, told in said.items():
        assert told == {"exceptions": [], "errors": []}, page
    assert not list(project.rglob("__pycache__")) and not (project / "runs").exists()
