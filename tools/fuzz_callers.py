"""Hypothesis against a server with eight clients at once; `script/fuzz` runs it after the doors.

Seven send anything at the same moment. The eighth sends a picture whose answer is known, and gets
it, with its own log and metrics.
"""

from __future__ import annotations

import json
import os
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.helpers.callers import Question, ask, post, together
from tests.helpers.cog_server import CogServer, data_url
from tests.unit.test_fuzz import crossed, mutated, queries

CASES = max(1, int(os.environ.get("SAM3_FUZZ", "20000")) // 50)
CLIENTS = 8

images = (mutated() | crossed()).map(lambda data: data_url(data)) | st.text(max_size=60)
requests = st.tuples(images, queries).map(lambda both: {"image": both[0], **both[1]})


def sent(server: CogServer, inputs: dict[str, Any], client: httpx.Client) -> None:
    """A result, one line of ours, or a refusal by Cog before `predict()`; anything else fails."""
    # Written by ourselves: httpx refuses NaN, which a client may well send.
    content = json.dumps({"input": inputs}).encode("utf-8", "surrogatepass")
    answer = post(server, content, client)
    if answer.status_code in (400, 422):
        return
    assert answer.status_code == 200, (answer.status_code, answer.text[:300], inputs)
    body = answer.json()
    assert body["status"] in ("succeeded", "failed"), (body, inputs)
    if body["status"] == "failed":
        assert body["error"], inputs
        assert "\n" not in body["error"].strip(), body["error"]
        assert "Traceback" not in body["error"], body["error"]
    else:
        assert body["output"], (body, inputs)


@settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
@given(st.lists(requests, min_size=CLIENTS - 1, max_size=CLIENTS - 1), st.integers(0, 3000))
def test_nobody_s_request_harms_another_s(
    own: CogServer, asked: list[dict[str, Any]], number: int
) -> None:
    def client(turn: int) -> None:
        with httpx.Client() as http:
            if turn < len(asked):
                sent(own, asked[turn], http)
                return
            question = Question.numbered(number)
            known = {"image": question.image, "prompt": question.prompt}
            problem = question.problem(ask(own, known, http))
            assert not problem, problem

    together(CLIENTS, client)
