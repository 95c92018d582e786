"""The data report of a store that does not fit into memory: the numbers of `report.describe`, read in blocks.

Counts and quantiles are exact; means and deviations are sums in another order, equal but for rounding. Shape letters:
N rows, S slices of the rows by duration, U users, I items.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.report import VALUES, moment_text
from towerrec.data.report_bias import RAW_RULE, SLICES
from towerrec.data.report_counts import QUANTILES, quantiles
from towerrec.data.selection import Blocks, at_places
from towerrec.data.store import BLOCK_ROWS, InteractionStore
from towerrec.positive import positive_mask
from towerrec.schema import DURATION_MS, LABEL, NO_TIMESTAMP, SPLITS, WATCH_RATIO

Column = Callable[[tuple[str, ...]], Iterator[NDArray[Any]]]
"""Blocks of a column over some splits."""


class StoreReport:
    """Describes a store, and the columns of its rows that lie beside it in the folder `values`."""

    def __init__(self, store: InteractionStore, values: Path, *, positive: str, timezone: str) -> None:
        self.store, self.values = store, values
        self.positive, self.timezone = positive, timezone
        self.names = [name for name in VALUES if (values / f"{name}.npy").is_file()]

    def describe(self, *, name: str, cleaning: Mapping[str, int], pairs: Mapping[str, int]) -> dict[str, Any]:
        """As `report.describe`; `pairs` are the distinct pairs of user and item in all rows and in each split."""
        present = [word for word in SPLITS if self.store.num_rows(word)]
        counts = {word: {side: self._counts(side, word) for side in ("user", "item")} for word in present}
        everything = {side: sum(counts[word][side] for word in present) for side in ("user", "item")}
        report: dict[str, Any] = {
            "name": name,
            "timezone": self.timezone,
            "cleaning": dict(cleaning),
            "rows_left_out_by_split": 0,
            "all": self._part(SPLITS, everything, pairs["all"]),
        }
        for word in present:
            report[word] = self._part((word,), counts[word], pairs[word])
            bias = self._duration_bias(word)
            if bias is not None:
                report[word]["by_duration"] = bias
            if word != "train":
                report[word] |= _cold_share(counts[word], counts["train"])
        return report

    def _column(self, name: str) -> Column:
        if name not in self.names:
            return lambda splits: self.store.blocks(name, *splits)
        return lambda splits: self._blocks_beside(name, splits)

    def _blocks_beside(self, name: str, splits: tuple[str, ...]) -> Iterator[NDArray[Any]]:
        column = np.load(self.values / f"{name}.npy", mmap_mode="r")
        for split in splits:
            start, end = self.store.offsets[split]
            for at in range(start, end, BLOCK_ROWS):
                yield column[at : min(at + BLOCK_ROWS, end)]

    def _counts(self, side: str, word: str) -> NDArray[np.int64]:
        size = self.store.num_users if side == "user" else self.store.num_items
        total = np.zeros(size, dtype=np.int64)
        for block in self.store.blocks(f"{side}_idx", word):
            total += np.bincount(block, minlength=size)
        return total

    def _part(self, splits: tuple[str, ...], counts: Mapping[str, Any], pairs: int) -> dict[str, Any]:
        per_user, per_item = (pl.Series(counts[side][counts[side] > 0]) for side in ("user", "item"))
        rows = int(per_user.sum())
        facts: dict[str, Any] = {
            "rows": rows,
            "users": per_user.len(),
            "items": per_item.len(),
            "pairs": pairs,
            "density": pairs / (per_user.len() * per_item.len()),
            "positives": sum(int(positive_mask(b, self.positive).sum()) for b in self.store.blocks(LABEL, *splits)),
            "rows_per_user": quantiles(per_user),
            "rows_per_item": quantiles(per_item),
        }
        facts["positive_rate"] = facts["positives"] / rows
        for name in (LABEL, *self.names):
            column = self._column(name)
            facts[name] = block_quantiles(lambda column=column: _known(column(splits)))  # type: ignore[misc]
        return facts | self._times(splits)

    def _times(self, splits: tuple[str, ...]) -> dict[str, Any]:
        unknown, first, last = 0, 2**63 - 1, NO_TIMESTAMP
        for block in self.store.blocks("timestamp_ms", *splits):
            timed = block[block != NO_TIMESTAMP]
            unknown += len(block) - len(timed)
            if len(timed):
                first, last = min(first, int(timed.min())), max(last, int(timed.max()))
        if last == NO_TIMESTAMP:
            return {"rows_without_time": unknown}
        ends = {word: moment_text(ms, self.timezone) for word, ms in (("first", first), ("last", last))}
        return {"rows_without_time": unknown, **ends}

    def _duration_bias(self, word: str) -> dict[str, list[float]] | None:
        """As `report_bias.duration_bias`."""
        if not {WATCH_RATIO, DURATION_MS}.issubset(self.names):
            return None
        num_rows = sum(len(duration) for duration, _, _ in self._complete(word))
        if num_rows == 0:
            return None
        # The smallest duration that so many rows do not exceed (`inverted_cdf`).
        places = [max(math.ceil(num_rows * (s / SLICES) - 1), 0) for s in range(1, SLICES + 1)]
        ends = np.array(at_places(lambda: (duration for duration, _, _ in self._complete(word)), places))
        sums = {name: np.zeros(SLICES) for name in ("rows", "raw", "label", "mean_label")}
        for duration, ratio, label in self._complete(word):
            slice_N = np.searchsorted(ends[:-1], duration, side="left")
            weights = {"rows": None, "raw": positive_mask(ratio, RAW_RULE)}
            weights |= {"label": positive_mask(label, self.positive), "mean_label": label}
            for name, weight in weights.items():
                sums[name] += np.bincount(slice_N, weights=weight, minlength=SLICES)
        rows_S = sums.pop("rows")
        kept = rows_S > 0
        longest = {"longest_ms": _plain(ends[kept])}
        return longest | {name: _plain(total[kept] / rows_S[kept]) for name, total in sums.items()}

    def _complete(self, word: str) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
        """Duration, watch ratio and label of the rows that have all three."""
        columns = (self._column(name)((word,)) for name in (DURATION_MS, WATCH_RATIO, LABEL))
        for duration, ratio, label in zip(*columns, strict=True):
            missing = np.isnan(duration) | np.isnan(ratio)
            if missing.any():
                duration, ratio, label = duration[~missing], ratio[~missing], label[~missing]
            yield duration, ratio, label


def block_quantiles(blocks: Blocks) -> dict[str, float]:
    """`report.quantiles` of a column in blocks without nulls."""
    number, total = 0, 0.0
    for block in blocks():
        number += len(block)
        total += float(block.sum(dtype=np.float64))
    if number == 0:
        return {}
    mean = total / number
    squares = sum(float(np.square(block.astype(np.float64) - mean).sum()) for block in blocks())
    facts = {"mean": mean, "sd": math.sqrt(squares / (number - 1)) if number > 1 else 0.0}
    places = {word: q * (number - 1) for word, q in QUANTILES.items()}
    found = at_places(blocks, [int(at) for at in places.values()] + [math.ceil(at) for at in places.values()])
    low, high = found[: len(places)], found[len(places) :]
    return facts | {
        w: lo + (hi - lo) * (at - int(at)) for (w, at), lo, hi in zip(places.items(), low, high, strict=True)
    }


def _known(blocks: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for block in blocks:
        missing = np.isnan(block)
        yield block[~missing] if missing.any() else block


def _cold_share(part: Mapping[str, NDArray[np.int64]], train: Mapping[str, NDArray[np.int64]]) -> dict[str, float]:
    return {
        f"rows_with_{side}_new_to_training": float(part[side][train[side] == 0].sum() / part[side].sum())
        for side in ("user", "item")
    }


def _plain(values: NDArray[Any]) -> list[float]:
    return [round(float(value), 6) for value in values]
