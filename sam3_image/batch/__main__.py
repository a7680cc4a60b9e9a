"""`python -m sam3_image.batch`, which is what `script/batch` runs."""

import sys

if __name__ == "__main__":
    try:
        from sam3_image.batch.command import main
    except ModuleNotFoundError as error:
        print(
            f"batch: {error.name} is not installed: run script/batch, which installs it, or "
            "install requirements-batch.txt",
            file=sys.stderr,
        )
        sys.exit(2)
    sys.exit(main(sys.argv[1:]))
