"""Figures beyond accuracy and of slices against independent implementations (see `agreement.py`).

Shape letters: B lists, K places, I items, D width of a vector, T tags.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import torch
from memory_source import Memory, log, run
from torch import Tensor

from towerrec.config_eval import FactsConfig
from towerrec.item_facts import facts_beyond
from towerrec.metrics.beyond import gini, percentile, self_information, tag_diversity, vector_diversity
from towerrec.protocol import protocol
from towerrec.ragged import UserItems
from towerrec.report.beyond import Beyond
from towerrec.report.slices import Groups, Ranked, item_slices

metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (pip install .[dev])")
stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (pip install .[dev])")
special = pytest.importorskip("scipy.special")
distance = pytest.importorskip("scipy.spatial.distance")

NUM_ITEMS, KS = 25, [2, 5, 12]


def lists(seed: int = 0) -> Tensor:
    """Eight lists: one short, one of a single item, one empty."""
    rng = np.random.default_rng(seed)
    items_BK = torch.from_numpy(np.stack([rng.permutation(NUM_ITEMS)[:9] for _ in range(8)]))
    items_BK[0, 4:], items_BK[1, 1:], items_BK[2] = -1, -1, -1
    return items_BK


def firsts(items_BK: Tensor, k: int) -> list[list[int]]:
    return [[i for i in row[:k] if i >= 0] for row in items_BK.tolist()]


@pytest.mark.parametrize("counts", [[0, 0, 7, 1, 1], [3, 3, 3], [0, 0, 5], [9]])
def test_gini_is_twice_the_area_beside_the_lorenz_curve(counts: list[int]):
    shares = np.append(0, np.cumsum(np.sort(counts)) / np.sum(counts))
    expected = 1 - 2 * metrics.auc(np.linspace(0, 1, len(shares)), shares)
    assert gini(torch.tensor(counts)) == pytest.approx(expected, abs=1e-12)


def test_novelty_is_the_information_of_scipy():
    users = torch.tensor([1, 4, 2, 8])
    share = users.numpy() / 8
    np.testing.assert_allclose(self_information(users, 8), special.entr(share) / share / np.log(2))


def test_a_popularity_percentile_is_that_of_scipy():
    counts, among = torch.tensor([3, 0, 0, 9, 3, 5]), torch.tensor([True, True, False, True, True, False])
    expected = [stats.percentileofscore(counts[among], c, kind="mean") / 100 for c in counts.tolist()]
    assert percentile(counts, among).tolist() == pytest.approx(expected)


def test_diversity_by_tags_is_the_mean_jaccard_distance_of_scipy():
    mark_IT = np.random.default_rng(1).random((NUM_ITEMS, 6)) < 0.3  # some have none
    tags_IL = torch.from_numpy(np.where(mark_IT, np.arange(6), -1))
    found_BC = tag_diversity(lists(), tags_IL, KS)
    for c, k in enumerate(KS):
        for b, items in enumerate(firsts(lists(), k)):
            tagged = mark_IT[[i for i in items if mark_IT[i].any()]]
            expected = distance.pdist(tagged, "jaccard").mean() if len(tagged) > 1 else np.nan
            assert float(found_BC[b, c]) == pytest.approx(expected, nan_ok=True, abs=1e-6)


def test_diversity_by_vectors_is_the_mean_cosine_distance_of_scipy():
    vectors_ID = torch.from_numpy(np.random.default_rng(2).normal(size=(NUM_ITEMS, 4)))
    found_BC = vector_diversity(lists(), vectors_ID, KS)
    for c, k in enumerate(KS):
        for b, items in enumerate(firsts(lists(), k)):
            expected = distance.pdist(vectors_ID[items], "cosine").mean() if len(items) > 1 else np.nan
            assert float(found_BC[b, c]) == pytest.approx(expected, nan_ok=True)


def test_duration_bias_is_a_ratio_of_geometric_means_of_scipy():
    seconds = np.random.default_rng(3).integers(2, 300, NUM_ITEMS).astype(float)
    seconds[::6] = np.nan  # of unknown duration
    known = seconds[~np.isnan(seconds)]
    everyone = torch.full((8,), float(np.log2(known).mean()), dtype=torch.float64)
    beyond = Beyond(
        candidate_I=torch.ones(NUM_ITEMS, dtype=torch.bool),
        values={"duration_bias": torch.log2(torch.from_numpy(seconds))},
        less={"duration_bias": everyone},
    )
    found = beyond.per_user(lists(), KS)
    for k in KS:
        for b, items in enumerate(firsts(lists(), k)):
            listed = [seconds[i] for i in items if not np.isnan(seconds[i])]
            expected = np.log2(stats.gmean(listed) / stats.gmean(known)) if listed else np.nan
            assert float(found[f"duration_bias@{k}"][b]) == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_age_is_the_days_of_numpys_dates(tmp_path):
    source = Memory(tmp_path, log=log())
    prepared = run(tmp_path, source=source)
    rules = protocol(prepared, on="test", ks=[5], candidates="catalogue", positive=None)
    beyond = facts_beyond(prepared, rules, FactsConfig())
    born = prepared.item_ids.to_frame("item_id").join(source.read().items.collect(), on="item_id", how="left")["born"]
    end = np.datetime64(prepared.store.rows("train").timestamp_ms.max().item(), "ms").astype("datetime64[D]")
    days = (end - born.to_numpy().astype("datetime64[D]")).astype(float)
    items_BK = torch.arange(10).view(2, 5)
    expected = days[items_BK.numpy()].mean(1)
    assert beyond.per_user(items_BK, [5])["age_days@5"].tolist() == pytest.approx(expected.tolist())


def test_figures_of_item_groups_are_group_bys_of_polars():
    rng, k, users = np.random.default_rng(4), 5, torch.arange(8)
    wanted, observed = rng.random((8, NUM_ITEMS)) < 0.3, rng.random((8, NUM_ITEMS)) < 0.8
    wanted &= observed
    packs = [
        UserItems.from_pairs(*map(torch.from_numpy, np.nonzero(cells)), num_users=8, num_items=NUM_ITEMS)
        for cells in (wanted, observed)
    ]
    group_of = np.arange(NUM_ITEMS) % 3
    member_IG = torch.from_numpy(group_of[:, None] == np.arange(3))
    ranked = Ranked({"ours": lists()}, *packs[:1], users, packs[1], None, torch.ones(NUM_ITEMS, dtype=torch.bool))
    found = item_slices(ranked, [Groups("thirds", "item", ["a", "b", "c"], member_IG)], k, num_resamples=10, seed=0)

    def table(rows: list[tuple[int, int]]) -> pl.DataFrame:
        frame = pl.DataFrame(rows, schema={"user": pl.Int64, "item": pl.Int64}, orient="row")
        return frame.with_columns(group=pl.col("item") % 3)

    shown = table([(b, i) for b, items in enumerate(firsts(lists(), k)) for i in items])
    relevant, candidates = (table(np.argwhere(cells).tolist()) for cells in (wanted, observed))
    hits = shown.join(relevant, on=["user", "item"], how="semi")
    parts = {
        f"item_recall@{k}": (hits, relevant, False),
        f"share_of_exposure@{k}": (shown, shown, True),
        "share_of_relevant": (relevant, relevant, True),
        "share_of_candidates": (candidates, candidates, True),
    }
    for metric, (above, below, of_all) in parts.items():
        for group in range(3):
            number = below.height if of_all else below.filter(group=group).height
            got = found.filter(metric=metric, order=group)["mean"].item()
            assert got == pytest.approx(above.filter(group=group).height / number)
