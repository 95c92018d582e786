"""The page of a comparison: differences, seeds and sentences, well formed and harmless."""

import polars as pl
from report_parts import EVIL, NUM_USERS, Tags, systems

from towerrec.report.compare_page import compare_page
from towerrec.report.sections.by_group import sentences
from towerrec.report.side_by_side import Comparison, Contender, compare


def comparison(seeds: int = 1, evil: str = "") -> Comparison:
    """Taste against the popular list; further seeds of the first are 0.01 lower each."""
    best, other = systems("taste")[:2]
    worse = [best.per_user.with_columns(pl.col(pl.Float64, pl.Float32) - 0.01 * seed) for seed in range(seeds)]
    repeats = tuple(f"seed={seed}" for seed in range(seeds))
    places = tuple(f"runs/{seed}{evil}" for seed in range(seeds))
    contenders = [
        Contender(f"ours{evil}", places, repeats, tuple(worse)),
        Contender(f"popular{evil}", ("runs/b",), ("",), (other.per_user,)),
    ]
    beside = {f"chance{evil}": systems("taste")[2].summary}
    return compare(contenders, num_resamples=200, beside=beside, rules={"split": f"test{evil}"})


def test_the_page_has_the_systems_the_differences_and_who_is_better_off():
    tags = Tags()
    html = compare_page(comparison())
    tags.feed(html)
    assert tags.open == [] and "ours against popular" in tags.text and "ours − popular" in tags.text
    for title in ("What the figures say", "The systems", "Differences user by user", "Where the runs lie"):
        assert f">{title}</a></h2>" in html
    assert f"{NUM_USERS}" in tags.text and "better for" in tags.text and "p adjusted" in tags.text
    assert "Runs and seeds" not in html and "chance" in tags.text


def test_seeds_have_a_plot_of_their_own_and_a_wider_interval():
    html = compare_page(comparison(seeds=3))
    assert "Runs and seeds" in html and "seed=2" in html and "standard deviation 0.0100 over 3 runs" in html
    assert "over users and runs" in html


def test_names_from_files_are_escaped():
    html = compare_page(comparison(evil=EVIL))
    assert "<script" not in html


def test_differences_by_group_are_drawn_and_said_and_small_groups_say_nothing():
    best, other = systems("taste")[:2]
    ids = best.per_user["user_id" if "user_id" in best.per_user.columns else "user_idx"]
    # A group that gains, one in which both are the same list, and one too small to speak of.
    alike = ids.is_in(ids[100:200].implode())
    mixed = pl.concat([best.per_user.filter(~alike), other.per_user.filter(alike)])
    members = pl.concat(
        pl.DataFrame({"slice": "activity", "group": label, "order": order, ids.name: ids[start:end]})
        for order, (label, start, end) in enumerate(
            [(f"1 to 9{EVIL}", 0, 100), ("10 to 20", 100, 200), ("30", 200, 210)]
        )
    )
    contenders = [Contender("ours", ("a",), ("",), (mixed,)), Contender("popular", ("b",), ("",), (other.per_user,))]
    found = compare(contenders, num_resamples=200, members=members)
    assert found.groups is not None
    gain = (best.per_user[found.metric] - other.per_user[found.metric])[:100].mean()
    rows = found.groups.to_dicts()
    assert [(row["order"], row["users"], row["small"], row["family"]) for row in rows] == [
        (0, 100, False, 3), (1, 100, False, 3), (2, 10, True, 3),
    ]  # fmt: skip
    assert rows[0]["mean"] == gain and rows[0]["low"] > 0 and rows[0]["p_adjusted"] < 0.05
    assert (rows[1]["mean"], rows[1]["ties"], rows[1]["p_value"]) == (0, 1, 1)
    html = compare_page(found)
    assert "Differences by group</a></h2>" in html and "<script" not in html and "few: 10 users" in html
    assert "better than popular by more than chance for: Users by training rows 1 to 9" in html
    assert compare(contenders, num_resamples=200).groups is None
    assert sentences(found.groups.filter("small")) == ["Every group has fewer than 30 users: none of them says much."]
    assert sentences(found.groups[1:2]) == ["In no group of users is the difference more than chance."]
