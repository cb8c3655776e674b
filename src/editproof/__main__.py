"""`python -m editproof`: the command line."""

import sys

from editproof.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
