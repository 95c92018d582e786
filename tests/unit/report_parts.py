"""A whole report on planted data, small enough to check by eye: every section that a page can have."""

from html.parser import HTMLParser

import polars as pl
import torch

from towerrec.ragged import TopN, UserItems
from towerrec.report.html import Report
from towerrec.report.judge import Judged, judge_system
from towerrec.report.paired import against_the_first, paired_table
from towerrec.report.sections.items import item_map
from towerrec.report.sections.people import Example, Item
from towerrec.report.sections.plots import Course
from towerrec.report.slices import SCHEMA

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


class Tags(HTMLParser):
    """Checks that every tag is closed in order, and collects texts and attributes."""

    VOID = ("meta", "br", "wbr", "circle", "line", "polyline")

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


def slices_of(names: list[str], k: int = 10) -> pl.DataFrame:
    """Two slices of users and two of items; the first system is better for the second group, none of the rest.

    The third group of every slice is small.
    """
    rows = []
    for side, name in (("user", "history"), ("user", "relevant"), ("item", "popularity"), ("item", EVIL)):
        for order, group in enumerate(("0 to 5", f"6 to 10 {EVIL}", "11 or more")):
            metrics = {"user": [f"ndcg@{k}"], "item": [f"item_recall@{k}", f"share_of_exposure@{k}"]}[side]
            for place, system in enumerate(names):
                for metric in metrics:
                    mean = 0.2 + 0.4 * (order == 1 and place == 0)
                    ends = (mean - 0.05, mean + 0.05)
                    rows.append((side, name, group, order, system, metric, 40, 50, mean, *ends, order == 2))
            if side == "item":
                rows.append((side, name, group, order, None, "share_of_relevant", 40, 50, 0.3, None, None, order == 2))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def calibration() -> pl.DataFrame:
    """Three bins: one that promises too much, one that means what it says, one of a single user (no interval)."""
    return pl.DataFrame(
        {
            "bin": [0, 1, 2],
            "rows": [100, 100, 50],
            "predicted": [0.1, 0.3, 0.8],
            "actual": [0.05, 0.31, 0.7],
            "low": [0.03, 0.28, None],
            "high": [0.07, 0.34, None],
            "unit": ["watch ratio"] * 3,
        }
    )


def courses() -> list[Course]:
    """Four epochs, the third of which is the best; the first has no validation."""
    curves = {
        "epoch": [1.0, 2.0, 3.0, 4.0],
        "train/loss": [0.9, 0.5, 0.4, 0.3],
        "val/loss": [None, 0.6, 0.5, 0.55],
        "val/ndcg@20": [None, 0.2, 0.3, 0.25],
    }
    return [Course(curves, "val/ndcg@20")]


def whole_report(evil: str = "") -> Report:
    """Everything a page can show; `evil` stands in every text that comes from data."""
    judged = [Judged(s.name + evil, s.per_user, s.summary, s.bound) for s in systems("taste")]
    for place, system in enumerate(judged):
        found = {"mean": 0.5 + place / 10, "low": 0.48 + place / 10, "high": 0.52 + place / 10, "users": NUM_USERS}
        system.summary["popularity_percentile@10"] = found
    tables = {s.name: s.per_user for s in judged}
    clusters = torch.randn(3, 8, generator=torch.Generator().manual_seed(1)).repeat_interleave(40, 0)
    vectors = clusters + 0.1 * torch.randn(120, 8, generator=torch.Generator().manual_seed(2))
    split = {
        "rows": 1234567,
        "users": 300,
        "items": 40,
        "density": 0.25,
        "positive_rate": 0.1,
        "first": "2020-07-05 10:00",
    }
    item = Item(f"cats {evil}", f"item 3 · pets {evil}", f"watched 250% of its length {evil}", hit=True)
    return Report(
        title=f"Judged {evil}",
        systems=judged,
        sentences=[f"A sentence {evil}"],
        facts={
            f"fact {evil}": evil,
            "command": f"train.py {evil}",
            "versions": {"torch": "2.13"},
            "audit": [{"check": f"future rows {evil}", "outcome": "passed", "rows": 0, "text": f"none {evil}"}],
        },
        rules={"split": "test", "ks": [5, 10], "candidates": f"catalogue{evil}", "positive": f"> 0{evil}"}
        | {"users": 300, "relevant": 1500, "candidates_per_user": 40.0},
        data={"name": f"planted {evil}", "all": split, "train": split | {"last": "2020-09-05"}, "empty": {}},
        paired=paired_table(tables, against_the_first(list(tables)), num_resamples=100),
        values={"rmse": {"mean": 1.5, "low": 1.25, "high": 1.75}},
        constant_values={f"train mean {evil}": {"rmse": 2.0}},
        calibration=calibration(),
        slices=slices_of([s.name for s in judged]),
        references={"relevant": {"popularity_percentile": 0.6}},
        courses=courses(),
        items=item_map(vectors, pl.Series([f"a{evil}", "b", "c"] * 40).sort(), by=f"category {evil}"),
        examples=[Example(f"7{evil}", f"5 relevant {evil}", [item, Item("dogs")], [item], f"Liked {evil}")],
        left_out=[f"tags: none {evil}"],
    )
