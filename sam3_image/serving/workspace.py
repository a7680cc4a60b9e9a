"""One folder in which a server's downloads and results live, and nothing outlives its use.

Cog writes each downloaded input to the temporary folder of the process and reads our result from
wherever it lies, but deletes neither a download that broke off nor a result. With a folder of our
own as that temporary folder, whatever is in it when a request begins is left over and can go.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import weakref
from pathlib import Path

from sam3_image.errors import OutputError

# A download still going on was written to more recently: Cog gives up after 10 s without data.
STALE_SECONDS = 30


class Workspace:
    """A private folder, gone when this object or the process ends.

    folder: its path. Others may remove it while we live (cleaners of /tmp do): every method that
        needs it makes it again.
    """

    def __init__(self) -> None:
        """Raises OutputError where no folder for temporary files can be written."""
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="sam3-image-"))
        except OSError as error:
            raise _unwritable(tempfile.tempdir or "the temporary folder", error) from None
        self._end = weakref.finalize(self, _remove, self.folder)

    def take_downloads(self) -> None:
        """Make this the temporary folder of the process, so that Cog downloads into it."""
        tempfile.tempdir = str(self.folder)

    def usable(self) -> bool:
        """Whether files can be written here; a folder that vanished is made again."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self.folder, os.W_OK | os.X_OK)

    def clear(self, keep: tuple[object, ...] = ()) -> None:
        """Remove everything but the files `keep`, inputs of the request that now begins."""
        try:
            entries = list(self.folder.iterdir())
        except OSError:
            return
        for entry in entries:
            if entry in (file for file in keep if isinstance(file, Path)):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove downloads that broke off, while no request runs.

        A download that filled the disk would otherwise stay: no later one succeeds, so no later
        request begins that would clear the folder.
        """
        oldest = time.time() - STALE_SECONDS
        with contextlib.suppress(OSError):
            for entry in self.folder.iterdir():
                if entry.is_file() and entry.stat().st_mtime < oldest:
                    entry.unlink(missing_ok=True)

    def new(self) -> Path:
        """A fresh, empty folder for one result; raises OutputError."""
        self.usable()
        try:
            return Path(tempfile.mkdtemp(prefix="result-", dir=self.folder))
        except OSError as error:
            raise _unwritable(self.folder, error) from None


def _remove(folder: Path) -> None:
    if tempfile.tempdir == str(folder):
        tempfile.tempdir = None  # whoever goes on in this process gets the system's again
    shutil.rmtree(folder, ignore_errors=True)


def _unwritable(folder: Path | str, error: OSError) -> OutputError:
    return OutputError(
        f"Temporary files cannot be written to {folder} ({error.strerror or error}): free some "
        "disk space there, make it writable, or set TMPDIR to another folder."
    )
