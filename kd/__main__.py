"""``python -m kd`` and the command ``kd``: see kd.cli.main."""

import os
import signal
import sys
from types import FrameType


def main() -> int:
    """Run the command line and return its exit code."""
    before = signal.signal(signal.SIGINT, _end)  # importing PyTorch takes seconds
    from kd.cli import main as cli

    signal.signal(signal.SIGINT, before)
    return cli.main()


def _end(number: int, frame: FrameType | None) -> None:
    """End the process at once: an exception in the middle of an import could be lost or misread."""
    os.write(2, b"kd: stopped; nothing was stored.\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
