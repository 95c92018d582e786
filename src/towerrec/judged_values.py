"""Predicted values against those of the judged rows: errors in their own unit and in seconds.

Shape letters: R judged rows, K those whose video has a known length, U users.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.baselines.values import UserItemBias
from towerrec.data.labels_saved import label_from_dict
from towerrec.data.prepare import Prepared
from towerrec.metrics.functional import mae, ordered_pairs, rmse, xauc
from towerrec.report.bootstrap import ends_of, enough_resamples, resampled_means
from towerrec.report.judge import Summary
from towerrec.report.per_user import Floats

PAIRED_ROWS = 1_000_000
"""Rows whose pairs the XAUC counts: its standard error is .0003 then, and the count takes seconds."""

FEWER_PAIRED_ROWS = 300_000
"""The same for what stands beside it, the XAUC of seconds and of baselines: a standard error of .0005."""

BIAS = "user and item bias"


def value_unit(prepared: Prepared) -> str:
    """What `store.values` are, in words: `probability of a positive`, `watch ratio`, or the label's own name."""
    if prepared.binary:
        return "probability of a positive"
    raw = label_from_dict(prepared.meta["label_fitted"]).raw
    return prepared.label_name if raw is None else raw.replace("_", " ")


def judge_values(
    predicted_R: Tensor,
    actual_R: Tensor,
    user_R: Tensor,
    *,
    seconds_R: Tensor | None = None,
    num_resamples: int,
    seed: int,
) -> Summary:
    """RMSE, MAE and XAUC of predicted values with 95 % bootstrap intervals over users.

    Rows of a user are alike, so users are drawn, each with all its rows, and a figure is a ratio of sums over the drawn
    rows; rows drawn one by one would give intervals that are too narrow. With one user there is no interval. XAUC is a
    mean over pairs of rows (of at most 1,000,000 rows drawn at random), and its interval that of the mean of
    `pair_values`. Where all actual values are equal there is none.

    Args:
        predicted_R: Predictions.
        actual_R: Actual values, in the same unit.
        user_R: User of every row.
        seconds_R: Length of the video of every row where the values are watch ratios, NaN where not known: then the
            same figures of the watch time in seconds too, `rmse_seconds` and so on, over the rows whose length is
            known.
        num_resamples: Bootstrap resamples (`bootstrap.enough_resamples`).
        seed: Of the users drawn.

    Raises:
        ValueError: If a prediction is not finite.
    """
    figures = _errors(predicted_R, actual_R, user_R, PAIRED_ROWS, num_resamples=num_resamples, seed=seed)
    if seconds_R is not None and bool((known_R := ~seconds_R.isnan()).any()):
        predicted_K, actual_K = ((value_R * seconds_R)[known_R] for value_R in (predicted_R, actual_R))
        user_K = user_R[known_R]
        found = _errors(predicted_K, actual_K, user_K, FEWER_PAIRED_ROWS, num_resamples=num_resamples, seed=seed)
        figures |= {f"{name}_seconds": figure for name, figure in found.items()}
    return figures


def _errors(
    predicted_R: Tensor, actual_R: Tensor, user_R: Tensor, paired_rows: int, *, num_resamples: int, seed: int
) -> Summary:
    error_R = (predicted_R.double() - actual_R.double()).numpy()
    if not np.isfinite(error_R).all():
        raise ValueError("some predicted values are not finite: the model has diverged, lower optimizer.lr")
    users, place_R = np.unique(user_R.numpy(), return_inverse=True)

    def sums(values_R: Floats | None, rows_R: Any = slice(None)) -> Floats:
        return np.bincount(place_R[rows_R], weights=values_R, minlength=len(users)).astype(np.float64)

    # Of every figure the sums over each user's rows, above and below the line.
    parts = {"rmse": (sums(error_R**2), sums(None)), "mae": (sums(np.abs(error_R)), sums(None))}
    figures = {"rmse": float(rmse(predicted_R, actual_R)), "mae": float(mae(predicted_R, actual_R))}
    paired_R = np.random.default_rng(seed).permutation(len(error_R))[:paired_rows]
    if bool((actual_R[paired_R] != actual_R[paired_R[0]]).any()):
        pairs_R = pair_values(predicted_R[paired_R], actual_R[paired_R]).numpy()
        parts["xauc"], figures["xauc"] = (sums(pairs_R, paired_R), sums(None, paired_R)), float(pairs_R.mean())
    all_UC = np.stack([column for pair in parts.values() for column in pair], 1)
    num_resamples = enough_resamples(num_resamples, len(users))
    means_RC = resampled_means(all_UC, num_resamples=num_resamples, seed=seed)
    low, high = ends_of(means_RC[:, ::2] / means_RC[:, 1::2])
    low[0], high[0] = np.sqrt([low[0], high[0]])
    ends = [
        {"low": float(a), "high": float(b)} if len(users) > 1 else {"low": None, "high": None}
        for a, b in zip(low, high, strict=True)
    ]
    return {
        name: {"mean": figure, **ends[i], "users": len(users), "rows": len(error_R)}
        for i, (name, figure) in enumerate(figures.items())
    }


def user_errors(predicted_R: Tensor, actual_R: Tensor, user_R: Tensor, user_B: Tensor) -> dict[str, Tensor]:
    """`user_rmse` and `user_mae` of the rows of some users, float64 [B] each: what two runs are compared by."""
    error_R = predicted_R.double() - actual_R.double()
    size = int(user_R.max()) + 1 if len(user_R) else 0
    rows_U = torch.bincount(user_R, minlength=size)
    squared_U, absolute_U = (
        torch.bincount(user_R, weights=e, minlength=size) / rows_U for e in (error_R**2, error_R.abs())
    )
    return {"user_rmse": squared_U[user_B].sqrt(), "user_mae": absolute_U[user_B]}


def pair_values(predicted_R: Tensor, actual_R: Tensor) -> Tensor:
    """One value per row whose mean is the XAUC and whose spread is that of the XAUC, float64 [R].

    With c of a row's d judged pairs in the right order, `xauc + 2 (c - xauc d) / mean(d)`: a row has a part in the
    pairs of all others, so its deviation counts twice (the structural components of a U-statistic: Sen 1960; DeLong
    et al., Biometrics 1988, for the AUC).
    """
    right_R, judged_R = ordered_pairs(predicted_R, actual_R)
    share = right_R.sum() / judged_R.sum()
    return share + 2 * (right_R - share * judged_R) / judged_R.mean()


def value_baselines(prepared: Prepared, on: str) -> dict[str, Tensor]:
    """What simple predictors say of every judged row, float64 [R] in the unit of `store.values`, from training rows.

    The mean and the median of the training rows are the constants every model must beat; the biases of users and items
    are what it must beat to know more than how much each watches and is watched.
    """
    store = prepared.store
    mean, median = store.mean_and_median("train")
    rows = store.rows(on)
    columns = ("user_idx", "item_idx", store.value_column)
    bias = UserItemBias().fit(
        lambda: zip(*(store.blocks(name, "train") for name in columns), strict=True),
        num_users=store.num_users,
        num_items=store.num_items,
    )
    return {
        "train mean": torch.full((len(rows),), mean, dtype=torch.float64),
        "train median": torch.full((len(rows),), median, dtype=torch.float64),
        BIAS: bias.predict(rows.user_idx, rows.item_idx),
    }


def baseline_figures(
    predictions: dict[str, Tensor], actual_R: Tensor, *, seconds_R: Tensor | None = None, seed: int = 0
) -> dict[str, dict[str, float]]:
    """RMSE, MAE and XAUC of every baseline, in the unit of the values and in seconds; names as in `judge_values`.

    A constant orders no pair, so its XAUC is one half; that of others is over at most 300,000 rows drawn at random.
    """
    found = {}
    for name, predicted_R in predictions.items():
        found[name] = _plain(predicted_R, actual_R, seed)
        if seconds_R is not None and bool((known_R := ~seconds_R.isnan()).any()):
            predicted_K, actual_K = ((value_R * seconds_R)[known_R] for value_R in (predicted_R, actual_R))
            found[name] |= {f"{key}_seconds": value for key, value in _plain(predicted_K, actual_K, seed).items()}
    return found


def _plain(predicted_R: Tensor, actual_R: Tensor, seed: int) -> dict[str, float]:
    figures = {"rmse": float(rmse(predicted_R, actual_R)), "mae": float(mae(predicted_R, actual_R))}
    paired_R = torch.from_numpy(np.random.default_rng(seed).permutation(len(actual_R))[:FEWER_PAIRED_ROWS])
    if bool((predicted_R == predicted_R[0]).all()):
        return figures | {"xauc": 0.5}
    order = float(xauc(predicted_R[paired_R], actual_R[paired_R]))
    return figures if np.isnan(order) else figures | {"xauc": order}


def predictions_table(
    prepared: Prepared, on: str, predicted_R: Tensor, actual_R: Tensor, *, bias_R: Tensor | None = None
) -> pl.DataFrame:
    """Every judged row with what was predicted, worst first: user_id, item_id, actual, predicted, absolute_error, and
    what the user and item bias says, `bias_predicted`."""
    rows = prepared.store.rows(on)
    beside = {} if bias_R is None else {"bias_predicted": bias_R.float().numpy()}
    return (
        pl.DataFrame(
            {
                "user_id": prepared.user_ids.gather(rows.user_idx.numpy()),
                "item_id": prepared.item_ids.gather(rows.item_idx.numpy()),
                "actual": actual_R.float().numpy(),
                "predicted": predicted_R.float().numpy(),
                **beside,
            }
        )
        .with_columns(absolute_error=(pl.col("actual") - pl.col("predicted")).abs())
        .sort("absolute_error", descending=True, maintain_order=True)
    )
