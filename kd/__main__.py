"""``python -m kd``: see kd.cli.main."""

import sys

from kd.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
