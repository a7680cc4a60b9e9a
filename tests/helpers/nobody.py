"""A child process as a hardened container starts it: a uid without a name, and no HOME."""

from __future__ import annotations

import os
from pathlib import Path

UID = 12345
NAMES = ("USER", "LOGNAME", "LNAME", "USERNAME", "HOME")
# Reads everything (the tests' Python may lie in somebody's home), writes only what is UID's own.
SETPRIV = (
    *("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--no-new-privs"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)
NO_NAME = """
import pwd
def getpwuid(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = getpwuid
"""


def as_nobody(command: list[str]) -> list[str]:
    """The command under UID where these tests run as root, else under their own uid."""
    return [*SETPRIV, *command] if os.geteuid() == 0 else command


def environment(folder: Path, *packages: Path) -> dict[str, str]:
    """For Python as somebody without a name or a home. packages: folders to import from.

    folder: for the module that hides the names of users.
    """
    (folder / "sitecustomize.py").write_text(NO_NAME)
    kept = {name: value for name, value in os.environ.items() if name not in NAMES}
    kept = {name: value for name, value in kept.items() if not name.startswith(("HF_", "SAM3_"))}
    kept["PYTHONPATH"] = os.pathsep.join(str(path) for path in (folder, *packages))
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
