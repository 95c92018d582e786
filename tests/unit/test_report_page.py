"""Sentences, tables and the page of an evaluation: computed from the figures, readable, harmless."""

from html.parser import HTMLParser

import polars as pl
import pytest
import torch

from towerrec.ragged import TopN, UserItems
from towerrec.report.charts import curve_chart, interval_chart
from towerrec.report.html import Example, Item, page
from towerrec.report.interpret import interpret, main_metric
from towerrec.report.judge import Judged, judge_system
from towerrec.report.paired import against_the_first, paired_table
from towerrec.report.text import comparison

NUM_USERS, NUM_ITEMS = 300, 40


def systems(model: str, *, bound_hits: int = 2) -> list[Judged]:
    """A model, a popular list, chance and a bound on planted data: user u likes the five items from u % 8 * 5 on.

    `model` is `taste` (finds them all), `popular` (the same list for everybody) or `poor` (the wrong ones).
    """
    user = torch.arange(NUM_USERS)
    liked = (user % 8 * 5)[:, None] + torch.arange(5)
    relevant = UserItems.from_pairs(
        user.repeat_interleave(5), liked.flatten(), num_users=NUM_USERS, num_items=NUM_ITEMS
    )
    same = torch.arange(10).expand(NUM_USERS, -1)
    generator = torch.Generator().manual_seed(0)
    chance = torch.stack([torch.randperm(NUM_ITEMS, generator=generator)[:10] for _ in range(NUM_USERS)])
    lists = {
        "taste": torch.cat([liked, (liked + 5) % NUM_ITEMS], dim=1),
        "popular": same,
        "poor": (torch.cat([liked, liked + 5], dim=1) + 10) % NUM_ITEMS,
    }
    named = {model: lists[model], "item_rate": same, "random": chance, "best_list_in_hindsight": same}
    return [
        judge_system(
            name,
            TopN(items, torch.zeros(items.shape)),
            relevant,
            user,
            [5, 10],
            num_resamples=100,
            bound=name.startswith("best"),
        )
        for name, items in named.items()
    ]


def words(model: str, **more) -> str:
    judged = systems(model)
    tables = {system.name: system.per_user for system in judged}
    paired = paired_table(tables, against_the_first(list(tables)), num_resamples=100)
    return " ".join(interpret(judged, num_candidates=NUM_ITEMS, paired=paired, **more))


def test_a_model_with_taste_is_said_to_pass_the_best_single_list():
    text = words("taste")
    assert "better than item_rate" in text and "more than chance" in text
    assert "so it knows something about users" in text
    assert "40 of 40 candidates (100%)" in text


def test_the_popular_list_is_said_to_be_one_list_and_no_better_than_itself():
    text = words("popular")
    assert "could be chance" in text
    assert "cannot be told from it" in text
    assert "nearly the same list for everybody" in text


def test_a_poor_model_is_said_to_be_worse_and_without_proof_of_taste():
    text = words("poor")
    assert "worse than item_rate" in text and "more than chance" in text
    assert "no proof of personal taste" in text
    assert "100% of them find nothing" in text


def test_figures_of_sentences_are_those_of_the_summary():
    judged = systems("taste")
    assert f"{judged[1].summary['ndcg@10']['mean']:.4f}" in words("taste")
    assert "1.0000" in words("taste")


def test_predicted_values_are_set_beside_the_constants():
    constants = {"train mean": {"rmse": 2.0, "mae": 0.6}, "train median": {"rmse": 2.2, "mae": 0.5}}
    text = words("taste", values={"rmse": {"mean": 1.6}, "mae": {"mean": 0.4}}, constant_values=constants)
    assert "explains 36% of the variance" in text  # 1 - (1.6 / 2)²
    assert "20.0% below that of the train median" in text
    worse = words("taste", values={"rmse": {"mean": 2.5}, "mae": {"mean": 0.6}}, constant_values=constants)
    assert "explains none of the variance" in worse and "20.0% above" in worse


def test_the_share_of_pairs_in_the_right_order_is_told_with_its_interval():
    text = words("taste", values={"xauc": {"mean": 0.7512, "low": 0.7455, "high": 0.7571}})
    assert "puts 75% in the right order (XAUC 0.7512, 0.7455 to 0.7571)" in text


def test_dropped_relevant_items_are_told_only_where_there_are_any():
    assert "1,234 relevant items could not be listed" in words("taste", dropped=1234)
    assert "could not be listed" not in words("taste")


def test_the_main_metric_is_ndcg_at_the_cut_closest_to_20():
    assert main_metric({"recall@20": {}, "ndcg@5": {}, "ndcg@50": {}}) == "ndcg@5"
    assert main_metric({"ndcg@10": {}, "ndcg@20": {}}) == "ndcg@20"
    with pytest.raises(ValueError, match=r"no ndcg@k; it has recall@20"):
        main_metric({"recall@20": {}})


def test_the_table_aligns_and_marks_the_bound():
    text = comparison(systems("taste"))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["taste", "item_rate", "random", "best_list_in_hindsight"]
    assert "*" in lines[5] and lines[-1].startswith("* reads the judged rows")
    assert len({len(line) for line in lines[:6]}) == 1
    assert "1.0000 [1.0000, 1.0000]" in lines[2]
    with pytest.raises(ValueError, match="no figure is called 'auc@3'"):
        comparison(systems("taste"), ["auc@3"])


class Tags(HTMLParser):
    """Checks that every tag is closed in order, and collects texts and attributes."""

    VOID = ("meta", "br", "circle", "line", "polyline")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.values: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.values += [value or "" for _, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


EVIL = '"><script>alert(1)</script>&amp;'


def whole_page() -> str:
    return page(
        f"Judged {EVIL}",
        [Judged(s.name + EVIL, s.per_user, s.summary, s.bound) for s in systems("taste")],
        [f"A sentence {EVIL}"],
        facts={EVIL: EVIL, "versions": {"torch": "2.13"}},
        rules={"ks": [5, 10], "candidates": None},
        data={"rows": 1234567, "share": 0.25, "empty": {}},
        values={"rmse": {"mean": 1.5, "low": 1.25, "high": 1.75}},
        constant_values={EVIL: {"rmse": 2.0}},
        examples=[Example(EVIL, EVIL, [Item(EVIL, relevant=True), Item("cats", relevant=False)], [Item(EVIL)])],
    )


def test_the_page_is_well_formed_whole_and_escapes_everything():
    html = whole_page()
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert "script" not in tags.seen
    assert "<script" not in html
    assert tags.text.count(EVIL) >= 12
    assert "1,234,567" in tags.text and "2.13" in tags.text and "cats" in tags.text


def test_the_page_reaches_for_nothing_outside_and_knows_phones_and_the_dark():
    html = whole_page()
    for outside in ("http://", "https://", "@import", "url(", "<link", "<img", " src="):
        assert outside not in html
    assert "width=device-width" in html and "prefers-color-scheme:dark" in html


def test_charts_stay_inside_their_frame_even_for_figures_of_zero():
    for model in ("taste", "poor"):
        judged = systems(model)
        zero = Judged(
            "zero", judged[0].per_user, {n: dict.fromkeys(("mean", "low", "high"), 0.0) for n in judged[0].summary}
        )
        for chart in (interval_chart([*judged, zero], "ndcg@10"), curve_chart([*judged, zero], "recall")):
            assert "nan" not in chart and "inf" not in chart
        assert interval_chart([zero], "ndcg@10").count("<circle") == 1
        assert curve_chart([zero], "ndcg").count("<polyline") == 1


def test_a_page_of_one_system_needs_no_baselines():
    alone = systems("taste")[:1]
    text = interpret(alone, num_candidates=NUM_ITEMS)
    assert "taste" in page("Alone", alone, text, facts={}, rules={}, data={})
    assert isinstance(alone[0].per_user, pl.DataFrame)
