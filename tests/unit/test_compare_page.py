"""The page of a comparison: differences, seeds and sentences, well formed and harmless."""

import polars as pl
from report_parts import EVIL, NUM_USERS, Tags, systems

from towerrec.report.compare_page import compare_page
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
