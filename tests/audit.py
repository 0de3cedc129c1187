"""Check the installed packages for known vulnerabilities: make audit.

Uses pip-audit, which queries a database over the network. A vulnerability with a fixed version
fails the check unless it is accepted below with a reason. An unreachable database fails nothing,
because the network is not ours, but is reported clearly.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

SECONDS = 180
#: Id of a vulnerability -> why it does no harm here. Review when the bounds in requirements.txt are raised.
ACCEPTED: dict[str, str] = {}


def ask() -> dict[str, Any] | None:
    """Return pip-audit's report on this environment, or None if it made none."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--local",
        "--format",
        "json",
        "--progress-spinner",
        "off",
        "--timeout",
        "15",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        return json.loads(done.stdout)
    except (subprocess.TimeoutExpired, ValueError):
        return None


def verdict(
    report: Mapping[str, Any] | None, accepted: Mapping[str, str] = ACCEPTED
) -> tuple[list[str], int]:
    """Return the messages about a report, and the exit code."""
    if report is None:
        return ["NOT AUDITED: the vulnerability database could not be reached. Try again with a network."], 0
    packages = report["dependencies"]
    asked = [package for package in packages if "skip_reason" not in package]
    lines, code = [f"{len(asked)} of {len(packages)} packages were audited."], 0
    if len(asked) < len(packages) / 2:
        lines[0] = (
            f"NOT AUDITED: the vulnerability database knew only {len(asked)} of {len(packages)} packages. "
            "Check that it is the real one."
        )
    for package in asked:
        for found in package["vulns"]:
            names = {found["id"], *found.get("aliases", ())}
            what = f"{package['name']} {package['version']}: {', '.join(sorted(names))}"
            reason = next((accepted[name] for name in sorted(names) if name in accepted), None)
            if reason:
                lines.append(f"accepted  {what}: {reason}")
            elif found["fix_versions"]:
                fixed = ", ".join(found["fix_versions"])
                lines.append(
                    f"FAILS     {what}, fixed in {fixed}: raise the bound in requirements.txt, or accept it "
                    "with a reason in tests/audit.py."
                )
                code = 1
            else:
                lines.append(f"no fix    {what}")
    return lines, code


if __name__ == "__main__":
    told, code = verdict(ask())
    print("\n".join(told))
    sys.exit(code)
