"""Charts: round axes, labels that do not touch, marks that differ, and pictures that stand alone."""

import re
from itertools import pairwise

import pytest

from towerrec.report.charts import Axis, around, colour, mark, spread, standalone, tick_text, ticks, wrapped
from towerrec.report.charts_lines import Line, Point, lines_chart
from towerrec.report.charts_points import Spot, cloud_chart, spots_chart
from towerrec.report.charts_rows import Bar, Row, rows_chart


def test_ticks_are_round_and_stay_between_the_ends():
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(-0.03, 0.05) == [-0.02, 0, 0.02, 0.04]
    assert ticks(3, 3) == [3]
    assert ticks(0.5, 12345)[-1] == 10000


def test_numbers_on_axes_are_short():
    assert [tick_text(v) for v in (0, 0.25, 1500, 20000, 3e6, -0.02)] == ["0", "0.25", "1,500", "20k", "3M", "-0.02"]


def test_an_axis_puts_its_ends_where_they_belong_also_when_logarithmic_or_empty():
    assert [Axis(0, 10, 100, 200)(v) for v in (0, 5, 10)] == [100, 150, 200]
    assert [Axis(1, 100, 0, 10, log=True)(v) for v in (1, 10, 100)] == [0, pytest.approx(5), 10]
    assert Axis(3, 3, 0, 10)(3) == 5


def test_an_axis_has_room_around_its_values_and_begins_at_0_where_asked():
    assert around([2.0, 4.0], room=0.5) == (1.0, 5.0)
    assert around([2.0, 4.0], zero=True, room=0.5) == (0.0, 6.0)
    assert around([-2.0, -1.0], zero=True, room=0.5) == (-3.0, 0.0)
    assert around([0.0], zero=True) == (0.0, 1.0)


def test_labels_move_apart_and_stay_in_the_frame():
    placed = spread([50, 52, 90], [10, 10, 10], 0, 100)
    assert placed == [50, 60, 90]
    assert spread([95, 96, 97], [10, 10, 10], 0, 100) == [75, 85, 95]
    assert spread([0, 1], [10, 10], 0, 100) == [5, 15]


def test_long_names_take_two_lines_and_end_in_dots():
    assert wrapped("random", 13) == ["random"]
    assert wrapped("best_list_in_hindsight", 13) == ["best_list_in_", "hindsight"]
    assert wrapped("a_name_of_very_very_many_letters", 10) == ["a_name_of_", "very_very…"]


def test_every_series_has_a_shape_of_its_own_and_those_beyond_six_a_grey():
    drawn = {re.sub(r'class="f."', "", mark(place, 10, 10)) for place in range(6)}
    assert len(drawn) == 6
    assert [colour(place) for place in (0, 5, 6, 40)] == ["0", "5", "x", "x"]


def test_rows_draw_an_interval_where_there_is_one_and_a_name_is_cut_to_its_room():
    rows = [Row("a name that is far too long for the width of any phone at all", [Bar(0.5, 0.4, 0.6)], "40 users")]
    chart = rows_chart([*rows, Row("b", [Bar(0.3)])], title="t", unit="share")
    assert chart.count('class="bar s0"') == 1 and "…</text>" in chart and "0.5000" in chart and "40 users" in chart
    assert "0.5000" not in rows_chart(rows, title="t", unit="share", values=False)


def test_differences_have_a_sign_and_a_line_at_0():
    chart = rows_chart([Row("a", [Bar(-0.01, -0.02, 0.005)])], title="t", unit="difference", signed=True)
    assert "-0.0100" in chart and "+" in rows_chart([Row("a", [Bar(0.1)])], title="t", unit="d", signed=True)
    assert chart.count('class="axis"') > rows_chart([Row("a", [Bar(-0.01)])], title="t", unit="d").count('class="axis"')


def test_a_reference_and_a_legend_stand_in_the_chart():
    chart = rows_chart([Row("a", [Bar(0.1)])], title="t", unit="u", reference=0.5, legend=[("ours", 0), ("theirs", 2)])
    assert 'class="mark"' in chart and "theirs" in chart and 'class="f2"' in chart


def test_lines_have_bands_labels_and_a_marked_place():
    points = [Point(10, 0.2, 0.1, 0.3), Point(100, 0.4, 0.3, 0.5)]
    chart = lines_chart(
        [Line("ours", points), Line("bound *", points, 1, dashed=True)], title="t", across="K", up="NDCG", log=True,
        at=[10, 100], marked=(10, "chosen"),
    )  # fmt: skip
    assert chart.count('class="band') == 2 and chart.count("<polyline") == 2 and "dashed" in chart
    assert ">ours</text>" in chart and ">chosen</text>" in chart
    alone = lines_chart([Line("one", [Point(1, 0.0)])], title="t", across="epoch", up="loss", zero=False)
    assert "nan" not in alone and 'class="band' not in alone


def test_an_axis_of_many_epochs_keeps_only_numbers_that_do_not_touch():
    points = [Point(e, 1 / e) for e in range(1, 31)]
    chart = lines_chart([Line("loss", points)], title="t", across="epoch", up="loss", at=list(range(1, 31)))
    numbers = re.findall(r'class="middle tick" x="([\d.]+)" y="[\d.]+">\d', chart)
    gaps = [float(b) - float(a) for a, b in pairwise(numbers)]
    assert len(numbers) >= 3 and min(gaps) >= 30


def test_spots_have_names_intervals_and_a_diagonal_where_asked():
    spots = [Spot("left", 0.1, 0.2, across=(0.0, 0.2), up=(0.1, 0.3)), Spot("a long name at the right", 0.9, 0.5)]
    chart = spots_chart(spots, title="t", across="a", up="b", marked=(0.5, "here"))
    assert chart.count('class="thin s0"') == 2 and ">left</text>" in chart and 'class="end halo f0"' in chart
    assert "nan" not in spots_chart([Spot("", 0.0, 0.0)], title="t", across="a", up="b", diagonal=True)
    assert spots_chart(spots, title="t", across="a", up="b", diagonal=True).count('class="mark"') == 1


def test_a_cloud_names_its_groups_with_their_counts():
    chart = cloud_chart([("rest", None, [(0.0, 0.0)]), ("pets", 0, [(1.0, 1.0), (2.0, 1.0)])], title="t")
    assert "pets: 2" in chart and "rest: 1" in chart and chart.count("h0") == 3


def test_a_chart_alone_has_its_colours_inside_and_an_svg_program_draws_it():
    resvg_py = pytest.importorskip("resvg_py")
    chart = rows_chart([Row("a", [Bar(0.5, 0.4, 0.6)])], title="t", unit="share")
    pictures = [standalone(chart, dark=dark) for dark in (False, True)]
    for alone in pictures:
        assert "var(" not in alone and 'xmlns="http://www.w3.org/2000/svg"' in alone
        assert bytes(resvg_py.svg_to_bytes(svg_string=alone))[:4] == b"\x89PNG"
    assert pictures[0] != pictures[1] and "#fcfcfb" in pictures[0] and "#16181b" in pictures[1]
    with pytest.raises(ValueError, match="not a chart"):
        standalone("<p>no</p>")
