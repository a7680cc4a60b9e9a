"""Errors on their way to Cog."""

from __future__ import annotations

import pytest

from sam3_image.errors import InputError
from sam3_image.serving.cog_adapter import errors_for_cog


@pytest.mark.parametrize("word", ["cancelled", "CancelledError", "the flight was cancelled twice"])
def test_an_error_that_speaks_of_a_cancel_keeps_its_text(word: str) -> None:
    """Cog would answer "canceled" and drop the text; a zero-width character prevents it."""
    with pytest.raises(InputError) as caught, errors_for_cog():
        raise InputError(f"prompt is {word!r}; shorten it.")
    text = str(caught.value)
    assert "cancelled" not in text
    assert "CancelledError" not in text
    assert text.replace("\u2060", "") == f"prompt is {word!r}; shorten it."


def test_other_errors_pass_as_they_are() -> None:
    error = InputError("canceled is harmless")
    with pytest.raises(InputError) as caught, errors_for_cog():
        raise error
    assert caught.value is error
    assert str(error) == "canceled is harmless"
    with pytest.raises(RuntimeError, match="c\u2060ancelled"), errors_for_cog():
        raise OSError(5, "cancelled")
