"""What the commands leave of the statistics: figures of every user, paired tests, comparisons of runs and lists."""

import json
from pathlib import Path

import polars as pl
import pytest
from conftest import DemoRun, Workplace

from towerrec.report.per_user import figures

TINY = ["data=demo", "data.demo.scale=tiny", "eval.ks=[10,20]"]
HINDSIGHT = "best_list_in_hindsight"


def test_a_run_keeps_the_figures_of_every_user_of_every_system(demo_run: DemoRun):
    place = demo_run.directory / "evaluation"
    judged = pl.read_parquet(place / "per_user.parquet")
    others = pl.read_parquet(place / "per_user_others.parquet")
    beside = json.loads((place / "comparison.json").read_text())["baselines"]
    assert (
        others["system"].unique(maintain_order=True).to_list()
        == list(beside)
        == ["random", "most_viewed", "item_rate", HINDSIGHT]
    )
    for name, part in others.group_by("system", maintain_order=True):
        assert part["user_id"].equals(judged["user_id"])
        assert part["ndcg@20"].mean() == pytest.approx(beside[name[0]]["ndcg@20"]["mean"])
    validated = pl.read_parquet(demo_run.directory / "validation" / "per_user.parquet")
    on_val = json.loads((demo_run.directory / "metrics.json").read_text())["val"]
    assert validated["ndcg@20"].mean() == pytest.approx(on_val["ndcg@20"]["mean"])
    assert validated.height == on_val["ndcg@20"]["users"]


def test_the_model_is_compared_with_everything_beside_it_on_every_figure(demo_run: DemoRun):
    place = demo_run.directory / "evaluation"
    paired, judged = pl.read_parquet(place / "paired.parquet"), pl.read_parquet(place / "per_user.parquet")
    others = pl.read_parquet(place / "per_user_others.parquet")
    assert paired["second"].unique(maintain_order=True).to_list() == ["random", "most_viewed", "item_rate", HINDSIGHT]
    shared = {
        name for name in figures(judged) if name in others.columns and judged[name].count() and others[name].count()
    }
    assert shared >= {"ndcg@10", "recall@20", "map@20"}
    assert set(paired["metric"]) <= shared
    bound = others.filter(pl.col("system") == HINDSIGHT)
    row = paired.row(by_predicate=(pl.col("second") == HINDSIGHT) & (pl.col("metric") == "ndcg@20"), named=True)
    assert row["mean"] == pytest.approx(judged["ndcg@20"].mean() - bound["ndcg@20"].mean())
    assert row["wins"] + row["losses"] + row["ties"] == pytest.approx(1)
    assert row["family"] == 4 and row["correction"] == "holm" and row["p_adjusted"] >= row["p_value"] > 0
    assert (
        f"p = {row['p_value']:.2g}, corrected for 4 comparisons {row['p_adjusted']:.2g} (Holm)" in demo_run.outcome.out
    )


def test_the_correction_is_chosen_by_its_key(workplace: Workplace, tmp_path: Path):
    raised = {}
    for correction in ("holm", "benjamini_hochberg", "none"):
        place = tmp_path / correction
        outcome = workplace.evaluate("baseline=item_rate", *TINY, f"eval.correction={correction}", f"output={place}")
        assert outcome.code == 0, outcome.err
        table = pl.read_parquet(place / "paired.parquet")
        raised[correction] = float((table["p_adjusted"] - table["p_value"]).sum())
    assert raised["holm"] > raised["benjamini_hochberg"] > raised["none"] == 0
    outcome = workplace.evaluate("baseline=item_rate", *TINY, "eval.correction=hol")
    assert outcome.code == 1 and "eval.correction=hol is not known: did you mean 'holm'?" in outcome.message


def test_lists_of_any_system_are_compared_with_a_run_and_leave_a_page(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path
):
    lists = tmp_path / "lists.parquet"
    assert workplace.recommend(f"run={demo_run.directory}", "n=20", f"output={lists}").code == 0
    judged = workplace.evaluate(f"recommendations={lists}", *TINY, f"output={tmp_path / 'lists'}")
    assert judged.code == 0, judged.err
    places = f"compare=[{demo_run.directory},{tmp_path / 'lists'}]"
    outcome = workplace.evaluate(places, "compare_against=all", f"output={tmp_path / 'out'}")
    assert outcome.code == 0, outcome.err
    table = pl.read_parquet(tmp_path / "out" / "comparison.parquet")
    # What recommend.py writes leaves out what was seen in training and validation, as the judgement does.
    assert table.filter(pl.col("metric") == "ndcg@20")["users"].to_list() == [
        pl.read_parquet(demo_run.directory / "evaluation" / "per_user.parquet").height
    ]
    assert {p.name for p in (tmp_path / "out").iterdir()} >= {"comparison.parquet", "comparison.md", "systems.parquet"}


def test_judgements_by_other_rules_or_options_without_a_comparison_are_refused(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path
):
    other = workplace.evaluate("baseline=item_rate", *TINY, "eval.candidates=catalogue", f"output={tmp_path / 'a'}")
    assert other.code == 0, other.err
    outcome = workplace.evaluate(f"compare=[{demo_run.directory},{tmp_path / 'a'}]", f"output={tmp_path / 'out'}")
    assert outcome.code == 1 and "judged by different rules (candidates: observed in" in outcome.message
    outcome = workplace.evaluate("baseline=item_rate", *TINY, "compare_against=all")
    assert outcome.code == 1 and "belong to compare=[A,B], got baseline" in outcome.message
    outcome = workplace.evaluate("compare=[a,b]", "compare_against=rest")
    assert outcome.code == 1 and "compare_against=rest is not known" in outcome.message


@pytest.mark.slow
def test_a_sweep_is_compared_by_its_settings(workplace: Workplace, tmp_path: Path):
    swept = workplace.train(
        "trainer.max_epochs=1", "model.embedding_dim=4,16", "seed=0,1", f"hydra.sweep.dir={tmp_path / 's'}", sweep=True
    )
    assert swept.code == 0, swept.err
    outcome = workplace.evaluate(f"compare=[{tmp_path / 's'}]", f"output={tmp_path / 'out'}")
    assert outcome.code == 0, outcome.err
    systems = pl.read_parquet(tmp_path / "out" / "systems.parquet").filter(pl.col("kind") == "compared")
    assert systems["system"].unique(maintain_order=True).to_list() == [
        "model.embedding_dim=4",
        "model.embedding_dim=16",
    ]
    assert systems["runs"].unique().to_list() == [2]
    assert pl.read_parquet(tmp_path / "out" / "optimism.parquet")["settings"].to_list() == [2]
    assert "whose NDCG@20 has a standard deviation" in outcome.out
