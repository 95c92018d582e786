"""The approximate index: what it finds, leaves out, writes, refuses."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from towerrec.ragged import UserItems
from towerrec.retrieval import approximate, approximate_build
from towerrec.retrieval.approximate import KINDS, ApproximateIndex, build_approximate, require_faiss, write_approximate
from towerrec.retrieval.approximate_build import FLAT_UP_TO, HNSW_UP_TO, kind_for, threads, widened
from towerrec.retrieval.approximate_measure import Truth, latency
from towerrec.retrieval.index import ItemIndex

needs_faiss = pytest.mark.skipif(
    find_spec("faiss") is None, reason='faiss is not installed: pip install -e ".[export]"'
)
USERS, ITEMS, WIDTH = 60, 1500, 12


def towers(items: int = ITEMS, width: int = WIDTH, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Users and items around a few tastes; popular items are longer and carry a bias, met by a column of ones."""
    draw = torch.Generator().manual_seed(seed)
    tastes = torch.randn(8, width, generator=draw)
    popular_I = torch.rand(items, generator=draw).pow(-0.5).log()
    item_IV = tastes[torch.randint(8, (items,), generator=draw)] + 0.7 * torch.randn(items, width, generator=draw)
    user_UV = tastes[torch.randint(8, (USERS,), generator=draw)] + 0.7 * torch.randn(USERS, width, generator=draw)
    item_IV = torch.cat([item_IV * (0.5 + popular_I[:, None]), 3 * popular_I[:, None]], dim=1)
    return torch.cat([user_UV, torch.ones(USERS, 1)], dim=1), item_IV


def seen_lists(per_user: int, items: int = ITEMS) -> UserItems:
    draw = torch.Generator().manual_seed(1)
    user = torch.arange(USERS).repeat_interleave(per_user)
    return UserItems.from_pairs(
        user, torch.randint(0, items, user.shape, generator=draw), num_users=USERS, num_items=items
    )


@pytest.mark.parametrize(
    ("items", "kind"),
    [(1, "flat"), (FLAT_UP_TO, "flat"), (FLAT_UP_TO + 1, "hnsw"), (HNSW_UP_TO, "hnsw"), (HNSW_UP_TO + 1, "ivf_pq")],
)
def test_the_number_of_items_chooses_the_kind(items: int, kind: str):
    assert kind_for(items) == kind


@needs_faiss
def test_auto_builds_what_the_number_of_items_says(monkeypatch: pytest.MonkeyPatch):
    index = ItemIndex.of(towers(300)[1])
    assert build_approximate(index).kind == "flat"
    monkeypatch.setattr(approximate_build, "FLAT_UP_TO", 299)
    assert build_approximate(index).kind == "hnsw"
    monkeypatch.setattr(approximate_build, "HNSW_UP_TO", 299)
    assert build_approximate(index).kind == "ivf_pq"


def test_an_unknown_kind_and_a_missing_library_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="'annoy' is not known: choose auto, flat, hnsw, ivf_pq"):
        require_faiss("annoy")
    monkeypatch.setattr(approximate_build, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs faiss: pip install -e"):
        require_faiss("flat")


@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
def test_the_column_leaves_products_with_queries_alone_and_all_of_it_makes_lengths_equal(share: float):
    user_UV, item_IV = (vectors.numpy() for vectors in towers(50))
    wide_IW = widened(item_IV, share=share, width=16)
    assert wide_IW.shape == (50, 16)
    queries_UW = np.pad(user_UV, ((0, 0), (0, 3)))
    np.testing.assert_allclose(queries_UW @ wide_IW.T, user_UV @ item_IV.T, rtol=1e-5, atol=1e-5)
    lengths_I = np.linalg.norm(wide_IW, axis=1)
    assert (np.ptp(lengths_I) < 1e-4) == (share == 1.0)


@needs_faiss
@pytest.mark.parametrize("seen", [0, 30, 1400])
def test_flat_lists_are_those_of_the_exact_search(seen: int):
    user_UV, item_IV = towers()
    index = ItemIndex.of(item_IV, torch.arange(ITEMS) % 3 > 0)
    exclude = seen_lists(seen) if seen else None
    got = build_approximate(index, kind="flat").search(user_UV, n=40, exclude=exclude)
    expected = index.search(user_UV, n=40, exclude=exclude)
    assert torch.equal(got.items, expected.items)
    torch.testing.assert_close(got.scores, expected.scores)


@needs_faiss
def test_equal_scores_come_by_item_also_where_the_list_ends():
    index = ItemIndex.of(torch.randint(0, 2, (400, 3), generator=torch.Generator().manual_seed(0)).float())
    user_UV = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    seen = UserItems.from_pairs(torch.zeros(5, dtype=torch.long), torch.arange(5), num_users=2, num_items=400)
    got = build_approximate(index, kind="flat").search(user_UV, n=7, exclude=seen)
    assert torch.equal(got.items, index.search(user_UV, n=7, exclude=seen).items)


@needs_faiss
@pytest.mark.parametrize("kind", KINDS)
def test_lists_hold_n_unseen_items_of_the_index_however_much_was_seen(kind: str):
    user_UV, item_IV = towers()
    index = ItemIndex.of(item_IV, torch.arange(ITEMS) % 3 > 0)
    made = build_approximate(index, kind=kind)
    exclude = seen_lists(1000)
    rows = torch.tensor([5, 0, 59])
    got = made.search(user_UV[rows], n=300, user_idx_B=rows, exclude=exclude)
    expected = index.search(user_UV[rows], n=300, user_idx_B=rows, exclude=exclude)
    assert torch.equal(got.lengths, expected.lengths) and int(got.lengths.min()) > 200
    for row, items in zip(rows, got.items, strict=True):
        listed = items[items >= 0]
        assert len(set(listed.tolist())) == len(listed)
        assert bool((listed % 3 > 0).all())
        assert not exclude.contain(row.expand(len(listed)), listed).any()
    everything = made.search(user_UV[:2], n=ITEMS)
    assert everything.lengths.tolist() == [1000, 1000]


@needs_faiss
@pytest.mark.parametrize(("kind", "rounding"), [("hnsw", 1e-4), ("ivf_pq", 2e-2)])
def test_scores_are_products_whatever_happens_inside(kind: str, rounding: float):
    user_UV, item_IV = towers()
    got = build_approximate(ItemIndex.of(item_IV), kind=kind).search(user_UV, n=20)
    torch.testing.assert_close(got.scores, (user_UV @ item_IV.T).gather(1, got.items), atol=rounding, rtol=1e-4)
    assert bool((got.scores.diff(dim=1) <= 0).all())


@needs_faiss
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bytes_with_one_thread_and_with_two(kind: str, tmp_path: Path):
    index = ItemIndex.of(towers()[1])
    written = []
    for number, seed in ((1, 3), (2, 3), (2, 4)):
        with threads(number):
            build_approximate(index, kind=kind, seed=seed).save(tmp_path / "i", {})
        written.append((tmp_path / "i" / "index.faiss").read_bytes())
    assert written[0] == written[1]
    assert (written[0] == written[2]) == (kind == "flat")  # which draws nothing


@needs_faiss
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_says_how_good_it_is_and_faiss_alone_reads_it(kind: str, tmp_path: Path):
    import faiss

    user_UV, item_IV = towers()
    index = ItemIndex.of(item_IV, torch.arange(ITEMS) % 3 > 0)
    about = write_approximate(tmp_path / "faiss", index, user_UV, kind=kind, goal=0.9)
    assert json.loads((tmp_path / "faiss" / "faiss.json").read_text()) == about
    assert about["kind"] == kind and about["goal_reached"] and about["n"] == 100
    assert (about["users_for_the_goal"], about["users"]) == (30, 30)
    assert min(about["recall"].values()) >= 0.85  # of users by whom nothing was chosen
    assert about["bytes"] == (tmp_path / "faiss" / "index.faiss").stat().st_size
    assert set(about["latency"]) == {"exact", "approximate"}
    # No more than an index file and plain vectors.
    scores, items = faiss.read_index(str(tmp_path / "faiss" / "index.faiss")).search(user_UV.numpy(), 10)
    loaded = ApproximateIndex.load(tmp_path / "faiss").search(user_UV, n=10)
    overlap = np.mean([len({*a} & {*b}) for a, b in zip(items, loaded.items.numpy(), strict=True)]) / 10
    assert overlap > 0.95 and (items % 3 > 0).all()
    np.testing.assert_allclose(scores[:, 0], loaded.scores[:, 0].numpy(), rtol=1e-2)


@needs_faiss
@pytest.mark.parametrize("kind", ["hnsw", "ivf_pq"])
def test_a_higher_goal_searches_wider(kind: str, tmp_path: Path):
    user_UV, item_IV = towers()
    name = {"hnsw": "ef_search", "ivf_pq": "probes"}[kind]
    settings = []
    for goal in (0.5, 0.999):
        about = write_approximate(tmp_path / "i", ItemIndex.of(item_IV), user_UV, kind=kind, goal=goal, n=20)
        settings.append(about["parameters"][name])
    assert settings[0] < settings[1]


@needs_faiss
def test_where_codes_are_too_coarse_more_candidates_are_scored_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(approximate_build, "_DIMENSIONS_A_BYTE", 7)
    monkeypatch.setattr(approximate, "_CANDIDATES", (1, 16))
    user_UV, item_IV = towers()
    index = ItemIndex.of(item_IV)
    about = write_approximate(tmp_path / "i", index, user_UV, kind="ivf_pq", n=20)
    assert about["goal_reached"] and about["parameters"]["candidates"] == 16
    loaded = ApproximateIndex.load(tmp_path / "i")
    made = build_approximate(index, kind="ivf_pq")
    made.set_to(about["parameters"]["probes"], candidates=about["parameters"]["candidates"])
    assert torch.equal(loaded.search(user_UV, n=20).items, made.search(user_UV, n=20).items), "the file keeps both"


@needs_faiss
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "item_IV",
    [
        pytest.param(torch.tensor([[2.0, 1.0]]), id="one item"),
        pytest.param(torch.arange(7.0)[:, None], id="width one"),
        pytest.param(torch.ones(400, 3), id="all equal"),
        pytest.param(torch.zeros(300, 2), id="all zero"),
        pytest.param(torch.eye(5), id="fewer than lists"),
        pytest.param(1e6 * torch.eye(40), id="beyond half precision"),
        pytest.param(1e-9 * torch.eye(40), id="below half precision"),
    ],
)
def test_odd_catalogues_are_searched_to_the_end(kind: str, item_IV: torch.Tensor, tmp_path: Path):
    items, width = item_IV.shape
    index = ItemIndex.of(item_IV)
    user_UV = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    about = write_approximate(tmp_path / "i", index, user_UV, kind=kind, n=items)
    loaded = ApproximateIndex.load(tmp_path / "i")
    got, expected = loaded.search(user_UV, n=items), index.search(user_UV, n=items)
    assert torch.equal(got.items.sort(dim=1).values, expected.items.sort(dim=1).values)
    torch.testing.assert_close(got.scores, expected.scores, rtol=1e-3, atol=1e-3)
    assert about["recall"]["recall@10"] > 0.9 or kind == "hnsw"
    assert loaded.search(user_UV, n=items + 2).lengths.tolist() == [items] * 3


@needs_faiss
def test_recall_counts_equal_items_and_those_of_the_list():
    index = ItemIndex.of(torch.tensor([[1.0], [1.0], [0.5], [0.2]]))
    made = build_approximate(index, kind="flat")

    def reversed_(user_BV: torch.Tensor, n: int):
        return made.search(-user_BV, n=n)

    truth = Truth(index, torch.ones(2, 1), (1, 2, 3, 9))
    assert truth.recall(lambda u, n: made.search(u, n=n), 1) == 1.0
    assert truth.recall(reversed_, 2) == 0.0
    assert truth.recall(reversed_, 3) == pytest.approx(2 / 3)  # 0.2, 0.5 and one of the two best
    assert truth.recall(reversed_, 9) == 1.0


@needs_faiss
def test_latency_is_that_of_one_query_and_of_batches():
    index = ItemIndex.of(torch.ones(4, 1))
    asked: list[int] = []

    def search(user_BV: torch.Tensor, n: int):
        asked.append(len(user_BV))
        return index.search(user_BV, n=n)

    found = latency(search, torch.ones(5, 1), 2)
    assert asked == [1] * 6 + [100] * 13
    assert all(0 < of["median_ms"] <= of["p95_ms"] for of in found.values()) and list(found)[1] == "batch_of_100"


@needs_faiss
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "gone"])
def test_a_damaged_index_file_is_named(damage: str, tmp_path: Path):
    user_UV, item_IV = towers(300)
    write_approximate(tmp_path / "i", ItemIndex.of(item_IV), user_UV, kind="hnsw")
    path = tmp_path / "i" / "index.faiss"
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    path.write_bytes({"cut": whole[:-9], "flipped": flipped, "empty": b"", "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    with pytest.raises(ValueError, match=r"index\.faiss is (damaged|missing)"):
        ApproximateIndex.load(tmp_path / "i")


@needs_faiss
def test_a_damaged_or_foreign_description_is_named(tmp_path: Path):
    user_UV, item_IV = towers(300)
    write_approximate(tmp_path / "i", ItemIndex.of(item_IV), user_UV, kind="flat")
    path = tmp_path / "i" / "faiss.json"
    about = json.loads(path.read_text())
    changes = (
        ({"format": 99}, "format 99"),
        ({"files": {}}, "damaged"),
        ({"indexed": 5}, "disagree"),
        ({"kind": "x"}, "dis"),
    )
    for change, said in changes:
        path.write_text(json.dumps(about | change))
        with pytest.raises(ValueError, match=said):
            ApproximateIndex.load(tmp_path / "i")
    path.write_text("{")
    with pytest.raises(ValueError, match=r"faiss\.json"):
        ApproximateIndex.load(tmp_path / "i")
    with pytest.raises(ValueError, match="missing"):
        ApproximateIndex.load(tmp_path / "nowhere")


@needs_faiss
def test_what_cannot_be_indexed_or_asked_is_refused(tmp_path: Path):
    user_UV, item_IV = towers(300)
    index = ItemIndex.of(item_IV)
    with pytest.raises(ValueError, match="nothing to index"):
        build_approximate(ItemIndex.of(item_IV[:0]))
    with pytest.raises(ValueError, match="item vectors are not numbers"):
        build_approximate(ItemIndex.of(item_IV * torch.nan))
    with pytest.raises(ValueError, match="at least one user"):
        write_approximate(tmp_path / "i", index, user_UV[:0])
    made = build_approximate(index)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        made.search(user_UV, n=0)
    with pytest.raises(ValueError, match="width 13"):
        made.search(user_UV[:, :4], n=1)
    with pytest.raises(ValueError, match="user vectors are not numbers"):
        made.search(user_UV * torch.inf, n=1)
    with pytest.raises(ValueError, match="speaks of 1500 items"):
        made.search(user_UV, n=1, exclude=seen_lists(1))
    with pytest.raises(ValueError, match="say whose they are"):
        made.search(user_UV[:3], n=1, exclude=seen_lists(1, items=300))
    with pytest.raises(ValueError, match="user_idx_B has shape"):
        made.search(user_UV, n=1, user_idx_B=torch.arange(2))


@needs_faiss
def test_one_user_sets_and_measures(tmp_path: Path):
    user_UV, item_IV = towers(300)
    about = write_approximate(tmp_path / "i", ItemIndex.of(item_IV), user_UV[:1], kind="hnsw")
    assert (about["users_for_the_goal"], about["users"]) == (0, 1)
