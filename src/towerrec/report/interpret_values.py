"""Sentences about rows: what is predicted of each, in what unit, how sure, and in what order within a user."""

from __future__ import annotations

from collections.abc import Mapping

from towerrec.report.judge import Summary

BIAS = "user and item bias"
"""The baseline that adds up how much a user watches and how much an item is watched."""

_ABOUT_ONE = 0.1

Figures = Mapping[str, Mapping[str, float]]


def interpret_values(name: str, values: Summary, baselines: Figures) -> list[str]:
    """RMSE as explained variance, errors beside the best simple predictor, XAUC and calibration in words.

    Args:
        name: The judged system.
        values: Its figures of predicted values; empty where it predicts none.
        baselines: The same of simple predictors, by name.
    """
    sentences = []
    if "rmse" in values and "train mean" in baselines:
        sentences.append(_beside_the_mean(name, values["rmse"]["mean"], baselines["train mean"]["rmse"]))
    if "rmse" in values and BIAS in baselines:
        sentences.append(_beside_biases(values["rmse"]["mean"], baselines[BIAS]["rmse"]))
    if "mae" in values and baselines:
        sentences.append(f"Its MAE {_beside_the_best('mae', values, baselines)}.")
    if "mae_seconds" in values and baselines:
        sentences.append(f"In seconds of watch time its MAE {_beside_the_best('mae_seconds', values, baselines)}.")
    if "xauc" in values:
        pairs = values["xauc"]
        sentences.append(
            f"Of two rows with different values it puts {percent(pairs['mean'])} in the right order (XAUC "
            f"{pairs['mean']:.4f}, {pairs['low']:.4f} to {pairs['high']:.4f}); a coin would put half of them."
        )
    return sentences + _calibration(values)


def _beside_the_mean(name: str, rmse: float, constant: float) -> str:
    said = f"As a prediction, {name} has RMSE {rmse:.4f}; always saying the mean has {constant:.4f}: "
    if constant == 0:
        return said + "all values are alike, there is nothing to predict."
    explained = 1 - (rmse / constant) ** 2
    return said + f"it explains {percent(explained) if explained > 0 else 'none'} of the variance."


def interpret_auc(summary: Summary, num_users: int) -> list[str]:
    """GAUC in words, where there is one.

    Args:
        summary: Figures of the judged system.
        num_users: Judged users.
    """
    if "gauc" not in summary:
        return []
    auc = summary["gauc"]
    without = num_users - auc["users"]
    left_out = f"; {without:,} users whose rows are all relevant or all not have no such figure" if without else ""
    return [
        f"Within a user's own rows, {percent(auc['mean'])} of the pairs of a relevant and another row are scored in "
        f"the right order (GAUC {auc['mean']:.4f}, {auc['low']:.4f} to {auc['high']:.4f}; by chance half{left_out})."
    ]


def percent(share: float) -> str:
    """A share in words: whole percents, with a decimal below ten."""
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


def _beside_biases(rmse: float, bias: float) -> str:
    if rmse < bias:
        return (
            f"Adding up the biases of user and item has RMSE {bias:.4f}: beyond how much each watches and is watched, "
            f"it explains {percent(1 - (rmse / bias) ** 2)} of what they leave over."
        )
    return (
        f"Adding up the biases of user and item has RMSE {bias:.4f} and needs no training: as a prediction of values "
        "the model is no better."
    )


def _beside_the_best(metric: str, values: Summary, baselines: Figures) -> str:
    best, figure = min(((n, c[metric]) for n, c in baselines.items() if metric in c), key=lambda pair: pair[1])
    error = values[metric]["mean"]
    if figure == 0:
        return f"{error:.4f} stands beside the {best}, which is always right"
    side = "below" if error < figure else "above"
    return f"{error:.4f} is {abs(1 - error / figure):.1%} {side} that of the {best} ({figure:.4f})"


def _calibration(values: Summary) -> list[str]:
    if "calibration_error" not in values:
        return []
    error = values["calibration_error"]
    off = f"Predictions are off by {error['mean']:.4f}{_between(error)} in the mean over bins"
    if "calibration_slope" not in values:
        return [f"{off}."]
    found = values["calibration_slope"]
    slope = found["mean"]
    if found.get("low") is not None and found["low"] <= 1 <= found["high"]:
        said = "they cannot be told from ones that lie as far apart as they should"
    elif slope <= 0:
        said = "higher predictions do not mean higher values"
    elif slope < 1 - _ABOUT_ONE:
        said = "they lie too far apart"
    elif slope > 1 + _ABOUT_ONE:
        said = "they lie too close together"
    else:
        said = "they lie as far apart as they should"
    return [f"{off}; their slope is {slope:.2f}{_between(found, '.2f')}: {said}."]


def _between(figure: Mapping[str, float], form: str = ".4f") -> str:
    return "" if figure.get("low") is None else f" ({figure['low']:{form}} to {figure['high']:{form}})"
