"""Judging lists: per user, with intervals, from any system's file, in words, as a page."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from towerrec.metrics.functional import hits_of, ndcg_at_k
from towerrec.ragged import TopN, UserItems
from towerrec.report.bootstrap import intervals, resampled_means
from towerrec.report.judge import judge, judged_users, summarise
from towerrec.report.lists import read_lists
from towerrec.report.paired import paired_difference

NUM_USERS, NUM_ITEMS = 40, 30
USER_IDS = pl.Series("user_id", [f"u{i:02d}" for i in range(NUM_USERS)])
ITEM_IDS = pl.Series("item_id", range(1000, 1000 + NUM_ITEMS))


def random_relevant(seed: int = 0) -> UserItems:
    generator = torch.Generator().manual_seed(seed)
    user = torch.randint(0, NUM_USERS - 5, (150,), generator=generator)  # the last five have nothing
    item = torch.randint(0, NUM_ITEMS, (150,), generator=generator)
    return UserItems.from_pairs(user, item, num_users=NUM_USERS, num_items=NUM_ITEMS)


def random_lists(num_lists: int, n: int, seed: int = 1) -> TopN:
    generator = torch.Generator().manual_seed(seed)
    items = torch.stack([torch.randperm(NUM_ITEMS, generator=generator)[:n] for _ in range(num_lists)])
    return TopN(items, torch.arange(n, 0, -1).float().expand(num_lists, -1))


def test_a_judgement_has_one_row_per_user_with_something_relevant():
    relevant, everyone = random_relevant(), torch.arange(NUM_USERS)
    lists = random_lists(NUM_USERS, 10)
    table = judge(lists, relevant, everyone, [5, 10], user_ids=USER_IDS)
    with_relevant = judged_users(relevant)
    assert table["user_idx"].to_list() == with_relevant.tolist()
    assert table["user_id"].to_list() == [USER_IDS[u] for u in with_relevant.tolist()]
    assert table["num_relevant"].to_list() == relevant.counts[with_relevant].tolist()
    hits = hits_of(lists.items, relevant, everyone)
    expected = ndcg_at_k(hits, relevant.counts, 5)[with_relevant]
    assert table["ndcg@5"].to_list() == pytest.approx(expected.tolist())


def test_a_summary_holds_means_intervals_and_coverage():
    relevant = random_relevant()
    users = judged_users(relevant)
    lists = random_lists(len(users), 10)
    table = judge(lists, relevant, users, [5, 10])
    summary = summarise(table, lists=lists, num_items=NUM_ITEMS, num_resamples=200)
    assert summary["recall@10"]["mean"] == pytest.approx(table["recall@10"].mean())
    assert summary["recall@10"]["low"] < summary["recall@10"]["mean"] < summary["recall@10"]["high"]
    assert summary["recall@10"]["users"] == len(users)
    shown = len(set(lists.items[:, :5].flatten().tolist()))
    assert summary["coverage@5"] == {
        "mean": pytest.approx(shown / NUM_ITEMS),
        "low": None,
        "high": None,
        "users": len(users),
    }


@pytest.mark.parametrize(
    ("ks", "message"),
    [
        ([5, 31], "first 31, but the catalogue has 30 items"),
        ([5, 20], "first 20, but the lists were made with n=10"),
        ([0], "at least 1"),
        ([], "at least 1"),
    ],
)
def test_cuts_that_cannot_be_judged_are_refused(ks: list[int], message: str):
    with pytest.raises(ValueError, match=message):
        judge(random_lists(NUM_USERS, 10), random_relevant(), torch.arange(NUM_USERS), ks)


def test_lists_and_users_must_match():
    with pytest.raises(ValueError, match="3 lists for 40 users"):
        judge(random_lists(3, 10), random_relevant(), torch.arange(NUM_USERS), [5])


def test_without_a_judged_user_there_is_no_summary():
    nothing = UserItems.empty(num_users=NUM_USERS, num_items=NUM_ITEMS)
    table = judge(random_lists(NUM_USERS, 10), nothing, torch.arange(NUM_USERS), [5])
    with pytest.raises(ValueError, match=r"check split, label and eval\.positive"):
        summarise(table)


def test_bootstrap_intervals_cover_the_true_mean_about_95_times_in_100():
    generator = np.random.default_rng(0)
    samples = generator.exponential(2.0, (300, 80))
    covered = 0
    for sample in samples:
        low, high = intervals(sample[:, None], num_resamples=300, seed=1)[:, 0]
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 300 <= 0.98


def test_resampled_means_spread_as_the_standard_error_says_and_repeat_with_the_seed():
    values = np.random.default_rng(0).normal(size=(500, 2)) * [1, 10]
    means = resampled_means(values, num_resamples=2000, seed=3)
    assert means.shape == (2000, 2)
    np.testing.assert_allclose(means.std(0), values.std(0) / np.sqrt(500), rtol=0.06)
    np.testing.assert_allclose(means.mean(0), values.mean(0), atol=3 * values.std(0).max() / np.sqrt(500 * 2000))
    assert np.array_equal(means, resampled_means(values, num_resamples=2000, seed=3))
    assert not np.array_equal(means, resampled_means(values, num_resamples=2000, seed=4))


def test_a_small_steady_gain_is_clear_when_paired_though_the_intervals_overlap():
    hard = np.random.default_rng(0).random(200)
    gain = 0.01 + np.random.default_rng(1).normal(0, 0.01, 200)
    users = pl.int_range(200, eager=True)
    first = pl.DataFrame({"user_idx": users, "ndcg@20": hard + gain})
    second = pl.DataFrame({"user_idx": users, "ndcg@20": hard}).reverse()
    (low_first, _), (_, high_second) = (
        intervals(t["ndcg@20"].to_numpy()[:, None], num_resamples=200, seed=0)[:, 0] for t in (first, second)
    )
    assert low_first < high_second
    difference = paired_difference(first, second, "ndcg@20", num_resamples=200)
    assert difference.is_clear and difference.low > 0
    assert difference.mean == pytest.approx(gain.mean())
    assert difference.wins == pytest.approx((gain > 0).mean())
    assert difference.losses == pytest.approx((gain < 0).mean())


def test_comparing_takes_the_users_both_were_judged_on():
    first = pl.DataFrame({"user_id": ["a", "b", "c"], "user_idx": [0, 1, 2], "ndcg@5": [1.0, 0.5, 0.0]})
    second = pl.DataFrame({"user_id": ["c", "a"], "user_idx": [0, 1], "ndcg@5": [0.5, 0.5]})
    difference = paired_difference(first, second, "ndcg@5", num_resamples=10)
    assert (difference.users, difference.mean) == (2, 0.0)
    with pytest.raises(ValueError, match="no 'ndcg@7'"):
        paired_difference(first, second, "ndcg@7")
    with pytest.raises(ValueError, match="different users"):
        paired_difference(first, second.filter(pl.lit(False)), "ndcg@5")


def as_file(lists: TopN, users: torch.Tensor, path: Path, *, order: str) -> Path:
    """Write lists the way another program would: shuffled rows, ids, one order column."""
    rows = [
        {"user_id": USER_IDS[int(u)], "item_id": ITEM_IDS[int(i)], "rank": place + 1, "score": -float(place)}
        for u, row in zip(users, lists.items, strict=True)
        for place, i in enumerate(row)
    ]
    frame = pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=0).select("user_id", "item_id", order)
    writers = {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}
    writers[path.suffix](path)
    return path


@pytest.mark.parametrize("order", ["rank", "score"])
@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_list_file_is_judged_as_the_lists_it_was_written_from(order: str, ending: str, tmp_path: Path):
    relevant = random_relevant()
    users = judged_users(relevant)
    lists = random_lists(len(users), 10)
    path = as_file(lists, users, tmp_path / f"lists.{ending}", order=order)
    found = read_lists(path, users, user_ids=USER_IDS, item_ids=ITEM_IDS, n=10)
    assert torch.equal(found.lists.items, lists.items)
    assert judge(found.lists, relevant, users, [5, 10]).equals(judge(lists, relevant, users, [5, 10]))
    assert (found.users_without_list, found.users_not_judged) == (0, 0)


def test_users_without_a_list_count_as_missed_and_lists_may_be_short(tmp_path: Path):
    path = tmp_path / "lists.csv"
    path.write_text("user_id,item_id,score\nu01,1003,0.5\nu01,1002,0.5\nu01,1009,0.7\nu39,1000,1\n")
    found = read_lists(path, torch.tensor([1, 2]), user_ids=USER_IDS, item_ids=ITEM_IDS, n=4)
    assert found.lists.items.tolist() == [[9, 2, 3, -1], [-1, -1, -1, -1]]  # equal scores by item row
    assert (found.users_without_list, found.users_not_judged) == (1, 1)
    cut = read_lists(path, torch.tensor([1, 2]), user_ids=USER_IDS, item_ids=ITEM_IDS, n=2)
    assert cut.lists.items.tolist() == [[9, 2], [-1, -1]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "there is no such file"),
        ("lists.xlsx", "x", "ending '.xlsx' is not known"),
        ("lists.csv", "user_id,itemid,rank\nu01,1000,1\n", "no column 'item_id': did you mean 'itemid'"),
        ("lists.csv", "user_id,item_id\nu01,1000\n", "no column 'rank'"),
        ("lists.csv", "user_id,item_id,rank\n", "no rows"),
        ("lists.csv", "user_id,item_id,rank\nu01,999,1\nu01,1000,2\n", r"1 values of 'item_id' .* \(999\)"),
        ("lists.csv", "user_id,item_id,rank\nu99,1000,1\n", r"'user_id' are in no row of the log \(u99\)"),
        ("lists.csv", "user_id,item_id,rank\nu01,abc,1\n", "not of the log's type Int64"),
        ("lists.csv", "user_id,item_id,rank\nu01,1000,first\n", "'rank' must hold numbers"),
        ("lists.csv", "user_id,item_id,score\nu01,1000,\nu01,1001,1.5\n", "rows without a value"),
        ("lists.csv", "user_id,item_id,score\nu01,1000,NaN\nu01,1001,1.5\n", "rows without a value"),
        ("lists.csv", "user_id,item_id,rank\nu01,1000,1\nu01,1000,2\n", "an item twice"),
        ("lists.csv", "user_id,item_id,rank\nu01,1000,1\nu01,1001,1\n", "a rank twice"),
        ("lists.parquet", "no parquet", "cannot be read as a list file"),
    ],
)
def test_a_list_file_that_cannot_be_judged_says_why(name: str, content: str | None, message: str, tmp_path: Path):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_lists(path, torch.tensor([1]), user_ids=USER_IDS, item_ids=ITEM_IDS, n=3)


ODD_IDS = {
    "decimals": pl.Series("user_id", ["1.5"]).cast(pl.Decimal(9, 1)),
    "floats": pl.Series("user_id", [1.5]),
    "days": pl.Series("user_id", [1]).cast(pl.Date),
    "truth": pl.Series("user_id", [True]),
    "lists": pl.Series("user_id", [[1]]),
    "beyond": pl.Series("user_id", [2**64 - 1], dtype=pl.UInt64),
}


@pytest.mark.parametrize("case", ODD_IDS)
def test_what_is_no_id_is_not_taken_for_one(case: str, tmp_path: Path):
    path = tmp_path / "lists.parquet"
    pl.DataFrame({"user_id": ODD_IDS[case], "item_id": [1], "rank": [1]}).write_parquet(path)
    ids = pl.Series("user_id", [0, 1, 2])
    with pytest.raises(ValueError, match=r"lists.parquet: .*'user_id'"):
        read_lists(path, torch.arange(3), user_ids=ids, item_ids=ids, n=1)


def test_numbers_are_ids_of_a_log_whose_ids_are_text_as_they_would_be_written(tmp_path: Path):
    path, ids = tmp_path / "lists.parquet", pl.Series("user_id", ["007", "12", "18446744073709551615", "7"])
    for user, place in ((12.0, 1), (12, 1), ("007", 0), (7, 3)):
        pl.DataFrame({"user_id": [user], "item_id": [1], "rank": [1]}).write_parquet(path)
        lists = read_lists(path, torch.arange(4), user_ids=ids, item_ids=pl.Series([1]), n=1).lists
        assert lists.items[:, 0].tolist() == [0 if user == place else -1 for user in range(4)]


def test_parts_without_the_same_columns_are_refused(tmp_path: Path):
    (tmp_path / "part-0.csv").write_text("user_id,item_id,rank\n1,1,1\n")
    (tmp_path / "part-1.csv").write_text("user_id,item_id,score\n2,1,1\n")
    ids = pl.Series("user_id", [0, 1, 2])
    with pytest.raises(ValueError, match=rf"the parts in {tmp_path} do not hold the same columns"):
        read_lists(tmp_path, torch.arange(3), user_ids=ids, item_ids=ids, n=1)
