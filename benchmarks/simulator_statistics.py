"""How close a simulated release is to what is published about KuaiRec 2.0: a table, and JSON with the conditions.

    python benchmarks/simulator_statistics.py --scale full --json benchmarks/results/simulator_statistics_full.json
    python benchmarks/simulator_statistics.py --root data/kuairec  # a release that is there, real or simulated

Every figure is computed from the written csv files. The published figures are those of the full release: at a smaller
scale only shares and quantiles of single views are comparable. Sources: kuairec.com and its statistics notebook, the
README and issues of github.com/chongminggao/KuaiRec, the reports of github.com/njbabani/kuairec-recsys and
github.com/Rockyeast/short-video-two-tower-recommender, and counts on the release's own files.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from conditions import conditions
from numpy.typing import NDArray

from towerrec.data.sources.simulator import simulate

Array = NDArray[Any]
DAY_ZERO = 1_593_878_400.0
"""2020-07-05 00:00 in Shanghai, in seconds."""
LAST_WEEK = DAY_ZERO + 56 * 86_400
TOLERANCE = 0.10
# Of a correlation (whose ratio means nothing), the difference that counts as within.
CORRELATION_TOLERANCE = 0.05

PUBLISHED: dict[str, dict[str, float]] = {
    "big": {
        "rows": 12_530_806, "rows deduplicated": 11_562_801, "users": 7_176, "videos": 10_728,
        "full duplicates": 965_819, "near duplicates": 2_186, "unique pairs": 10_300_969, "log dates": 28,
        "date differs from local date, share": 0.00124,
        "watch_ratio mean": 0.9445, "watch_ratio sd": 1.675, "watch_ratio max": 573.46,
        "watch_ratio <= 5: P25": 0.311, "watch_ratio <= 5: P50": 0.716, "watch_ratio <= 5: P75": 1.162,
        "watch_ratio <= 5: mean": 0.851, "watch_ratio <= 5: sd": 0.719,
        "watch_ratio P50": 0.7255, "watch_ratio P99": 4.795,
        "share < .25": 0.208, "share .25-.5": 0.151, "share .5-1": 0.303, "share 1-2": 0.264, "share > 2": 0.0747,
        "share >= 1": 0.338, "share >= .8": 0.454, "quick skips": 0.184,
        "log1p(watch_ratio) mean": 0.5684, "log1p(watch_ratio) sd": 0.3854,
        "duration mean": 14_622, "duration sd": 19_835, "duration min": 140, "duration P25": 7_434,
        "duration P50": 9_636, "duration P75": 12_179, "duration max": 315_072,
        "median watch time (s)": 7.5,
        "P80 watch time at 3.7 s": 9.8, "P80 watch time at 8.6 s": 11.2, "P80 watch time at 13 s": 12.0,
        "P80 watch time at 20 s": 11.4, "P80 watch time at 30 s": 11.1, "P80 watch time at 70 s": 11.5,
        "P80 watch time at 123 s": 11.7, "P80 watch time at 187 s": 9.6,
        "rows per user min": 100, "rows per user P25": 883, "rows per user P50": 1_846.5, "rows per user P75": 2_461,
        "rows per user P95": 3_244.5, "rows per user max": 16_015, "rows per user sd": 992, "user Gini": 0.318,
        "top 1 % of users": 0.028, "top 10 % of users": 0.196,
        "rows per small user P50": 390, "rows per other user P50": 2_108,
        "rows per user-day mean": 66.5, "rows per user-day P25": 19, "rows per user-day P50": 42,
        "rows per user-day P75": 83, "rows per user-day max": 3_268,
        "rows per video P5": 3, "rows per video P10": 8, "rows per video P25": 38, "rows per video P50": 243,
        "rows per video P75": 2_142, "rows per video P90": 3_635, "rows per video P95": 4_503,
        "rows per video P99": 5_892, "rows per video max": 27_615, "video Gini": 0.672,
        "top 1 % of videos": 0.060, "top 5 % of videos": 0.233, "top 10 % of videos": 0.407,
        "top 20 % of videos": 0.664, "top 50 % of videos": 0.974, "videos with <= 5 rows": 885,
        "videos with <= 20 rows": 1_947, "videos with < 100 rows": 4_088, "videos with >= 1,000 rows": 3_822,
        "rows per small video P50": 2_832, "rows per other video P50": 77, "share of rows on small videos": 0.820,
        "positives (> 2) per user P25": 46, "positives (> 2) per user P50": 97, "positives (> 2) per user P75": 178,
        "positives (> 2) per user P95": 361, "positives (> 2) per user max": 2_244,
        "rows in the last 7 days": 1_839_806, "videos in the last 7 days": 5_476,
        "cold videos in the last 7 days": 1_482, "rows of cold videos in the last 7 days": 0.125,
        "repeated pairs in the last 7 days": 0.1375, "70 % of rows until day": 36.31,
        "videos new after 70 % of rows": 2_832,
    },
    "small": {
        "rows": 4_676_570, "users": 1_411, "videos": 3_327, "full duplicates": 0, "pairs shared with big": 0,
        "rows without time": 0.038916, "log dates": 63,
        "watch_ratio mean": 0.9071, "watch_ratio sd": 1.362, "watch_ratio max": 571.52,
        "watch_ratio <= 5: P25": 0.466, "watch_ratio <= 5: P50": 0.766, "watch_ratio <= 5: P75": 1.114,
        "watch_ratio <= 5: mean": 0.855, "watch_ratio <= 5: sd": 0.595,
        "watch_ratio P50": 0.7692, "watch_ratio P99": 3.585,
        "share < .25": 0.127, "share .25-.5": 0.145, "share .5-1": 0.403, "share 1-2": 0.278, "share > 2": 0.0464,
        "share >= 1": 0.324, "share >= .8": 0.474, "quick skips": 0.0776,
        "log1p(watch_ratio) mean": 0.586, "log1p(watch_ratio) sd": 0.323,
        "duration mean": 14_486, "duration sd": 20_467, "duration min": 3_067, "duration P25": 7_523,
        "duration P50": 9_600, "duration P75": 11_934, "duration max": 315_072,
        "rows per user min": 3_295, "rows per user P25": 3_309, "rows per user P50": 3_315,
        "rows per user P75": 3_320, "rows per user P95": 3_324, "rows per user max": 3_327,
        "rows per user-day mean": 51.9, "rows per user-day P25": 28, "rows per user-day P50": 47,
        "rows per user-day P75": 70, "rows per user-day max": 402,
        "video positive rate (>= 2) P5": 0.0014, "video positive rate (>= 2) P25": 0.0184,
        "video positive rate (>= 2) P50": 0.0312, "video positive rate (>= 2) P75": 0.0539,
        "video positive rate (>= 2) P95": 0.124, "video positive rate (>= 2) P99": 0.251,
        "video positive rate (>= 2) max": 0.721,
        "user positive rate (>= 2) P5": 0.0057, "user positive rate (>= 2) P25": 0.0132,
        "user positive rate (>= 2) P50": 0.0277, "user positive rate (>= 2) P75": 0.0666,
        "user positive rate (>= 2) P95": 0.137, "user positive rate (>= 2) max": 0.299,
        "positives (> 2) per user P50": 95,
        "variance of >= 2: user": 0.047, "variance of >= 2: video": 0.082,
        "residual energy, top 1": 0.039, "residual energy, top 5": 0.074, "residual energy, top 10": 0.095,
        "residual energy, top 20": 0.133, "residual energy, top 50": 0.229,
        "best single list, NDCG@20": 0.634,
        "correlation: video views (big), positive rate": -0.01, "correlation: user views (big), positive rate": -0.34,
        "correlation: video positive rate in big, in small": 0.895,
    },
}  # fmt: skip


def main() -> None:
    """Simulate (or reuse) a release, print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("tiny", "small", "full"), default="full")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help="folder of an existing release (with the csv files, or data/ in it)")
    parser.add_argument("--json", type=Path, help="write the figures and the conditions here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        report: dict[str, Any] = {"release": str(options.root) if options.root else f"simulated, {options.scale}"}
        if options.root is None:
            report |= {"scale": options.scale, "seed": options.seed}
            start = time.perf_counter()
            folder = simulate(Path(scratch), scale=options.scale, seed=options.seed)
            report["seconds_to_write"] = round(time.perf_counter() - start, 1)
            report["peak_memory_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
            report["bytes"] = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
        else:
            folder = options.root / "data" if (options.root / "data").is_dir() else options.root
        rows = compare(measure(folder))
    report |= {"conditions": conditions(), "tolerance": TOLERANCE, "figures": rows}
    report["outside"] = [f"{row['matrix']}: {row['quantity']}" for row in rows if not row["within"]]
    print_table(rows)
    print({key: value for key, value in report.items() if key not in ("figures", "outside")})
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """All figures of the two matrices of a release."""
    big, small = read_matrix(folder / "big_matrix.csv"), read_matrix(folder / "small_matrix.csv")
    small_users, small_videos = small["user_id"].unique().to_numpy(), small["video_id"].unique().to_numpy()
    clean = big.unique(subset=["user_id", "video_id", "timestamp"], keep="any")
    figures = {"big": common(big, clean) | margins(big, small_users, small_videos) | calendar(big, clean)}
    figures["big"] |= patience(clean) | positives(clean)
    figures["small"] = common(small, small) | positives(small) | labels(small, big, clean)
    pairs = clean.select("user_id", "video_id").unique()
    figures["small"]["pairs shared with big"] = small.join(pairs, on=["user_id", "video_id"], how="semi").height
    figures["small"]["rows without time"] = small["timestamp"].is_null().mean()
    return figures


def read_matrix(path: Path) -> pl.DataFrame:
    """The columns of a matrix file that are measured; `date` becomes an integer."""
    columns = ("user_id", "video_id", "play_duration", "video_duration", "date", "timestamp", "watch_ratio")
    types = {"date": pl.Float64, "timestamp": pl.Float64, "watch_ratio": pl.Float64}
    table = pl.scan_csv(path, schema_overrides=types).select(columns)
    ints = pl.col("user_id", "video_id", "play_duration", "video_duration", "date").cast(pl.Int32)
    return table.with_columns(ints).collect()


def quantiles(values: Array, name: str, **at: float) -> dict[str, float]:
    """Named quantiles of values, at probabilities 0 to 1."""
    return {f"{name} {label}": float(np.quantile(values, p)) for label, p in at.items()}


def common(table: pl.DataFrame, clean: pl.DataFrame) -> dict[str, float]:
    """Figures of either matrix; `clean` is the table without duplicates, on which the shares are taken."""
    every, ratio = table["watch_ratio"].to_numpy(), clean["watch_ratio"].to_numpy()
    low = every[every <= 5]
    play, length = clean["play_duration"].to_numpy(), clean["video_duration"].to_numpy()
    edges = np.histogram(ratio, [0, 0.25, 0.5, 1, 2, np.inf])[0] / len(ratio)
    days = table.filter(pl.col("date").is_not_null()).group_by("user_id", "date").len()["len"].to_numpy()
    users = table.group_by("user_id").len()["len"].to_numpy()
    log = np.log1p(every)
    return {
        "rows": table.height,
        "users": table["user_id"].n_unique(),
        "videos": table["video_id"].n_unique(),
        "full duplicates": table.height - table.unique().height,
        "log dates": table["date"].drop_nulls().n_unique(),
        "watch_ratio mean": every.mean(),
        "watch_ratio sd": every.std(),
        "watch_ratio max": every.max(),
        **{f"watch_ratio <= 5: P{p}": float(np.percentile(low, p)) for p in (25, 50, 75)},
        "watch_ratio <= 5: mean": low.mean(),
        "watch_ratio <= 5: sd": low.std(),
        **quantiles(ratio, "watch_ratio", P50=0.5, P99=0.99),
        **dict(zip(("share < .25", "share .25-.5", "share .5-1", "share 1-2", "share > 2"), edges, strict=True)),
        "share >= 1": (every >= 1).mean(),
        "share >= .8": (every >= 0.8).mean(),
        "quick skips": (play < np.minimum(3_000, length)).mean(),
        "log1p(watch_ratio) mean": log.mean(),
        "log1p(watch_ratio) sd": log.std(),
        "duration mean": table["video_duration"].mean(),
        "duration sd": table["video_duration"].std(),
        **quantiles(table["video_duration"].to_numpy(), "duration", min=0, P25=0.25, P50=0.5, P75=0.75, max=1),
        **quantiles(users, "rows per user", min=0, P25=0.25, P50=0.5, P75=0.75, P95=0.95, max=1),
        "rows per user-day mean": days.mean(),
        **quantiles(days, "rows per user-day", P25=0.25, P50=0.5, P75=0.75, max=1),
    }


def gini(counts: Array) -> float:
    """Gini coefficient of counts."""
    ordered, number = np.sort(counts), len(counts)
    return float((2 * np.arange(1, number + 1) - number - 1) @ ordered / (number * ordered.sum()))


def top_share(counts: Array, share: float) -> float:
    """Part of the sum that the largest `share` of the counts hold."""
    return float(np.sort(counts)[::-1][: int(share * len(counts))].sum() / counts.sum())


def margins(big: pl.DataFrame, small_users: Array, small_videos: Array) -> dict[str, float]:
    """Rows per user and per video of the big matrix."""
    users, videos = big.group_by("user_id").len(), big.group_by("video_id").len()
    by_user, by_video = users["len"].to_numpy().astype(float), videos["len"].to_numpy().astype(float)
    panel, pool = np.isin(users["user_id"], small_users), np.isin(videos["video_id"], small_videos)
    at = {"P5": 0.05, "P10": 0.1, "P25": 0.25, "P50": 0.5, "P75": 0.75, "P90": 0.9, "P95": 0.95, "P99": 0.99, "max": 1}
    return {
        "rows per user sd": by_user.std(),
        "user Gini": gini(by_user),
        **{f"top {p} % of users": top_share(by_user, p / 100) for p in (1, 10)},
        "rows per small user P50": np.median(by_user[panel]),
        "rows per other user P50": np.median(by_user[~panel]),
        **quantiles(by_video, "rows per video", **at),
        "video Gini": gini(by_video),
        **{f"top {p} % of videos": top_share(by_video, p / 100) for p in (1, 5, 10, 20, 50)},
        "videos with <= 5 rows": (by_video <= 5).sum(),
        "videos with <= 20 rows": (by_video <= 20).sum(),
        "videos with < 100 rows": (by_video < 100).sum(),
        "videos with >= 1,000 rows": (by_video >= 1_000).sum(),
        "rows per small video P50": np.median(by_video[pool]),
        "rows per other video P50": np.median(by_video[~pool]),
        "share of rows on small videos": by_video[pool].sum() / by_video.sum(),
    }


def calendar(big: pl.DataFrame, clean: pl.DataFrame) -> dict[str, float]:
    """Duplicates, pairs, and what is new or repeated late in the big matrix."""
    pair = ["user_id", "video_id"]
    local = pl.from_epoch(((pl.col("timestamp") + 28_800) * 1_000).cast(pl.Int64), time_unit="ms")
    local_date = local.dt.year() * 10_000 + local.dt.month().cast(pl.Int32) * 100 + local.dt.day()
    before, after = (clean.filter((pl.col("timestamp") >= LAST_WEEK) == late) for late in (False, True))
    times = np.sort(clean["timestamp"].to_numpy())
    cut = float(times[int(0.7 * len(times))])
    cold = after.join(before.select("video_id").unique(), on="video_id", how="anti")
    seen = clean.filter(pl.col("timestamp") < cut)["video_id"].n_unique()
    return {
        "rows deduplicated": clean.height,
        "near duplicates": big.unique().height - clean.height,
        "unique pairs": clean.select(pair).unique().height,
        "date differs from local date, share": big.select((local_date != pl.col("date")).mean()).item(),
        "rows in the last 7 days": after.height,
        "videos in the last 7 days": after["video_id"].n_unique(),
        "cold videos in the last 7 days": cold["video_id"].n_unique(),
        "rows of cold videos in the last 7 days": cold.height / max(after.height, 1),
        "repeated pairs in the last 7 days": after.join(before.select(pair).unique(), on=pair, how="semi").height
        / max(after.height, 1),
        "70 % of rows until day": (cut - DAY_ZERO) / 86_400,
        "videos new after 70 % of rows": clean["video_id"].n_unique() - seen,
    }


def patience(clean: pl.DataFrame) -> dict[str, float]:
    """Watch time in seconds, overall and by length of the video (slices 20 % wide)."""
    seconds, length = clean["play_duration"].to_numpy() / 1_000, clean["video_duration"].to_numpy() / 1_000
    figures = {"median watch time (s)": float(np.median(seconds))}
    for at in (3.7, 8.6, 13, 20, 30, 70, 123, 187):
        inside = (length > 0.9 * at) & (length < 1.1 * at)
        figures[f"P80 watch time at {at} s"] = (
            float(np.quantile(seconds[inside], 0.8)) if inside.any() else float("nan")
        )
    return figures


def positives(clean: pl.DataFrame) -> dict[str, float]:
    """Views above two video lengths per user, over the users with at least one row."""
    number = clean.group_by("user_id").agg((pl.col("watch_ratio") > 2).sum())["watch_ratio"].to_numpy()
    return quantiles(number, "positives (> 2) per user", P25=0.25, P50=0.5, P75=0.75, P95=0.95, max=1)


def labels(small: pl.DataFrame, big: pl.DataFrame, clean: pl.DataFrame) -> dict[str, float]:
    """What the label watch_ratio >= 2 of the fully observed matrix consists of; a missing cell counts as negative."""
    users, row = np.unique(small["user_id"], return_inverse=True)
    videos, column = np.unique(small["video_id"], return_inverse=True)
    liked = np.zeros((len(users), len(videos)), dtype=np.float32)
    liked[row, column] = small["watch_ratio"].to_numpy() >= 2
    by_user, by_video = liked.mean(axis=1), liked.mean(axis=0)
    rate = clean.group_by("video_id").agg((pl.col("watch_ratio") >= 2).mean())
    at = {"P5": 0.05, "P25": 0.25, "P50": 0.5, "P75": 0.75, "P95": 0.95, "P99": 0.99, "max": 1.0}
    return {
        **quantiles(by_video, "video positive rate (>= 2)", **at),
        **quantiles(by_user, "user positive rate (>= 2)", **at),
        "variance of >= 2: user": by_user.var() / liked.var(),
        "variance of >= 2: video": by_video.var() / liked.var(),
        **residual_energy(liked),
        "best single list, NDCG@20": single_list_ndcg(liked, by_video),
        "correlation: video views (big), positive rate": rank_correlation(views(big, "video_id", videos), by_video),
        "correlation: user views (big), positive rate": rank_correlation(views(big, "user_id", users), by_user),
        "correlation: video positive rate in big, in small": rank_correlation(
            align(rate, "video_id", "watch_ratio", videos), by_video
        ),
    }


def align(table: pl.DataFrame, key: str, value: str, ids: Array) -> Array:
    """Values of a table in the order of `ids`, 0 where an id is missing."""
    return pl.DataFrame({key: ids.astype(np.int32)}).join(table, on=key, how="left", maintain_order="left")[
        value
    ].fill_null(0).to_numpy().astype(float)  # fmt: skip


def views(big: pl.DataFrame, key: str, ids: Array) -> Array:
    """Rows of the big matrix per id."""
    return align(big.group_by(key).len(), key, "len", ids)


def rank_correlation(left: Array, right: Array) -> float:
    """Spearman's rank correlation, ties by their mean rank."""
    ranks = [pl.Series(values).rank("average").to_numpy() for values in (left, right)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def residual_energy(liked: Array) -> dict[str, float]:
    """Share of the squared residual after user and video means in the leading singular vectors."""
    residual = liked - liked.mean(axis=1, keepdims=True) - liked.mean(axis=0, keepdims=True) + liked.mean()
    energy = np.linalg.eigvalsh(residual @ residual.T)[::-1]
    return {f"residual energy, top {k}": float(energy[:k].sum() / energy.sum()) for k in (1, 5, 10, 20, 50)}


def single_list_ndcg(liked: Array, by_video: Array) -> float:
    """NDCG@20 of ranking every user by the true positive rates, over users with a positive."""
    discount = 1 / np.log2(np.arange(2, 22))
    hits = liked[:, np.argsort(-by_video, kind="stable")[:20]]
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(liked.sum(axis=1), 20).astype(int)]
    counted = ideal > 0
    return float(((hits @ discount[: hits.shape[1]])[counted] / ideal[counted]).mean())


def compare(figures: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """One row per published figure: simulated value, ratio, and whether it is within the tolerance."""
    rows = []
    for matrix, published in PUBLISHED.items():
        for quantity, target in published.items():
            value = float(figures[matrix][quantity])
            if quantity.startswith("correlation"):
                within = abs(value - target) <= CORRELATION_TOLERANCE
            else:
                within = abs(value - target) <= TOLERANCE * abs(target)
            ratio = round(value / target, 3) if target else None
            row = {"matrix": matrix, "quantity": quantity, "published": target, "simulated": round(value, 6)}
            rows.append(row | {"ratio": ratio, "within": bool(within)})
    return rows


def print_table(rows: list[dict[str, Any]]) -> None:
    """The comparison, one figure a line."""
    for row in rows:
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.3f}"
        values = f"{row['published']:>14,.6g}{row['simulated']:>16,.6g}{ratio:>8}"
        print(f"{row['matrix']:<6}{row['quantity']:<52}{values} {'yes' if row['within'] else 'NO'}")
    print(f"{sum(row['within'] for row in rows)} of {len(rows)} within {TOLERANCE:.0%}")


if __name__ == "__main__":
    main()
