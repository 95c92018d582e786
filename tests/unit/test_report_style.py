"""The colours of the pages: contrast in both modes, and apart for every kind of eye."""

from itertools import combinations

import numpy as np
import pytest

from towerrec.report.style import DARK, LIGHT, NUM_COLOURS

SERIES = [f"c{i}" for i in range(NUM_COLOURS)]

# Machado, Oliveira and Fernandes, IEEE TVCG 2009, table 1: total protanopia and deuteranopia, on linear RGB.
EYES = {
    "all cones": np.eye(3),
    "no red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "no green": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    part = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, «contrast ratio»."""
    dark, light = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (light + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65."""
    share = TO_XYZ @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("mode", [LIGHT, DARK], ids=["light", "dark"])
def test_every_colour_that_words_have_is_readable(mode: dict[str, str]):
    for back in ("back", "card"):
        for name in ("ink", "soft", "good", "link"):
            assert contrast(mode[name], mode[back]) >= 4.5, (name, back)
    for name in SERIES:
        assert contrast(mode[name], mode["back"]) >= 4.5, name


@pytest.mark.parametrize("mode", [LIGHT, DARK], ids=["light", "dark"])
def test_every_two_series_differ_for_eyes_with_two_kinds_of_cones_too(mode: dict[str, str]):
    for eye in EYES.values():
        for one, other in combinations(SERIES, 2):
            apart = np.linalg.norm(lab(eye @ linear(mode[one])) - lab(eye @ linear(mode[other])))
            assert apart >= 15, (one, other)


def test_both_modes_name_the_same_colours():
    assert list(LIGHT) == list(DARK)
