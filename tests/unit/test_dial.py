"""The accuracy-coverage curve: figures, sentence and chart from points worked by hand."""

import polars as pl

from towerrec.report.dial import Curve, DialPoint, curve_section, curve_sentence, curve_text

OFF, BETTER = [0.1, 0.2, 0.1, 0.2] * 10, [0.3, 0.3, 0.2, 0.4] * 10


def curve(on: str = "val", *, best: bool = True, age: float | None = 3.5) -> Curve:
    def point(weight: float, ndcg: list[float], coverage: float) -> DialPoint:
        table = pl.DataFrame({"user_idx": range(len(ndcg)), "ndcg@5": ndcg, "recall@5": ndcg})
        return DialPoint(weight, table, coverage, 0.5 + weight / 10, age)

    points = [point(0.0, OFF, 0.4), point(0.5, BETTER if best else [0.0] * 40, 0.3), point(2.0, [0.0] * 40, 0.1)]
    return Curve(on, 5, "popularity", 7.0, points)


def sentence(of: Curve) -> str:
    return curve_sentence(of, num_resamples=200, seed=0)


def test_the_sentence_names_the_best_value_and_whether_it_is_more_than_chance():
    text = sentence(curve())
    assert "0.5 is the best value tried: NDCG@5 0.3000 beside 0.1500 at 0, more than chance" in text
    assert "show 30.0% of the candidates beside 40.0%" in text and "at 2, the largest, NDCG@5 is 0.0000" in text
    assert "eval.split=val" not in text


def test_a_dial_that_helps_nowhere_is_said_to_and_test_figures_are_warned_of():
    text = sentence(curve("test", best=False))
    assert "no value tried beats 0 (NDCG@5 0.1500)" in text
    assert text.endswith("Choose its value with eval.split=val: the best of several test figures flatters.")


def test_the_table_leaves_out_ages_that_nobody_knows():
    assert "age in days" in curve_text(curve()) and "age in days" not in curve_text(curve(age=None))
    assert curve().to_dict()["points"][1] == {
        "weight": 0.5, "ndcg@5": 0.3, "recall@5": 0.3, "coverage@5": 0.3,
        "popularity percentile": 0.55, "age in days": 3.5,
    } | {"ndcg@5": curve().points[1].mean("ndcg@5"), "recall@5": curve().points[1].mean("recall@5")}  # fmt: skip


def test_the_chart_has_a_dot_and_a_label_per_value_and_stands_beside_the_table():
    section = curve_section(curve())
    assert section.count("<circle") == 3 and ">0.5</text>" in section and "coverage@5" in section
    assert "<polyline" in section and section.count("<tr>") == 4 and "prior.weight" in section
