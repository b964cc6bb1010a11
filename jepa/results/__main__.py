"""``python -m jepa.results``, and the console script ``jepa-results``."""

import sys

from jepa.results.cli import main

if __name__ == "__main__":
    sys.exit(main())
