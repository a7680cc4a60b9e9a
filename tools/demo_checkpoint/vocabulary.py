"""The words of the demo checkpoint, and which drawn objects a phrase means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

SHAPES = ("circle", "square", "triangle", "star", "hexagon", "heart", "ring", "cross")
COLOURS = (
    "red",
    "green",
    "blue",
    "yellow",
    "orange",
    "purple",
    "pink",
    "black",
    "white",
    "grey",
)
TEXTURES = ("solid", "striped", "dotted")

ANY_SHAPE = "shape"  # "red shape" means red things of any outline
VISUAL = "visual"  # the word that the processor writes when boxes come without a text
ALIASES = {"grey": ("gray",)}  # spellings with the same meaning as the key
ARTICLES = ("a", "an", "the")


def plural(noun: str) -> str:
    """Return the plural of one of the shape words."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def known_words() -> tuple[str, ...]:
    """Every word with a meaning of its own; each becomes one token."""
    nouns = (*SHAPES, ANY_SHAPE)
    aliases = tuple(alias for spellings in ALIASES.values() for alias in spellings)
    plurals = tuple(plural(noun) for noun in nouns)
    return (*nouns, *plurals, *COLOURS, *aliases, *TEXTURES, *ARTICLES, VISUAL)


@dataclass(frozen=True)
class Concept:
    """A conjunction of attributes; None means "any". All None is every drawn object.

    `shape`, `colour`, `texture`: words of SHAPES, COLOURS, TEXTURES.
    """

    shape: str | None = None
    colour: str | None = None
    texture: str | None = None

    def matches(self, shape: str, colour: str, texture: str) -> bool:
        """Whether an object with these attributes is an instance of the concept."""
        return (
            self.shape in (None, shape)
            and self.colour in (None, colour)
            and self.texture in (None, texture)
        )

    def phrase(self, rng: np.random.Generator | None = None) -> str:
        """Return the concept in words; with `rng`, one of its several wordings."""
        noun = self.shape or ANY_SHAPE
        colour = self.colour
        words = [word for word in (self.texture, colour) if word]
        if rng is None:
            return " ".join([*words, noun])
        if colour in ALIASES and rng.random() < 0.3:
            words[-1] = str(rng.choice(ALIASES[colour]))
        if len(words) == 2 and rng.random() < 0.5:
            words.reverse()
        if rng.random() < 0.25:
            noun = plural(noun)
        elif rng.random() < 0.15:
            words.insert(0, "the" if rng.random() < 0.3 else "a")
        return " ".join([*words, noun])


def all_concepts() -> Iterator[Concept]:
    """Every concept that names at least one attribute."""
    for shape in (None, *SHAPES):
        for colour in (None, *COLOURS):
            for texture in (None, *TEXTURES):
                if shape or colour or texture:
                    yield Concept(shape, colour, texture)
