"""Many clients at once, each with pictures of its own whose right answer is known."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import numpy as np

from tests.helpers.cog_server import CogServer, Result, data_url, png
from tests.helpers.second_scenes import arranged, iou

NAMES = ["red circle", "blue square", "green triangle", "yellow star", "red square", "blue circle"]
SECONDS = 300


@dataclass(frozen=True)
class Question:
    """A picture of a width that no other has, one of its objects, and that object's mask."""

    image: str
    prompt: str
    size: tuple[int, int]
    mask: np.ndarray

    @classmethod
    def numbered(cls, number: int) -> Question:
        """Six objects in an order, and one of them asked for, that differ by the number."""
        start = number % len(NAMES)
        names = NAMES[start:] + NAMES[:start]
        size = (160 + number % 60, 120 + number // 60)  # about one shape, so that all are found
        picture, objects = arranged(names, size)
        wanted = objects[number // len(NAMES) % len(objects)]
        return cls(data_url(png(picture)), wanted.name, size, wanted.mask)

    def problem(self, result: Result) -> str:
        """What is wrong with an answer; "" if it is this question's, with its log and metrics."""
        if (result.http, result.status) != (200, "succeeded"):
            return f"HTTP {result.http}, {result.status}: {result.error}"
        masks = [mask > 0 for mask in result.masks()]
        if any(mask.shape != self.mask.shape for mask in masks):
            return f"masks of {masks[0].shape} for a picture of {self.mask.shape}"
        best = max((iou(mask, self.mask) for mask in masks), default=0.0)
        if best < 0.8:
            return f"best IoU {best:.2f} for {self.prompt}"
        lines = result.logs.splitlines()
        width, height = self.size
        own = [line for line in lines if line.startswith(f"Image: {width}×{height} ")]
        if len(own) != 1 or sum(line.startswith("Image: ") for line in lines) != 1:
            return f"another's log: {result.logs!r}"
        if not any(line.startswith("Prompt: ") and repr(self.prompt) in line for line in lines):
            return f"no {self.prompt} in the log: {result.logs!r}"
        if result.metrics["instances"] != len(masks):
            return f"{result.metrics['instances']} instances, {len(masks)} masks"
        timing = result.metrics["timing"]
        if not 0 <= timing["queue"] <= timing["total"] + 0.01:
            return f"times {timing}"
        return ""


def together(count: int, work: Callable[[int], None]) -> None:
    """Run `work(number)` in so many threads at the same time; raises the first error."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def post(
    server: CogServer, content: bytes, client: httpx.Client, refused: list[str] | None = None
) -> httpx.Response:
    """Send a request's body, and once more after a 409; where no slot is free, that is one too.

    Cog takes a slot with `try_lock` (`PermitPool::try_acquire`), so of two requests that arrive in
    the same instant one may be refused although slots are free. refused: gets each first refusal.
    """
    address = f"http://127.0.0.1:{server.port}/predictions"
    headers = {"Content-Type": "application/json"}
    answer = client.post(address, content=content, headers=headers, timeout=SECONDS)
    if answer.status_code != 409:
        return answer
    if refused is not None:
        refused.append(answer.text)
    return client.post(address, content=content, headers=headers, timeout=SECONDS)


def ask(
    server: CogServer,
    inputs: dict[str, object],
    client: httpx.Client,
    refused: list[str] | None = None,
) -> Result:
    """The answer to one request, sent with `post`."""
    answer = post(server, json.dumps({"input": inputs}).encode(), client, refused)
    return Result.read(answer.status_code, answer.json())


def problems(server: CogServer, clients: int, each: int) -> list[str]:
    """What went wrong when so many clients sent so many pictures each, without a pause.

    Refusals that `post` explains are a problem where they are more than one in a hundred: as many
    could come of slots that are not given back in time.
    """
    found: list[str] = []
    refused: list[str] = []
    questions = [Question.numbered(number) for number in range(clients * each)]

    def client(number: int) -> None:
        with httpx.Client() as http:
            for question in questions[number * each : (number + 1) * each]:
                inputs = {"image": question.image, "prompt": question.prompt}
                problem = question.problem(ask(server, inputs, http, refused))
                if problem:
                    found.append(problem)

    together(clients, client)
    return found + refused[clients * each // 100 :]
