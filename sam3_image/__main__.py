"""`python -m sam3_image` is the command `sam3-image`."""

import sys

from sam3_image.cli import main

if __name__ == "__main__":
    sys.exit(main())
