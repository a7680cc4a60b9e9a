"""The same job over actors of a Ray that it starts itself; clusters: `by_hand/batch_proof.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.batch.test_batch_deaths import finish, pictures, start
from tests.helpers.batch_engines import KILLER
from tests.helpers.batch_run import rows

pytest.importorskip("ray", reason="Ray is not installed (requirements-batch.txt)")


def test_every_image_has_its_row_and_the_killer_an_error(tmp_path: Path) -> None:
    uris = pictures(tmp_path / "in", 12, killers=(3,))
    done = finish(start(tmp_path / "in", tmp_path / "out", "--ray", "local"))
    found = rows(tmp_path / "out")
    assert sorted(found) == uris
    (killer,) = [uri for uri, row in found.items() if row["status"] == "error"]
    assert KILLER in killer
    assert done["deaths"] <= 4
