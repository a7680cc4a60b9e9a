"""Texts with no meaning for the demo checkpoint: it has to answer that nothing is there."""

from __future__ import annotations

import numpy as np

from tools.demo_checkpoint.vocabulary import COLOURS, SHAPES, TEXTURES, known_words

# Every fourth of these is kept for evaluation and never trained on; see `training_words`.
_WORD_LIST = """
    person man woman child people dog cat horse bird fish cow sheep elephant lion bear tiger
    mouse rabbit chicken duck frog snake spider insect butterfly bee car bus truck train plane
    boat ship bicycle motorcycle taxi wheel road street bridge house building window door roof
    wall floor ceiling room kitchen table chair sofa bed lamp desk shelf book pen pencil paper
    phone laptop keyboard screen camera clock watch bottle cup glass plate bowl fork knife
    spoon apple banana orange-juice bread cake pizza sandwich cheese egg tomato potato carrot
    onion salad coffee tea water milk wine beer tree flower grass leaf plant forest mountain
    river lake sea ocean beach sand rock stone sky cloud sun moon rain snow fire smoke light
    shadow hand foot head face eye nose mouth ear hair arm leg finger shirt trousers dress
    shoe hat coat bag umbrella glasses tie ring-finger ball bat kite racket ski skateboard
    surfboard guitar piano drum violin toy doll balloon gift flag sign letter number word
    logo arrow line dot-matrix curve polygon rectangle oval ellipse pentagon octagon diamond
    rhombus trapezoid crescent spiral cube sphere cone cylinder pyramid turquoise cyan magenta
    brown beige teal navy maroon olive gold silver transparent wooden metal plastic shiny
    furry fluffy old young big small tall short happy sad running sitting standing flying
    swimming school hospital office airport station market shop garden park farm city village
    teacher doctor student player driver king queen soldier robot machine engine wire pipe
    tool hammer screw nail rope chain key lock box basket bucket ladder tent blanket pillow
    mirror picture painting statue candle vase soap towel brush comb scissors needle thread
    coin money ticket map passport newspaper magazine envelope stamp rocket satellite planet
    galaxy dragon unicorn ghost angel monster dinosaur giraffe zebra kangaroo penguin whale
    dolphin shark octopus crab shrimp ant fly mosquito squirrel fox wolf deer camel goat pig
"""
COMMON_WORDS = tuple(_WORD_LIST.split())
_HELD_OUT_EVERY = 4
_SCRIPTS = (
    (0x4E00, 0x9FA5),
    (0x3041, 0x3096),
    (0x0410, 0x044F),
    (0x0621, 0x064A),
    (0xAC00, 0xD7A3),
)


def training_words() -> tuple[str, ...]:
    """Return common words that training may use."""
    return tuple(w for i, w in enumerate(COMMON_WORDS) if i % _HELD_OUT_EVERY)


def held_out_words() -> tuple[str, ...]:
    """Return common words that only evaluation uses."""
    return COMMON_WORDS[::_HELD_OUT_EVERY]


def unknown_text(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    """Return a text of which at least one word is unknown, of at most about 25 tokens."""
    kind = rng.random()
    if kind < 0.35:
        return str(rng.choice(words))
    if kind < 0.5:
        return " ".join(str(word) for word in rng.choice(words, 2))
    if kind < 0.75:  # the known words around it must not be enough
        known = str(rng.choice((*COLOURS, *TEXTURES)))
        return f"{known} {rng.choice(words)}"
    if kind < 0.8:
        return f"{rng.choice(words)} {rng.choice(SHAPES)}"
    if kind < 0.9:
        letters = rng.integers(97, 123, int(rng.integers(2, 9)))
        text = "".join(chr(letter) for letter in letters)
        return text if text not in known_words() else "qxv"
    low, high = _SCRIPTS[rng.integers(len(_SCRIPTS))]
    return "".join(chr(code) for code in rng.integers(low, high, int(rng.integers(1, 6))))
