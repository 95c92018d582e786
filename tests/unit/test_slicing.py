"""Facts and slices of a prepared log: every kind of candidates, what a log lacks, and what each option changes."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import memory_source
import numpy as np
import polars as pl
import pytest
import torch
from memory_source import log

from towerrec import item_facts
from towerrec.baselines.popularity import MostViewed, Random
from towerrec.config_eval import EvalConfig, FactsConfig, SlicesConfig, check_slices
from towerrec.data.prepare import Prepared
from towerrec.evaluation import Evaluation, evaluate_lists
from towerrec.item_facts import facts_beyond
from towerrec.judging import rules_of
from towerrec.protocol import protocol
from towerrec.ragged import TopN
from towerrec.report.interpret_slices import interpret_lists
from towerrec.slicing import sliced


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return memory_source.run(tmp_path_factory.mktemp("slices"), source=None)


def evaluated(prepared: Prepared, *, candidates: str = "catalogue", **changed: Any) -> Evaluation:
    """The lists of two simple systems, judged and taken apart under a config with some settings changed."""
    facts = {key: changed.pop(key) for key in ("duration", "date", "tags") if key in changed}
    asked = EvalConfig(ks=[3, 5], candidates=candidates, num_resamples=20)
    config = dataclasses.replace(asked, facts=FactsConfig(**facts), slices=SlicesConfig(**changed))
    check_slices(config)
    rules = rules_of(config, prepared, "test")
    found = evaluate_lists(
        prepared,
        rules,
        {},
        baselines=[MostViewed.name, Random.name],
        correction="none",
        num_resamples=20,
        seed=0,
        beyond=facts_beyond(prepared, rules, config.facts),
    )
    found.slices, found.members, found.slices_left_out = sliced(
        config, prepared, rules, found.systems, found.lists, seed=0
    )
    return found


def slices_of(found: Evaluation) -> pl.DataFrame:
    assert found.slices is not None
    return found.slices


@pytest.mark.parametrize("candidates", ["catalogue", "observed", "held_out"])
def test_every_kind_of_candidates_has_figures_and_slices_whose_shares_add_up(prepared: Prepared, candidates: str):
    found = evaluated(prepared, candidates=candidates)
    table = slices_of(found)
    cuts = {name for name in table["metric"].unique() if name.startswith("share")}
    assert cuts == {"share_of_exposure@5", "share_of_relevant", "share_of_candidates"}
    apart = table.filter(pl.col("metric").is_in(cuts) & pl.col("slice").is_in(["cold_items", "popularity", "age"]))
    totals = apart.group_by("slice", "system", "metric").agg(pl.col("mean").sum())
    np.testing.assert_allclose(totals["mean"].to_numpy(), 1, atol=1e-6)
    users = table.filter((pl.col("slice") == "activity") & (pl.col("metric") == "ndcg@5")).group_by("system")
    assert set(users.agg(pl.col("users").sum())["users"]) == {len(found.protocol.users)}
    assert found.beyond is not None
    assert found.beyond.references["candidates"]["popularity_percentile"] == pytest.approx(0.5, abs=0.1)
    random = next(s for s in found.systems if s.name == "random")
    assert random.summary["popularity_percentile@5"]["mean"] == pytest.approx(0.5, abs=0.1)


def test_what_the_log_does_not_know_is_absent_with_a_reason_and_never_zero(prepared: Prepared):
    found = evaluated(prepared)
    names = found.judged.summary
    assert {"novelty@5", "popularity_percentile@5", "tag_diversity@5", "age_days@5", "gini@5"} <= set(names)
    assert not any(name.startswith(("duration_bias", "vector_diversity")) for name in names)
    assert found.beyond is not None
    assert found.beyond.absent == {
        "duration_bias": "the item table has no column called duration_ms (eval.facts.duration names one)",
        "vector_diversity": "only a trained model has vectors, and none is judged here",
    }
    assert found.slices_left_out["duration"] == "the item table has no column of durations"
    sentences = " ".join(interpret_lists(found.systems, found.beyond))
    assert "There is no Duration bias: the item table has no column called duration_ms" in sentences


@pytest.mark.parametrize("marks", [1 << 25, 100], ids=["at_once", "few_users_at_once"])
def test_popularity_and_novelty_come_from_training_rows_alone(
    prepared: Prepared, marks: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(item_facts, "_MARKS", marks)
    rules = protocol(prepared, on="test", ks=[5], candidates="catalogue", positive=None)
    values = facts_beyond(prepared, rules, FactsConfig()).values
    rows = prepared.store.rows("train")
    seen = {(u, i) for u, i in zip(rows.user_idx.tolist(), rows.item_idx.tolist(), strict=True)}
    users = len({u for u, _ in seen})
    by_item = [sum(1 for _, i in seen if i == item) for item in range(prepared.schema.num_items)]
    expected = [-math.log2(max(number, 1) / users) for number in by_item]
    np.testing.assert_allclose(values["novelty"].numpy(), expected)


def test_a_cold_item_and_a_new_user_are_told_apart(prepared: Prepared):
    found = evaluated(prepared)
    table = slices_of(found)
    cold = table.filter((pl.col("slice") == "cold_items") & (pl.col("metric") == "share_of_relevant"))
    assert cold["group"].to_list() == ["cold (no training row)", "known"]
    assert cold["items"].to_list() == [5, 35]
    new = table.filter(
        (pl.col("slice") == "new_users") & (pl.col("metric") == "ndcg@5") & (pl.col("system") == "random")
    )
    assert new["group"].to_list() == ["new (no training row)", "known"]
    assert new["users"].to_list() == [5, len(found.protocol.users) - 5]


OPTIONS: list[tuple[str, Any, str]] = [
    ("duration", "length", "beyond"),
    ("date", "born_later", "refused"),
    ("tags", ["caption"], "beyond"),
    ("tags", [], "beyond"),
    ("k", 3, "slices"),
    ("metrics", ["map"], "slices"),
    ("users", ["relevant"], "slices"),
    ("user_columns", ["city"], "slices"),
    ("items", [], "slices"),
    ("item_columns", ["caption"], "slices"),
    ("item_columns", [], "slices"),
    ("quantiles", 2, "slices"),
    ("popularity_quantiles", 3, "slices"),
    ("max_groups", 2, "slices"),
]


@pytest.mark.parametrize(("key", "value", "where"), OPTIONS, ids=[f"{k}={v}" for k, v, _ in OPTIONS])
def test_every_option_changes_what_is_found(prepared: Prepared, key: str, value: Any, where: str):
    if where == "refused":
        with pytest.raises(
            ValueError, match=r"eval\.facts\.date: the item table has no column 'born_later': did you mean"
        ):
            evaluated(prepared, **{key: value})
        return
    usual, changed = evaluated(prepared), evaluated(prepared, **{key: value})
    if where == "beyond":
        before, after = (found.judged.summary for found in (usual, changed))
        assert before.keys() != after.keys() or any(before[n]["mean"] != after[n]["mean"] for n in before)
    else:
        assert usual.judged.summary == changed.judged.summary
        assert not slices_of(usual).equals(slices_of(changed))


def test_named_columns_make_the_groups_that_their_values_say(prepared: Prepared):
    table = slices_of(evaluated(prepared, user_columns=["city"], item_columns=["caption"], max_groups=3))
    assert set(table.filter(pl.col("slice") == "city")["group"]) == {"a", "b", "c"}
    captions = table.filter((pl.col("slice") == "caption") & (pl.col("metric") == "share_of_candidates"))
    assert len(captions["group"]) == 4 and captions["group"][-1] == "others"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"users": ["activty"]}, r"eval\.slices\.users: 'activty' is not known: did you mean 'activity'"),
        ({"items": ["cold"]}, r"eval\.slices\.items: 'cold' is not known"),
        ({"metrics": ["ndgc"]}, r"eval\.slices\.metrics: 'ndgc' is not known: did you mean 'ndcg'"),
        ({"k": 7}, r"eval\.slices\.k=7 must be one of eval\.ks=\[3, 5\]"),
        ({"quantiles": 1}, r"eval\.slices\.quantiles must be at least 2, got 1"),
        ({"popularity_quantiles": 0}, r"eval\.slices\.popularity_quantiles must be at least 2, got 0"),
        ({"max_groups": 0}, r"eval\.slices\.max_groups must be at least 1, got 0"),
        ({"user_columns": ["town"]}, r"eval\.slices\.user_columns: the user table has no column 'town'"),
        (
            {"item_columns": ["captions"]},
            r"eval\.slices\.item_columns: the item table has no column 'captions': did you",
        ),
        ({"duration": "caption"}, r"eval\.facts\.duration=caption holds String; a duration needs numbers"),
        ({"date": "tags"}, r"eval\.facts\.date=tags: column 'tags' holds List.*, a date is needed"),
        ({"tags": ["length"]}, r"eval\.facts\.tags: column 'length' holds Float64; words, codes or lists"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(prepared: Prepared, changed: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        evaluated(prepared, **changed)


def test_a_log_without_side_tables_or_times_still_has_its_figures(tmp_path: Path):
    class Bare(memory_source.Memory):
        def read(self) -> Any:
            return dataclasses.replace(super().read(), users=None, items=None, item_daily=None)

    ids = {name: memory_source.FEATURES["declared"][name] for name in ("user_id", "item_id")}
    rows = log().drop("timestamp_ms")
    bare = memory_source.run(tmp_path, source=Bare(tmp_path, log=rows), features={"declared": ids})
    found = evaluated(bare)
    assert found.beyond is not None
    assert found.beyond.absent["age_days"] == found.beyond.absent["tag_diversity"] == "the log has no item table"
    assert set(slices_of(found)["slice"]) >= {"activity", "relevant", "popularity", "cold_items"}


def test_a_system_whose_lists_are_empty_takes_the_figure_from_all_and_it_is_said(prepared: Prepared):
    rules = protocol(prepared, on="test", ks=[3], candidates="catalogue", positive=None)
    nothing = torch.full((len(rules.users), 3), -1)
    lists = {"silence": lambda: TopN(nothing, torch.full(nothing.shape, -torch.inf))}
    known = facts_beyond(prepared, rules, FactsConfig())
    found = evaluate_lists(
        prepared, rules, lists, baselines=["random"], correction="none", num_resamples=9, seed=0, beyond=known
    )
    assert all(s.summary.keys() == found.judged.summary.keys() for s in found.systems)
    assert "novelty: silence has no such figure" in found.left_out
