"""How long a view lasts: a latent score per view becomes seconds watched, nearly the same at any video length.

The score is the user's engagement, the video's quality, the fit of taste and topic, and chance. A calibrated curve
turns it into seconds; those hardly depend on the length of the video, so a short one loops (large watch ratio) and a
long one is left early.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from towerrec.data.sources.simulator.scales import Floats, Ints

TASTE_SD = 0.36
NOISE_SD = 0.80
LONGEST_SECONDS = 5_400.0
"""A phone left looping is put away after an hour and a half."""
LARGEST_RATIO = 573.46

# Seconds watched at quantiles of the latent score: in the feed of the app, and in the fully observed matrix, whose
# panel skips less. The scores of the knots are in `_KNOTS`; beyond the last one the tail is a power law.
_KNOTS = np.array([-3.2, -2.2, -1.6, -1.15, -0.8, -0.45, -0.1, 0.25, 0.6, 1.0, 1.4, 1.8, 2.2])
_FEED_SECONDS = np.array([0.134, 0.304, 0.592, 1.224, 2.897, 5.045, 6.715, 8.99, 10.116, 11.616, 16.18, 22.7, 30.06])
_PANEL_SECONDS = np.array([0.166, 0.469, 1.504, 3.795, 5.062, 6.223, 6.857, 8.331, 10.05, 11.74, 13.52, 16.98, 22.88])

# Patience by length of the video (seconds): P80 of the watch time relative to that at 30 s.
_LENGTH_S = np.array([0.1, 1.5, 3.7, 8.6, 13.0, 20.0, 30.0, 70.0, 123.0, 187.0, 400.0])
_PATIENCE = np.array([0.6, 0.86, 0.885, 1.01, 1.08, 1.03, 1.0, 1.035, 1.05, 0.87, 0.75])


@dataclass(frozen=True)
class WatchCurve:
    """Log seconds of a view at the knots of its latent score, and the exponent of the power law beyond them."""

    log_seconds: Floats
    tail_exponent: float

    def __call__(self, score: Floats) -> Floats:
        """Seconds [N] for scores [N]; a score past the last knot is in the power-law tail."""
        seconds = np.interp(score, _KNOTS, self.log_seconds)
        # log(1 / (1 - Phi(z))) grows like z^2 / 2: the tail in the score that is a power law in probability.
        beyond = np.maximum(score - _KNOTS[-1], 0.0)
        return np.exp(seconds + beyond * (_KNOTS[-1] + 0.38 + beyond / 2) / self.tail_exponent)


FEED = WatchCurve(np.log(_FEED_SECONDS), tail_exponent=2.5)
PANEL = WatchCurve(np.log(_PANEL_SECONDS), tail_exponent=2.2)


@dataclass(frozen=True)
class Views:
    """What the log says of every view, integers in milliseconds [N]."""

    play_ms: Ints
    duration_ms: Ints

    @property
    def watch_ratio(self) -> Floats:
        """Time watched over the length of the video [N]."""
        return self.play_ms / self.duration_ms


def watch(
    rng: np.random.Generator, curve: WatchCurve, *, mean_score: Floats, restlessness: Floats, duration_ms: Floats
) -> Views:
    """Draw the views.

    Args:
        rng: Random numbers.
        curve: Seconds by latent score.
        mean_score: Engagement + quality + taste of every view [N].
        restlessness: Factor of the chance part of the score [N].
        duration_ms: Length of every video [N].
    """
    count = len(mean_score)
    score = mean_score + NOISE_SD * restlessness * rng.standard_normal(count, dtype=np.float32)
    patience = np.interp(np.log(duration_ms), np.log(1_000 * _LENGTH_S), _PATIENCE)
    # The moment at which a phone left looping is put away varies: after two minutes at the earliest.
    longest = 120.0 + (LONGEST_SECONDS - 120.0) * np.square(rng.random(count, dtype=np.float32))
    seconds = np.minimum(curve(score) * patience, longest)
    logged = _logged_duration(rng, duration_ms)
    play = np.minimum(np.rint(1_000 * seconds), np.floor(LARGEST_RATIO * logged))
    return Views(play_ms=play.astype(np.int64), duration_ms=logged)


def _logged_duration(rng: np.random.Generator, duration_ms: Floats) -> Ints:
    """The length as the client reports it [N]: on one view in twenty a few milliseconds off."""
    off = np.where(rng.random(len(duration_ms), dtype=np.float32) < 0.05, rng.integers(-9, 10, len(duration_ms)), 0)
    return np.maximum(duration_ms + off, 100).astype(np.int64)
