"""How many rows, users, items and pairs a log and its splits hold.

Shape letters: N rows of the log, C codes of splits (0: all that belong to one), U users, I items, P distinct pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.ids import whole_bounds
from towerrec.schema import SPLITS

_CODES = 1 + len(SPLITS)
QUANTILES = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p99": 0.99, "max": 1.0}


def counts(user: pl.Series, item: pl.Series, code_N: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Facts about all rows that belong to a split, then about the rows of each split [C].

    Args:
        user: Ids of the rows [N].
        item: The same of items [N].
        code_N: The split of each row, 0 for none.
    """
    user_N, item_N = _numbered(user), _numbered(item)
    rows_UC, rows_IC = _rows(user_N, code_N), _rows(item_N, code_N)
    pairs_C = _pairs(user_N, item_N, code_N)
    facts = [_facts(rows_UC[:, code], rows_IC[:, code], int(pairs_C[code])) for code in range(_CODES)]
    for code in range(2, _CODES):
        if not facts[code]["rows"]:
            continue
        for word, rows_XC in (("user", rows_UC), ("item", rows_IC)):
            new = int(rows_XC[rows_XC[:, 1] == 0, code].sum())
            facts[code][f"rows_with_{word}_new_to_training"] = new / facts[code]["rows"]
    return facts


def _numbered(ids: pl.Series) -> NDArray[np.integer]:
    """Whole numbers from 0 in the place of ids, close together."""
    if ids.dtype.is_integer() and not ids.null_count() and len(ids):
        low, high = whole_bounds(ids)
        if low >= 0 and high < 4 * len(ids) + 1_000_000:
            return ids.to_numpy()
    return ids.rank("dense").fill_null(0).to_numpy()


def _rows(id_N: NDArray[np.integer], code_N: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Rows of each user or item by code; under 0 those of all splits together."""
    key_N = np.multiply(id_N, _CODES, dtype=np.int64)
    key_N += code_N
    rows_XC = np.bincount(key_N, minlength=_CODES * (int(id_N.max(initial=0)) + 1)).reshape(-1, _CODES)
    rows_XC[:, 0] = rows_XC[:, 1:].sum(1)
    return rows_XC


def _pairs(user_N: NDArray[np.integer], item_N: NDArray[np.integer], code_N: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Distinct pairs of user and item by code, [C]; one sort serves all."""
    num_users, num_items = (int(id_N.max(initial=0)) + 1 for id_N in (user_N, item_N))
    fits = num_users * num_items * _CODES < 2**31  # half the bytes sort twice as fast
    pair_N = np.multiply(user_N, num_items, dtype=np.int32 if fits else np.int64, casting="unsafe")
    pair_N += item_N
    pair_N *= _CODES
    pair_N += code_N
    pair_N.sort()
    first_N = np.ones(len(pair_N), dtype=bool)
    first_N[1:] = pair_N[1:] != pair_N[:-1]
    pair_P = pair_N[first_N]
    del pair_N
    code_P = (pair_P % _CODES).astype(np.uint8)
    pairs_C = np.bincount(code_P, minlength=_CODES)
    pair_P //= _CODES
    in_split = pair_P if pairs_C[0] == 0 else pair_P[code_P > 0]
    pairs_C[0] = np.count_nonzero(in_split[1:] != in_split[:-1]) + (len(in_split) > 0)
    return pairs_C


def _facts(rows_U: NDArray[np.int64], rows_I: NDArray[np.int64], pairs: int) -> dict[str, Any]:
    rows, per_user, per_item = int(rows_U.sum()), rows_U[rows_U > 0], rows_I[rows_I > 0]
    return {
        "rows": rows,
        "users": len(per_user),
        "items": len(per_item),
        "pairs": pairs,
        "density": pairs / (len(per_user) * len(per_item)) if rows else 0.0,
        "rows_per_user": quantiles(pl.Series(per_user)),
        "rows_per_item": quantiles(pl.Series(per_item)),
    }


def quantiles(values: pl.Series) -> dict[str, float]:
    """Mean, standard deviation and the quantiles of `QUANTILES`; nulls and what is not finite left out."""
    known = values.drop_nulls()
    if known.dtype.is_float() and not (finite := known.is_finite()).all():
        known = known.filter(finite)
    if known.len() == 0:
        return {}
    wide = known.cast(pl.Float64)
    facts = {"mean": float(wide.mean()), "sd": float(wide.std() or 0.0)}  # type: ignore[arg-type]
    # One sort serves all quantiles; NumPy's takes a third of the time of Polars' for plain numbers.
    ordered = pl.Series(np.sort(known.to_numpy())).set_sorted()
    return facts | {word: float(ordered.quantile(q, "linear") or 0.0) for word, q in QUANTILES.items()}
