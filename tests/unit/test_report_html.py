"""The page of an evaluation: every section, well formed, harmless, and saying what the figures say."""

import dataclasses

import polars as pl
import pytest
import torch
from report_parts import EVIL, Tags, calibration, courses, slices_of, systems, whole_report

from towerrec.report.cast import Cast
from towerrec.report.html import Report, headline, page
from towerrec.report.judge import Judged
from towerrec.report.paired import against_the_first, paired_table
from towerrec.report.sections.background import audit_section, data_section
from towerrec.report.sections.figures import gaps_chart, levels_chart, main_table
from towerrec.report.sections.items import item_map, map_section
from towerrec.report.sections.people import Example, Item, people_section
from towerrec.report.sections.plots import (
    Course,
    calibration_section,
    chosen_epoch,
    cuts_chart,
    popularity_section,
    training_section,
)
from towerrec.report.sections.slices import slice_sentences, slices_sections
from towerrec.report.table import Cell, table


def read(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


def paired_of(judged: list[Judged]) -> pl.DataFrame:
    tables = {system.name: system.per_user for system in judged}
    return paired_table(tables, against_the_first(list(tables)), num_resamples=100)


def test_the_page_is_well_formed_has_every_section_and_escapes_everything():
    html = page(whole_report(EVIL))
    tags = read(html)
    assert "script" not in tags.seen and "<script" not in html
    assert tags.text.count(EVIL) > 60
    for title in (
        "What the figures say", "The figures", "Longer and shorter lists", "Popularity against accuracy",
        "Length of history", "Groups of users", "Groups of items", "Predicted values", "Calibration", "The training",
        "Map of the items", "Some users", "Data and split", "How it was judged", "Leak audit", "What was run",
    ):  # fmt: skip
        assert f">{title}</a></h2>" in html, title
    assert "1,234,567" in tags.text and "2.13" in tags.text and "cats" in tags.text


def test_every_link_of_the_page_leads_to_a_section_of_it():
    html = page(whole_report())
    ids = {part.split('"')[0] for part in html.split(' id="')[1:]}
    links = {part.split('"')[0] for part in html.split('href="#')[1:]}
    assert links == ids and len(ids) == 16


def test_the_page_reaches_for_nothing_outside_and_knows_phones_paper_and_the_dark():
    html = page(whole_report(EVIL))
    for outside in ("http://", "https://", "@import", "url(", "<link", "<img", " src="):
        assert outside not in html
    assert "width=device-width" in html and "prefers-color-scheme:dark" in html and "@media print" in html


def test_a_page_of_one_system_needs_no_baselines():
    alone = systems("taste")[:1]
    text = read(page(Report("Alone", alone, ["It stands alone."]))).text
    assert "taste reaches NDCG@10 1.000 (1.000 to 1.000)." in text and "minus" not in text


@pytest.mark.parametrize(
    "model, said", [("taste", "clearly above the best of the others, item_rate"), ("popular", "cannot be told from")]
)
def test_the_headline_says_whether_the_strongest_other_is_beaten(model: str, said: str):
    judged = systems(model)
    assert said in headline(Cast(judged), paired_of(judged))


def test_definitions_stand_on_the_page_as_text_and_not_only_as_hints():
    text = read(page(whole_report())).text
    assert "What each figure means" in text and "Sum of 1 / log2(rank + 1)" in text and "rule: ties" in text


def test_the_best_of_a_column_is_bold_and_a_bound_never_is():
    table = main_table(Cast(systems("popular")))
    rows = table.split("<tr")
    bold = [row for row in rows if "<b>" in row]
    assert len(bold) == 2  # popular and item_rate are equal
    assert not any("best_list_in_hindsight" in row for row in bold)


def test_colours_go_to_the_judged_the_bound_and_then_the_strongest_and_end_after_six():
    judged = systems("taste")
    more = [Judged(f"weak{i}", s.per_user, s.summary) for i, s in enumerate([judged[2]] * 4)]
    cast = Cast([*judged, *more])
    assert [s.name for s in cast.drawn] == ["taste", "best_list_in_hindsight", "item_rate", "random", "weak0", "weak1"]
    assert cast.undrawn == 2 and cast.rival is not None and cast.rival.name == "item_rate"
    assert cuts_chart(cast, "ndcg").count("<polyline") == 6
    assert levels_chart(cast).count('class="fx"') == 2  # the last two share the grey


def test_charts_stay_inside_their_frame_even_for_figures_of_zero():
    judged = systems("poor")
    zeros = {name: dict.fromkeys(("mean", "low", "high"), 0.0) for name in judged[0].summary}
    cast = Cast([Judged("zero", judged[0].per_user, zeros)])
    for chart in (levels_chart(cast), cuts_chart(cast, "recall")):
        assert "nan" not in chart and "inf" not in chart
    assert "nan" not in gaps_chart(Cast(judged), paired_of(judged))


def test_popularity_is_drawn_where_it_was_measured_and_told_beside_that_of_relevant_items():
    assert popularity_section(Cast(systems("taste")), {}) is None
    report = whole_report()
    found = popularity_section(Cast(report.systems), report.references)
    assert (
        found is not None and "more often than 50%" in found.body and "relevant item more often than 60%" in found.body
    )


def test_slices_say_where_the_system_is_best_and_leave_small_groups_out_of_it():
    cast = Cast(systems("taste"))
    frame = slices_of([s.name for s in cast.systems])
    users = frame.filter(pl.col("side") == "user")
    first = slice_sentences(cast, users)[0]
    assert "0.2000 for 0 to 5 to 0.6000 for 6 to 10" in first and "do not touch" in first and "11 or more" not in first
    worse = users.with_columns(mean=1 - pl.col("mean"), low=1 - pl.col("high"), high=1 - pl.col("low"))
    assert "clearly below item_rate for 6 to 10" in slice_sentences(cast, worse)[0]


def test_slices_have_their_counts_mark_few_and_fold_groups_by_columns():
    cast = Cast(systems("taste"))
    sections = slices_sections(cast, slices_of([s.name for s in cast.systems]))
    assert [s.title for s in sections] == ["Length of history", "Groups of users", "Groups of items"]
    text = read(sections[2].body).text
    assert "few: 50 items" in text and "lists of taste" in text and f"By {EVIL}" in text
    assert "40 users" in read(sections[0].body).text


def test_calibration_counts_the_bins_off_the_line():
    section = calibration_section(calibration())
    assert (
        "Of the 3 bins 1 lie off it by more than their 95 % interval: 1 promise too much, 0 too little" in section.body
    )
    assert "250 rows" in section.body and "actual watch ratio" in section.body


def test_the_chosen_epoch_is_the_best_by_the_watched_figure_and_is_marked():
    (course,) = courses()
    assert chosen_epoch(course) == 3
    assert chosen_epoch(dataclasses.replace(course, monitor="val/loss")) == 3
    assert chosen_epoch(dataclasses.replace(course, monitor="train/loss")) == 4
    section = training_section([course])
    assert section is not None and section.body.count("chosen: 3") == 2
    assert training_section([Course({"epoch": [1.0]}, "val/loss")]) is None
    assert training_section([]) is None


def test_the_map_shows_planted_groups_apart_and_says_how_far_they_are_alike():
    centre = torch.eye(3).repeat_interleave(40, 0)
    vectors = centre + 0.05 * torch.randn(120, 3, generator=torch.Generator().manual_seed(0))
    groups = pl.Series(["a"] * 40 + ["b"] * 40 + ["c"] * 40)
    found = item_map(vectors, groups, by="kind")
    assert found is not None and sum(found.variance) > 0.95
    assert found.alike[0] == 1.0 and found.alike[1] == pytest.approx(39 / 119)
    distance = torch.cdist(found.places, found.places)
    same = torch.tensor([[x == y for y in groups] for x in groups])
    assert distance[same].max() < distance[~same].min()
    again = item_map(vectors, groups, by="kind")
    assert again is not None and torch.equal(again.places, found.places)
    assert "100% share its kind; by chance 33% would (3.1 times as many)" in map_section(found).body


def test_the_map_draws_a_sample_folds_small_groups_and_refuses_what_has_no_shape():
    vectors = torch.randn(2500, 4, generator=torch.Generator().manual_seed(0))
    groups = pl.Series([str(i % 20) for i in range(2400)] + [None] * 100)
    found = item_map(vectors, groups, by="kind", seed=1)
    assert found is not None and len(found.places) == 2000 and found.num_items == 2500 and len(found.ordered) == 5
    assert "other or not known" in map_section(found).body
    assert item_map(torch.ones(50, 4), pl.Series(["a"] * 50), by="kind") is None


def test_hits_are_words_and_lists_stand_beside_what_was_watched():
    section = people_section(
        [
            Example(
                "7",
                "two hits",
                [Item("cats", hit=True), Item("dogs", "item 4", "not relevant", hit=False)],
                [Item("x")],
            )
        ]
    )
    text = read(section.body).text
    assert text.count("✓ hit") == 1 and "not relevant" in text and "Watched in training" in text


def test_a_failed_audit_is_said_first():
    checks = [{"check": "duplicates", "outcome": "failed", "rows": 3, "text": "3 rows twice"}]
    assert "1 of 1 checks failed." in audit_section(checks).body
    passed = [{**checks[0], "outcome": "passed"}]
    assert "None of 1 checks failed." in audit_section(passed).body


def test_the_splits_stand_side_by_side():
    report = whole_report()
    text = read(data_section(report.data).body).text
    assert "training" in text and "25.00%" in text and "2020-07-05 10:00" in text


def test_rows_that_are_read_stand_below_each_other_on_a_phone_and_their_heads_to_the_left():
    told = table(["check", "found"], [["a", Cell("nothing", prose=True)]])
    assert '<div class="wide told"' in told and '<th scope=col class="text">found</th>' in told
    assert "told" not in table(["", "found", "n"], [["a", Cell("nothing", prose=True), "1"]])
    assert "told" not in table(["", "n"], [])


def test_a_long_setting_may_break_behind_its_key():
    assert "<th scope=row>optimizer.lr=<wbr>0.0003</th><td>a=b</td>" in table(
        ["", "x"], [["optimizer.lr=0.0003", "a=b"]]
    )
