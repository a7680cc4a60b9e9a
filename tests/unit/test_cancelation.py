"""A cancel that hits a thread being born ends the prediction instead of hanging the server.

The race itself is run over HTTP in `test_interruptions.py`; here the unlucky moment is made to
happen.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

from tests.helpers.cog_server import REPOSITORY

STILLBORN = textwrap.dedent(
    """
    import threading
    from sam3_image.serving.cog_adapter import _survive_cancelation

    class Cancel(BaseException):
        pass

    class Stillborn(threading.Thread):
        def _bootstrap(self):  # what a new thread runs first; the cancel comes before its word
            raise Cancel

    _survive_cancelation(Cancel)
    try:
        Stillborn().start()  # without the above, this waits for ever
        for _ in range(1_000_000):
            pass
        print("went on as if nothing had been")
    except Cancel:
        print("cancelled")
    thread = threading.Thread(target=print, args=("and threads still start",))
    thread.start()
    thread.join()
    """
)


def test_the_parent_of_a_cancelled_newborn_is_cancelled() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STILLBORN],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "cancelled\nand threads still start\n", done.stderr[-2000:]
