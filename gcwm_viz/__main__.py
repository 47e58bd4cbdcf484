"""``python -m gcwm_viz``."""

import sys

from gcwm_viz.cli import main

if __name__ == "__main__":
    sys.exit(main())
