"""``kd distil``: its help lists all methods."""

from __future__ import annotations

import argparse

from kd.cli.train import Extra
from kd.objectives import METHODS


class Methods(Extra):
    """Adds the methods and their settings to the help."""

    def add_arguments(self, command: argparse.ArgumentParser) -> None:
        """Put the methods below the options."""
        lines = ["methods:"]
        for method in METHODS.values():
            options = " ".join("--" + name.replace("_", "-") for name in method.settings)
            lines += [f"  {method.name:17}{method.purpose}", f"{'':19}{options}"]
        command.epilog = "\n".join(lines)
