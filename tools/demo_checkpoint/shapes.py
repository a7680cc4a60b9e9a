"""Outlines of the eight shapes and the colour ranges behind the colour words.

Outlines are float64 (N, 2) polygons, x right and y down, centred on the origin, with the
largest extent near 1; a shape with a hole has a second polygon.
"""

from __future__ import annotations

import colorsys

import numpy as np

CIRCLE_CORNERS = 48  # enough that no edge is seen at 40 % of a large picture's side


def _polar(radii: np.ndarray, phase: float = 0.0) -> np.ndarray:
    angles = phase + np.arange(len(radii)) * (2 * np.pi / len(radii))
    return 0.5 * radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y + 2.5], axis=1) / 33


def outline(shape: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray | None]:
    """Return a random member of the family `shape`: (polygon, hole or None), see the module."""
    if shape == "circle":
        return _polar(np.ones(CIRCLE_CORNERS)), None
    if shape == "ring":
        hole = rng.uniform(0.4, 0.7)
        return _polar(np.ones(CIRCLE_CORNERS)), _polar(np.full(CIRCLE_CORNERS, hole))
    if shape == "square":
        return _polar(np.ones(4), np.pi / 4) * 1.2, None
    if shape == "hexagon":
        return _polar(np.ones(6)), None
    if shape == "triangle":
        points = _polar(np.ones(3), -np.pi / 2)
        points[0, 0] += rng.uniform(-0.08, 0.08)
        points[:, 1] *= rng.uniform(0.85, 1.25)
        return points * 1.1, None
    if shape == "star":
        tips = 5 if rng.random() < 0.92 else 6
        radii = np.ones(2 * tips)
        radii[1::2] = rng.uniform(0.36, 0.52)
        return _polar(radii, -np.pi / 2) * 1.05, None
    if shape == "heart":
        return _heart() * rng.uniform(0.95, 1.05, size=2), None
    if shape == "cross":
        arm = rng.uniform(0.28, 0.42) / 2
        far = 0.5
        xs = (-arm, arm, arm, far, far, arm, arm, -arm, -arm, -far, -far, -arm)
        ys = (-far, -far, -arm, -arm, arm, arm, far, far, arm, arm, -arm, -arm)
        return np.stack([xs, ys], axis=1), None
    raise ValueError(f"unknown shape {shape!r}")


# Hue in degrees, saturation and value in 0-1: ranges that people name without doubt.
_RANGES: dict[str, tuple[tuple[float, float], ...]] = {
    "red": ((-13, 11), (0.78, 1.0), (0.6, 1.0)),
    "orange": ((23, 39), (0.78, 1.0), (0.86, 1.0)),
    "yellow": ((48, 62), (0.6, 1.0), (0.86, 1.0)),
    "green": ((88, 155), (0.5, 1.0), (0.4, 1.0)),
    "blue": ((206, 250), (0.6, 1.0), (0.5, 1.0)),
    "purple": ((265, 300), (0.45, 1.0), (0.42, 0.82)),
    "pink": ((322, 350), (0.22, 0.6), (0.9, 1.0)),
    "black": ((0, 360), (0.0, 0.3), (0.0, 0.15)),
    "white": ((0, 360), (0.0, 0.04), (0.94, 1.0)),
    "grey": ((0, 360), (0.0, 0.07), (0.36, 0.68)),
}
_EXACT = {
    "red": ((255, 0, 0), (220, 20, 60), (214, 39, 40)),
    "orange": ((255, 165, 0), (255, 140, 0), (255, 127, 14)),
    "yellow": ((255, 255, 0), (255, 215, 0), (250, 220, 60)),
    "green": ((0, 128, 0), (0, 255, 0), (44, 160, 44)),
    "blue": ((0, 0, 255), (31, 119, 180), (65, 105, 225)),
    "purple": ((128, 0, 128), (148, 103, 189), (138, 43, 226)),
    "pink": ((255, 192, 203), (255, 105, 180), (255, 20, 147)),
    "black": ((0, 0, 0), (20, 20, 20), (0, 0, 0)),
    "white": ((255, 255, 255), (250, 250, 250), (255, 255, 255)),
    "grey": ((128, 128, 128), (105, 105, 105), (150, 150, 150)),
}


def shade(colour: str, rng: np.random.Generator) -> tuple[int, int, int]:
    """Return a random RGB of 0-255 that a person calls `colour`."""
    if rng.random() < 0.25:
        return _EXACT[colour][rng.integers(3)]
    (h0, h1), (s0, s1), (v0, v1) = _RANGES[colour]
    hue = (rng.uniform(h0, h1) % 360) / 360
    rgb = colorsys.hsv_to_rgb(hue, rng.uniform(s0, s1), rng.uniform(v0, v1))
    return (round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2]))


RGB = tuple[int, int, int]


def scaled(rgb: RGB, factor: float) -> RGB:
    """Return the same tone darker."""
    return int(factor * rgb[0]), int(factor * rgb[1]), int(factor * rgb[2])


def towards_white(rgb: RGB, share: float) -> RGB:
    """Return the same tone paler."""
    red, green, blue = (int(c + share * (255 - c)) for c in rgb)
    return red, green, blue


def accent(
    colour: str, rgb: tuple[int, int, int], rng: np.random.Generator
) -> tuple[int, int, int]:
    """The second colour of a striped or dotted object: neutral, or another tone of the first."""
    grey = int(rng.integers(70, 150))
    if colour == "white":
        tones = [(grey, grey, grey), (0, 0, 0), (40, 40, 40)]
    elif colour == "black":
        tones = [(255, 255, 255), (235, 235, 235), (grey + 60,) * 3]
    elif colour == "grey":
        tones = [(255, 255, 255), (0, 0, 0), (235, 235, 235), (25, 25, 25)]
    else:
        dark = rng.uniform(0.3, 0.6)
        light = rng.uniform(0.45, 0.75)
        tones = [
            (255, 255, 255),
            (240, 240, 240),
            (0, 0, 0),
            scaled(rgb, dark),
            towards_white(rgb, light),
        ]
        if min(255 - c for c in rgb) > 60 or max(rgb) < 140:
            tones.pop()  # a paler tone of an already dull colour reads as another colour
        if max(rgb) < 140:
            tones = tones[:2]  # nothing darker can be told from a dark shade
    return tones[rng.integers(len(tones))]
