"""Training prompts for the concept half: texts and exemplar boxes, and what they should find.

What an exemplar means here: objects of the same shape and the same colour as the one in the box,
whatever their texture ("lookalikes"). With the text `visual`, the answer is every lookalike of a
positive box; with a real text, it is every object that the text names, narrowed to lookalikes of
the positive boxes if there are any. Lookalikes of a negative box are never in the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tools.demo_checkpoint.unknown import training_words, unknown_text
from tools.demo_checkpoint.vocabulary import COLOURS, SHAPES, TEXTURES, VISUAL, Concept

Kind = tuple[str, str, str]  # shape, colour, texture


@dataclass(frozen=True)
class Prompt:
    """One question about one scene.

    `boxes`: (index of the object in the box, positive) pairs. `answer`: indices of the objects.
    """

    text: str
    boxes: tuple[tuple[int, bool], ...]
    answer: tuple[int, ...]


@dataclass(frozen=True)
class PromptMix:
    """Chances of each sort of prompt; they add up to one."""

    present: float = 0.35
    near_miss: float = 0.24
    absent: float = 0.04
    unknown: float = 0.07
    exemplar: float = 0.18
    negative: float = 0.12


# Which attributes a text names: shape, colour, texture, and how often.
_NAMED = (
    ((True, True, False), 0.40),
    ((True, False, False), 0.17),
    ((False, True, False), 0.12),
    ((True, False, True), 0.09),
    ((True, True, True), 0.09),
    ((False, True, True), 0.05),
    ((False, False, True), 0.04),
    ((False, False, False), 0.04),
)
_WORDS = training_words()


def sample_prompt(kinds: list[Kind], mix: PromptMix, rng: np.random.Generator) -> Prompt:
    """Return a random prompt about a scene whose objects have these kinds."""
    sort = rng.choice(
        6, p=(mix.present, mix.near_miss, mix.absent, mix.unknown, mix.exemplar, mix.negative)
    )
    if sort == 3:
        return Prompt(unknown_text(rng, _WORDS), (), ())
    if not kinds or sort == 2:
        return text_prompt(random_concept(rng), kinds, rng)
    if sort == 0:
        return text_prompt(random_description(kinds[rng.integers(len(kinds))], rng), kinds, rng)
    if sort == 1:
        return text_prompt(near_miss(kinds, rng), kinds, rng)
    return _with_exemplars(kinds, sort == 5, rng)


def text_prompt(
    concept: Concept, kinds: list[Kind], rng: np.random.Generator | None = None
) -> Prompt:
    """Return the prompt that asks for `concept` in words."""
    answer = tuple(i for i, kind in enumerate(kinds) if concept.matches(*kind))
    return Prompt(concept.phrase(rng), (), answer)


def random_concept(rng: np.random.Generator) -> Concept:
    """Any concept, most often a colour and a shape."""
    kind = (str(rng.choice(SHAPES)), str(rng.choice(COLOURS)), str(rng.choice(TEXTURES)))
    return random_description(kind, rng)


def lookalikes(kinds: list[Kind], index: int) -> set[int]:
    """The indices of the objects with the shape and the colour of `kinds[index]`, including it."""
    return {i for i, kind in enumerate(kinds) if kind[:2] == kinds[index][:2]}


def random_description(kind: Kind, rng: np.random.Generator) -> Concept:
    """One of the concepts that an object of this kind is an instance of."""
    chances = np.array([chance for _, chance in _NAMED])
    named = _NAMED[rng.choice(len(_NAMED), p=chances / chances.sum())][0]
    shape, colour, texture = (word if use else None for word, use in zip(kind, named, strict=True))
    return Concept(shape, colour, texture)


def near_miss(kinds: list[Kind], rng: np.random.Generator) -> Concept:
    """Return a present concept with one attribute changed, so that nothing in the scene matches.

    Where ten tries find none, a present concept is returned; callers check.
    """
    concept = random_description(kinds[rng.integers(len(kinds))], rng)
    for _ in range(10):
        concept = random_description(kinds[rng.integers(len(kinds))], rng)
        parts = [part for part in ("shape", "colour", "texture") if getattr(concept, part)]
        if not parts:
            continue
        part = str(rng.choice(parts))
        words = {"shape": SHAPES, "colour": COLOURS, "texture": TEXTURES}[part]
        changed = replace(concept, **{part: str(rng.choice(words))})
        if not any(changed.matches(*kind) for kind in kinds):
            return changed
    return concept


def _with_exemplars(kinds: list[Kind], negative: bool, rng: np.random.Generator) -> Prompt:
    """Boxes, half of the time with a text; with `negative`, at least one negative box."""
    first = int(rng.integers(len(kinds)))
    like = lookalikes(kinds, first)
    others = [i for i in range(len(kinds)) if i not in like]
    boxes: list[tuple[int, bool]] = []
    if negative and others:
        # A text that both share, and a box on what is not meant.
        related = [i for i in others if set(kinds[i]) & set(kinds[first])]
        second = int(rng.choice(related or others))
        shared = tuple(
            a if a == b else None for a, b in zip(kinds[first], kinds[second], strict=True)
        )
        unwanted = lookalikes(kinds, second)
        boxes.append((second, False))
        if rng.random() < 0.3:
            boxes.append((first, True))
        if boxes[-1][1] and rng.random() < 0.5:
            text, wanted = VISUAL, like
        else:
            concept = Concept(*shared)
            if concept.shape and rng.random() < 0.6:
                concept = Concept(concept.shape)
            text = concept.phrase(rng)
            wanted = {i for i, kind in enumerate(kinds) if concept.matches(*kind)}
            if boxes[-1][1]:
                wanted &= like
        if rng.random() < 0.2:
            boxes.reverse()
        return Prompt(text, tuple(boxes), tuple(sorted(wanted - unwanted)))
    boxes.append((first, True))
    wanted = set(like)
    if others and rng.random() < 0.15:
        second = int(rng.choice(others))
        boxes.append((second, True))
        wanted |= lookalikes(kinds, second)
    elif len(like) > 1 and rng.random() < 0.3:
        boxes.append((int(rng.choice(sorted(like - {first}))), True))
    if rng.random() < 0.4:
        shape, colour, _ = kinds[first]
        concept = Concept(shape, colour if rng.random() < 0.4 else None)
        matching = {i for i, kind in enumerate(kinds) if concept.matches(*kind)}
        return Prompt(concept.phrase(rng), tuple(boxes), tuple(sorted(wanted & matching)))
    return Prompt(VISUAL, tuple(boxes), tuple(sorted(wanted)))
