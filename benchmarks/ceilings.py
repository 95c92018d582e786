"""What bounds two of the goals on real rows: how much taste there is to be found, apart from one good list.

    python benchmarks/ceilings.py --json benchmarks/results/ceilings.json

Warm: likes minus what users' and items' effects expect, in units of their noise, as a matrix of users and videos. Its
singular values are compared with those of the same matrix drawn anew from the effects alone: only what stands above
the noise can be learnt, and a direction that hardly stands above it is mostly noise itself (Benaych-Georges and
Nadakuditi 2012). Cold users: how much of the likes of the most liked videos features of users explain out of sample,
and where one list for everybody lies against the best such list in hindsight. The warm test cells are not read.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import runs
from conditions import conditions

# Shape letters: U users, I items, F columns of user features, K rows of a list.
TOP_ITEMS = 60
PENALTIES = (10.0, 30.0, 100.0, 300.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=runs.ROOT / "data" / "real_rows")
    parser.add_argument("--seed", type=int, default=0, help="of the labels drawn anew and of the folds")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    absent = runs.missing((runs.REAL,))
    if absent:
        sys.exit(absent)
    started = time.perf_counter()
    cells = pl.read_parquet(runs.write_small_labels(arguments.work)).sort("user_id", "video_id")
    users = cells["user_id"].unique().sort().to_numpy()
    shape = (len(users), cells.height // len(users))
    liked_UI, fold_UI = (cells[name].to_numpy().reshape(shape) for name in ("liked", "fold"))
    rng = np.random.default_rng(arguments.seed)
    results: dict[str, Any] = {
        "conditions": conditions(),
        "seed": arguments.seed,
        "warm": warm(liked_UI, fold_UI < 480, rng),
        "cold_users": cold_users(liked_UI.astype(np.float64), users, rng),
        "seconds": round(time.perf_counter() - started, 1),
    }
    print(json.dumps(results, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def warm(liked_UI: np.ndarray, seen_UI: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Largest singular values of the noise-scaled residual of the training cells, and of labels drawn from the effects.

    The drawn labels get effects of their own, so both matrices have lost the same degrees of freedom.
    """
    found = [_singular_values(liked_UI, seen_UI)]
    expected_UI = effects(liked_UI, seen_UI)
    for _ in range(3):
        drawn_UI = (rng.random(liked_UI.shape) < expected_UI).astype(np.int8)
        found.append(_singular_values(drawn_UI, seen_UI))
    edge = max(float(values[0]) for values in found[1:])
    return {
        "cells": int(seen_UI.sum()),
        "likes": int(liked_UI[seen_UI].sum()),
        "singular_values": [round(float(value), 2) for value in found[0][:12]],
        "largest_of_drawn_labels": [round(float(values[0]), 2) for values in found[1:]],
        "above_the_noise": int((found[0] > edge).sum()),
        "share_of_variance_above": round(float((found[0][found[0] > edge] ** 2 - edge**2).sum() / seen_UI.sum()), 4),
    }


def _singular_values(liked_UI: np.ndarray, seen_UI: np.ndarray) -> np.ndarray:
    expected_UI = effects(liked_UI, seen_UI)
    residual_UI = np.where(seen_UI, (liked_UI - expected_UI) / np.sqrt(expected_UI * (1.0 - expected_UI)), 0.0)
    values = np.linalg.eigvalsh(residual_UI @ residual_UI.T)[::-1]
    return np.sqrt(np.clip(values, 0.0, None))


def effects(liked_UI: np.ndarray, seen_UI: np.ndarray, *, steps: int = 20, strength: float = 1.0) -> np.ndarray:
    """Probability of a like by user and item alone, [U, I]: a logistic regression on both ids, by Newton steps on users
    and items in turn.

    Args:
        liked_UI: 0 or 1.
        seen_UI: The cells that are fitted.
        steps: Rounds over both sides.
        strength: Penalty of a squared effect, which keeps those without a like finite.
    """
    seen = seen_UI.astype(np.float32)
    liked = liked_UI * seen
    rate = float(liked.sum() / seen.sum())
    base = float(np.log(rate / (1.0 - rate)))
    user_U = np.zeros(liked.shape[0], np.float32)
    item_I = np.zeros(liked.shape[1], np.float32)
    for _ in range(steps):
        for effect, axis in ((user_U, 1), (item_I, 0)):
            p_UI = _sigmoid(base + user_U[:, None] + item_I)
            slope = (liked - seen * p_UI).sum(axis) - strength * effect
            step = slope / ((seen * p_UI * (1.0 - p_UI)).sum(axis) + strength)
            effect += step.clip(-1.0, 1.0)  # far from the top of the likelihood Newton's step overshoots
    return _sigmoid(base + user_U[:, None] + item_I)


def _sigmoid(value: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-value))


def cold_users(liked_UI: np.ndarray, users: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """What features say of users who are not trained on, and what one list for everybody leaves to be had.

    Judged on the validation users (remainder 1) by lists of the training users (2 to 4); the features are judged by
    five folds among the training users.
    """
    train_U, val_U = users % 5 >= 2, users % 5 == 1
    rate_I = liked_UI[train_U].mean(0)
    features = user_features(users)
    top_I = np.argsort(-rate_I)[:TOP_ITEMS]
    target_UI = liked_UI[train_U][:, top_I]
    fold_U = rng.permutation(len(target_UI)) % 5
    whole_UF = np.hstack(list(features.values()))[train_U]
    single = {name: explained(part[train_U], target_UI, fold_U) for name, part in features.items()}
    best = sorted(single, key=lambda name: -single[name])[:3]
    return {
        "users": {"train": int(train_U.sum()), "val": int(val_U.sum())},
        "r2_of_most_liked_videos": {
            "videos": TOP_ITEMS,
            "all features": explained(whole_UF, target_UI, fold_U),
            **{name: single[name] for name in best},
            "note": "out of sample, five folds; the penalty with the best figure, which flatters",
        },
        "val_ndcg@20": {
            "item rate of the training users": round(ndcg(rate_I, liked_UI[val_U]), 4),
            "item rate of the same users, in hindsight": round(ndcg(liked_UI[val_U].mean(0), liked_UI[val_U]), 4),
        },
    }


def user_features(users: np.ndarray) -> dict[str, np.ndarray]:
    """Every column of the user table as centred columns [U, F]: values that 5 users have, or a logarithm of a count."""
    table = pl.read_csv(runs.REAL / "user_features.csv").filter(pl.col("user_id").is_in(users.tolist())).sort("user_id")
    assert table["user_id"].to_list() == users.tolist()
    found = {}
    for name in (column for column in table.columns if column != "user_id"):
        if name in ("follow_user_num", "fans_user_num", "friend_user_num", "register_days"):
            columns_UF = np.log1p(table[name].to_numpy().astype(np.float64))[:, None]
            columns_UF = columns_UF / columns_UF.std()
        else:
            value_U = table[name].cast(pl.String).fill_null("").to_numpy()
            values, counts = np.unique(value_U, return_counts=True)
            columns_UF = (value_U[:, None] == values[counts >= 5]).astype(np.float64)
        found[name] = columns_UF - columns_UF.mean(0)
    return found


def explained(input_UF: np.ndarray, target_UI: np.ndarray, fold_U: np.ndarray) -> float:
    """Share of the squared deviations from the items' means that ridge regression explains out of sample, for the best
    of some penalties."""
    left = dict.fromkeys(PENALTIES, 0.0)
    total = 0.0
    for fold in range(5):
        train, held = fold_U != fold, fold_U == fold
        mean_I = target_UI[train].mean(0)
        x_UF, y_UI = input_UF[train], target_UI[train] - mean_I
        gram_FF, cross_FI = x_UF.T @ x_UF, x_UF.T @ y_UI
        total += float(((target_UI[held] - mean_I) ** 2).sum())
        for penalty in PENALTIES:
            weight_FI = np.linalg.solve(gram_FF + penalty * np.eye(len(gram_FF)), cross_FI)
            left[penalty] += float(((target_UI[held] - mean_I - input_UF[held] @ weight_FI) ** 2).sum())
    return round(1.0 - min(left.values()) / total, 4)


def ndcg(score_I: np.ndarray, liked_UI: np.ndarray, *, k: int = 20) -> float:
    """NDCG@k of one list for all users, mean over those who like something."""
    gain_K = 1.0 / np.log2(np.arange(2, k + 2))
    hits_UK = liked_UI[:, np.argsort(-score_I, kind="stable")[:k]]
    number_U = liked_UI.sum(1).astype(np.int64)
    some_U = number_U > 0
    ideal_U = np.cumsum(gain_K)[np.clip(number_U[some_U], 1, k) - 1]
    return float(((hits_UK[some_U] @ gain_K) / ideal_U).mean())


if __name__ == "__main__":
    main()
