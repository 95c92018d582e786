"""kuairec_caption_category.csv: captions that say what a video is about, and its place in the category tree."""

from __future__ import annotations

import numpy as np
import polars as pl

from towerrec.data.sources.simulator.scales import Curve, Floats, stream
from towerrec.data.sources.simulator.videos import Videos
from towerrec.data.sources.simulator.vocabulary import (
    BREAKS,
    COVERS,
    FILLER,
    HASHTAGS,
    MOODS,
    SUBS_PER_TOPIC,
    TOPICS,
)

UNKNOWN_ID = -124
UNKNOWN_NAME = "UNKNOWN"
BARE_RETURN = "\r"
_EMPTY_SHARE = 1_355 / 10_728
_NO_HASHTAG_SHARE = 0.36
_NO_COVER_SHARE = 6_691 / 10_728
_WIDEST = 64
"""Words at most in one caption."""
# Characters of the captions that are not empty, at quantiles.
_LENGTH = Curve((0, 0.05, 0.2, 0.45, 0.7, 0.88, 0.985, 1), (2, 5, 11, 27, 47, 71, 150, 400))
# Shares of a caption's words: sub-topic, tag, mood; filler for the rest.
_WORD_SHARES = np.cumsum([0.27, 0.2, 0.23])


def simulate_captions(videos: Videos, seed: int) -> pl.DataFrame:
    """Captions and categories [I rows, 10 columns]; four captions hold a bare carriage return."""
    rng = stream(seed, "captions")
    count = len(videos.tag)
    empty = rng.random(count) < _EMPTY_SHARE
    length = _LENGTH(rng.random(count))
    draws = rng.random((count, _WIDEST, 3))
    captions, topic_tags, covers = [], [], []
    for video in range(count):
        words = [] if empty[video] else _words(videos, video, length[video], draws[video])
        tags = [] if empty[video] else _hashtags(videos, video, draws[video, :, 0])
        captions.append(_join(words, draws[video, :, 2]) + "".join(f" #{tag}" for tag in tags))
        topic_tags.append("[" + ",".join(sorted(tags)) + "]")
        covers.append(_cover(videos, video, draws[video, :, 1]))
    _add_bare_returns(rng, captions)
    return pl.DataFrame(
        {
            "video_id": np.arange(count),
            "manual_cover_text": covers,
            "caption": [text or None for text in captions],
            "topic_tag": topic_tags,
            **_category_tree(rng, videos),
        }
    )


def _pick(words: tuple[str, ...], draw: float) -> str:
    return words[int(draw * len(words))]


def _mood(style: Floats, draw: float) -> tuple[str, ...]:
    """Words of one of the two strongest ends of a style [K]."""
    axis = np.argsort(-np.abs(style), kind="stable")[int(draw * 2)]
    return MOODS[axis][int(style[axis] < 0)]


def _words(videos: Videos, video: int, length: float, draws: Floats) -> list[str]:
    """Words of one caption up to its length in characters; `draws` [W, 3] uniform numbers."""
    topic = TOPICS[videos.tag[video]]
    words: list[str] = []
    written = 0
    for kind, which, mood in draws.tolist():
        source = int(np.searchsorted(_WORD_SHARES, kind, side="right"))
        if source == 0:
            pool = topic.sub_words[videos.sub[video]]
        elif source == 1:
            pool = topic.words
        else:
            pool = _mood(videos.style[video], mood) if source == 2 else FILLER
        words.append(_pick(pool, which))
        written += len(words[-1]) + 1
        if written >= length:
            break
    return words


def _join(words: list[str], draws: Floats) -> str:
    """A caption with a break after every second word or so."""
    text = ""
    for word, draw in zip(words, draws.tolist(), strict=False):
        text += word + (_pick(BREAKS, 2 * draw) if draw < 0.5 else "")
    return text


def _hashtags(videos: Videos, video: int, draws: Floats) -> list[str]:
    """Up to three hashtags: the sub-topic, a word of the tag, an empty phrase."""
    if draws[0] < _NO_HASHTAG_SHARE:
        return []
    topic = TOPICS[videos.tag[video]]
    choices = [topic.sub_names[videos.sub[video]], _pick(topic.words, draws[1]), _pick(HASHTAGS, draws[2])]
    kept = [tag for tag, draw in zip(choices, draws[3:].tolist(), strict=False) if draw < 0.6]
    return kept or choices[2:]


def _cover(videos: Videos, video: int, draws: Floats) -> str:
    """The text on the cover: mostly none."""
    if draws[0] < _NO_COVER_SHARE:
        return UNKNOWN_NAME
    topic = TOPICS[videos.tag[video]]
    return _pick(topic.sub_words[videos.sub[video]], draws[1]) + _pick(COVERS, draws[2])


def _add_bare_returns(rng: np.random.Generator, captions: list[str]) -> None:
    """End four captions with a bare carriage return, or hold one inside: LF stays the only line end."""
    written = [video for video, text in enumerate(captions) if text]
    for number, where in enumerate(rng.permutation(len(written))[:4].tolist()):
        text = captions[written[where]]
        cut = len(text) if number % 2 else max(1, len(text) // 2)
        captions[written[where]] = text[:cut] + BARE_RETURN + text[cut:]


def _category_tree(rng: np.random.Generator, videos: Videos) -> dict[str, object]:
    """Three levels of ids and names: the tag, the sub-topic, and one word of it; the deeper, the more unknown."""
    count = len(videos.tag)
    word = rng.integers(0, 4, size=count)
    first = np.where(rng.random(count) < 39 / 10_728, UNKNOWN_ID, videos.tag)
    known_second = (first != UNKNOWN_ID) & (rng.random(count) > 3_560 / 10_728)
    known_third = known_second & (rng.random(count) > 0.455)
    second_id = 100 + SUBS_PER_TOPIC * videos.tag + videos.sub
    second = np.where(known_second, second_id, UNKNOWN_ID)
    third = np.where(known_third, 1_000 + 4 * second_id + word, UNKNOWN_ID)
    names: list[tuple[str, str, str]] = []
    for video, (tag, sub) in enumerate(zip(videos.tag.tolist(), videos.sub.tolist(), strict=True)):
        topic = TOPICS[tag]
        names.append((topic.name, topic.sub_names[sub], topic.sub_words[sub][word[video]]))
    tree: dict[str, object] = {}
    for level, (name, ids) in enumerate((("first", first), ("second", second), ("third", third))):
        tree[f"{name}_level_category_id"] = ids
        labels = [row[level] if known else UNKNOWN_NAME for row, known in zip(names, ids != UNKNOWN_ID, strict=True)]
        tree[f"{name}_level_category_name"] = labels
    return tree
