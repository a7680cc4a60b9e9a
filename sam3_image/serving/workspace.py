"""One folder in which a server's downloads and results live, and nothing outlives its use.

Cog writes each downloaded input to the temporary folder of the process and reads a result after
`predict()` has returned, from wherever it lies. It deletes neither a download that broke off nor a
result. So each request gets a folder of its own for its result, results are deleted a minute after
they were returned, and what nobody claims is deleted by its age.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sam3_image.errors import OutputError

# A result deleted before Cog has read it would be answered as null, under "succeeded".
GRACE_SECONDS = 60
# A download that goes on was written to more recently: Cog gives up after 10 s without data.
STALLED_SECONDS = 15
# While one goes on, other files may be complete and wait for it: a request can have two. Else what
# no request uses was left behind, as by a cancel that Cog carried out during the download.
ORPHAN_SECONDS = 300


class Workspace:
    """A private folder, gone when this object or the process ends.

    folder: its path. Others may remove it while we live (cleaners of /tmp do): every method that
        needs it makes it again.
    """

    def __init__(self, grace: float = GRACE_SECONDS, orphaned: float = ORPHAN_SECONDS) -> None:
        """Make the folder; raises OutputError where none can be made.

        grace: seconds for which a result stays once it was returned, and a file that no request
        uses after its last change. orphaned: for which the latter stays during a download.
        """
        try:
            self.folder = Path(tempfile.mkdtemp(prefix="sam3-image-"))
        except OSError as error:
            raise _unwritable(tempfile.tempdir or "the temporary folder", error) from None
        self._grace = grace
        self._orphaned = orphaned
        self._lock = threading.Lock()
        self._in_use: set[Path] = set()
        self._returned: dict[Path, float] = {}
        self._end = weakref.finalize(self, _remove, self.folder)

    def usable(self) -> bool:
        """Whether files can be written here; a folder that vanished is made again."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            return False
        return os.access(self.folder, os.W_OK | os.X_OK)

    def hold(self, paths: Iterable[Path]) -> None:
        """Keep the inputs of a request that waits, however old they become."""
        with self._lock:
            self._in_use.update(paths)

    def release(self, paths: Iterable[Path]) -> None:
        """Undo `hold`."""
        with self._lock:
            self._in_use.difference_update(paths)

    @contextmanager
    def result_folder(self) -> Iterator[Path]:
        """Give a fresh, empty folder for one result; raises OutputError.

        Where the block ends well the folder stays for the time of grace, else it goes at once:
        half a result on a full disk helps nobody.
        """
        self.usable()
        try:
            folder = Path(tempfile.mkdtemp(prefix="result-", dir=self.folder))
        except OSError as error:
            raise _unwritable(self.folder, error) from None
        self.hold([folder])
        try:
            yield folder
            with self._lock:
                self._returned[folder] = time.monotonic()
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            self.release([folder])

    def sweep(self) -> None:
        """Remove results whose time is over, and files that nobody uses and nobody writes to."""
        now = time.monotonic()
        with self._lock:
            over = {path for path, at in self._returned.items() if now - at >= self._grace}
            for path in over:
                del self._returned[path]
            kept = self._in_use | set(self._returned)
        for path in over:
            shutil.rmtree(path, ignore_errors=True)
        ages = _ages(self.folder, kept)
        downloading = any(age < STALLED_SECONDS for age in ages.values())
        oldest = self._orphaned if downloading else self._grace
        for path, age in ages.items():
            if age > oldest:
                _delete(path)

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        self._end()


def _ages(folder: Path, kept: set[Path]) -> dict[Path, float]:
    """Seconds since the last change of each entry of the folder, except those in `kept`."""
    now, found = time.time(), {}
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path not in kept:
                with contextlib.suppress(OSError):
                    found[path] = now - path.lstat().st_mtime
    return found


def _delete(entry: Path) -> None:
    if entry.is_dir() and not entry.is_symlink():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            entry.unlink()


def _remove(folder: Path) -> None:
    if tempfile.tempdir == str(folder):
        tempfile.tempdir = None  # whoever goes on in this process gets the system's again
    shutil.rmtree(folder, ignore_errors=True)


def _unwritable(folder: Path | str, error: OSError) -> OutputError:
    return OutputError(
        f"Temporary files cannot be written to {folder} ({error.strerror or error}): free some "
        "disk space there, make it writable, or set TMPDIR to another folder."
    )
