"""`python -m sam3_image.batch`: the same as `sam3-image batch`."""

import sys

from sam3_image.shipped import missing_module

if __name__ == "__main__":
    try:
        from sam3_image.batch.command import main
    except ModuleNotFoundError as error:
        advice = missing_module(error.name)
        if advice is None:
            raise
        print(f"batch: {advice}", file=sys.stderr)
        sys.exit(2)
    sys.exit(main(sys.argv[1:]))
