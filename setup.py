"""What `pyproject.toml` cannot say: the files from outside the package that a wheel carries in it.

`sam3_image/shipped.py` finds them in a clone and in a wheel.
"""

import json
import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithFiles(build_py):
    """Adds the demo checkpoint, the example image, and the predictor with its schema for Cog."""

    def run(self) -> None:
        """Build, then add the files."""
        if self.editable_mode:  # the clone's own are found
            super().run()
            return
        target = Path(self.build_lib, "sam3_image")
        shutil.rmtree(target, ignore_errors=True)  # modules that are no more, from an older build
        super().run()
        shutil.copytree(ROOT / "weights" / "demo", target / "demo")
        shutil.copy(ROOT / "examples" / "shapes.png", target)
        (target / "predictor" / ".cog").mkdir(parents=True)
        shutil.copy(ROOT / "predict.py", target / "predictor")
        sys.path.insert(0, str(ROOT))  # an isolated build does not see this folder
        from tools.cog_schema.openapi import document
        from tools.cog_schema.signature import read_signature

        source = (ROOT / "predict.py").read_text(encoding="utf-8")
        schema = target / "predictor" / ".cog" / "openapi_schema.json"
        schema.write_text(json.dumps(document(read_signature(source))), encoding="utf-8")


setup(cmdclass={"build_py": BuildWithFiles})
