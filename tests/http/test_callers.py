"""Many callers at once: nobody is turned away, nobody gets what is another's."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sam3_image.serving.scheduler import THREADS
from tests.helpers.callers import Question, ask, problems, together
from tests.helpers.cog_server import SLOTS, CogServer, Result, data_url, png
from tests.helpers.fault_tools import SLOW, assert_one_line, assert_works, start, worker, workspace

SECONDS = 60


@pytest.mark.parametrize(("clients", "each"), [(8, 6), (15, 20)])
def test_everybody_gets_an_answer_and_it_is_their_own(
    own: CogServer, clients: int, each: int
) -> None:
    assert problems(own, clients, each) == []


def test_beyond_the_slots_the_answer_is_409(own: CogServer) -> None:
    own.wait_for("READY", seconds=SECONDS)
    for number in range(int(SLOTS)):
        start(own, f"full-{number}", SLOW)
    assert own.health()["status"] == "BUSY"
    with httpx.Client() as client_:
        question = Question.numbered(0)
        one_more = ask(own, {"image": question.image, "prompt": question.prompt}, client_)
    assert one_more.http == 409
    for number in range(int(SLOTS)):
        own.http.post(f"/predictions/full-{number}/cancel")
    assert_works(own, canceled=True)


def test_one_caller_s_errors_and_cancels_are_not_another_s(own: CogServer) -> None:
    """Good questions beside refused ones, damaged pictures and requests that are canceled."""
    own.wait_for("READY", seconds=SECONDS)
    wrong: list[str] = []

    def client(number: int) -> None:
        with httpx.Client() as client_:
            for turn in range(6):
                question = Question.numbered(12 * number + turn)
                inputs: dict[str, Any] = {"image": question.image, "prompt": question.prompt}
                if number % 4 == 1:
                    inputs["boxes"] = "[[1,2,3]]"
                    result = ask(own, inputs, client_)
                    wrong.extend([] if "boxes" in result.error else [result.error])
                elif number % 4 == 2:
                    inputs["image"] = question.image[:-400]
                    result = ask(own, inputs, client_)
                    wrong.extend([] if "PNG" in result.error else [result.error])
                elif number % 4 == 3:
                    name = f"mixed-{number}-{turn}"
                    start(own, name, {**SLOW, "prompts": ["circle"] * 4})
                    time.sleep(0.02 * turn)
                    own.http.post(f"/predictions/{name}/cancel")
                else:
                    problem = question.problem(ask(own, inputs, client_))
                    wrong.extend([problem] if problem else [])

    together(8, client)
    assert wrong == []
    assert_works(own, canceled=True)


def test_an_error_that_speaks_of_a_cancel_is_an_error(own: CogServer) -> None:
    """Cog answers "canceled", without a word, where an error's text has the word in it."""
    result = own.predict(image=Question.numbered(0).image, prompt="cancelled " * 40)
    assert_one_line(result, "InputError", "tokens", "c\u2060ancelled")


def test_cog_s_words_before_an_error_are_those_of_the_readme(own: CogServer) -> None:
    result = own.predict(image=Question.numbered(0).image, prompt=" ")
    assert result.error.startswith("Prediction failed: Async prediction failed: InputError: ")


def test_a_request_that_lacks_memory_is_refused_alone(own: CogServer) -> None:
    """One of eight is larger than the memory that the process may take."""
    own.wait_for("READY", seconds=SECONDS)
    assert problems(own, 8, 1) == []  # all threads have started: they take address space, too
    huge = data_url(png(np.zeros((10_900, 10_900), dtype=np.uint8)))
    process = worker(own)
    soft, hard = process.rlimit(resource.RLIMIT_AS)
    process.rlimit(resource.RLIMIT_AS, (process.memory_info().vms + 350_000_000, hard))
    wrong: list[str] = []

    def client(number: int) -> None:
        with httpx.Client() as client_:
            for turn in range(3):
                question = Question.numbered(200 + 3 * number + turn)
                inputs = {"image": question.image, "prompt": question.prompt}
                if number == 0:
                    result = ask(own, {**inputs, "image": huge}, client_)
                    if "MemoryLimitError" not in result.error:
                        wrong.append(f"{result.status} {result.error}")
                else:
                    problem = question.problem(ask(own, inputs, client_))
                    wrong.extend([problem] if problem else [])

    try:
        together(8, client)
    finally:
        process.rlimit(resource.RLIMIT_AS, (soft, hard))
    assert wrong == []
    assert_works(own)


def test_sigterm_with_twelve_in_line_answers_all(
    start_server: Callable[..., CogServer], weights: Path
) -> None:
    count = 12
    # As many slots as requests: the server is busy once it has accepted the last of them.
    server = start_server(SAM3_WEIGHTS=str(weights), COG_MAX_CONCURRENCY=str(count)).ready()
    folder = workspace(server)
    inputs = {"image": Question.numbered(0).image, "prompts": SLOW["prompts"]}
    answers: list[Result] = []
    in_line: list[int] = []

    def work(number: int) -> None:
        if number == count:
            server.wait_for("BUSY", seconds=SECONDS)
            server.wait_for_log("Prompt: ", THREADS, seconds=SECONDS)  # the others wait in line
            in_line.append(count - len(answers) - THREADS)
            server.process.send_signal(signal.SIGTERM)
            return
        with httpx.Client() as client_:
            answers.append(ask(server, inputs, client_))

    together(count + 1, work)
    assert [(answer.http, answer.status, answer.error) for answer in answers] == [
        (200, "succeeded", "")
    ] * count
    assert in_line[0] > 0
    server.process.wait(SECONDS)
    assert not folder.exists()
