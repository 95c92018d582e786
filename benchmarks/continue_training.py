"""Going on from a run when new days have come, beside the old model and beside training anew: prints JSON.

    python benchmarks/continue_training.py --json benchmarks/results/continue.json
    python benchmarks/continue_training.py --recipe catalogue --json benchmarks/results/continue_catalogue.json
    python benchmarks/continue_training.py --show --json benchmarks/results/continue.json

The simulated log's big matrix (`data=demo`, small), a view liked where the whole video was watched; a seventh of the
users join on the first new day. A run learns the days before 2020-08-28, others go on with it on the days until
2020-09-01, the second of September validates and the three days after it judge. Under `--recipe rows` every system
predicts rows and ranks what a user was shown in those days; under `catalogue` the log has the liked views alone, all
is by the defaults (one softmax over the catalogue, profiles), and all videos that a user has not seen are ranked.

Old users had rows before the new days, new ones not. New items had no training row in the first run and have one now;
they are judged among themselves, as if nothing else could be listed. Differences to the old model are over users of
all seeds.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import runs
from conditions import conditions

from towerrec.data.sources.demo import Demo
from towerrec.report.paired import paired_difference

FIGURE = "ndcg@20"
FIRST_DAY_MS = 1_598_745_600_000  # 2020-08-30 00:00 UTC: the first of the new days
LATE = 0.15
QUICK = ["trainer.accelerator=cpu", "trainer.devices=1", "eval.baselines=[]", "eval.ks=[20]", "logger=none"]
# Of the log, and of what is trained.
RECIPES = {
    "rows": (["data.columns.label=liked"], ["loss=bce", "eval.candidates=observed"]),
    "catalogue": ([], []),
}
BEFORE = ["split=time", "split.val=2020-08-28", "split.test=2020-08-29"]
AFTER = ["split=time", "split.val=2020-09-02", "split.test=2020-09-03"]
# What goes on, and from which rows: overrides, and whether the log holds the old days.
CONTINUED: dict[str, tuple[list[str], bool]] = {
    "continued": ([], True),
    "continued, log of the new days alone": ([], False),
    "a quarter of the old rows": (["continue_replay=0.25"], True),
    "no old rows": (["continue_replay=0"], True),
}
UNCHANGED, ANEW = "old model", "trained anew on all days"


def write_log(place: Path, seed: int, data: Path, *, recipe: str) -> None:
    """The simulated log as files: all days, those before the new ones, and the new ones."""
    if (place / "new.parquet").is_file():
        return
    place.mkdir(parents=True, exist_ok=True)
    tables = Demo(demo={"scale": "small", "seed": seed}, data_dir=str(data)).read()
    assert tables.users is not None and tables.items is not None
    tables.users.sink_parquet(place / "users.parquet")
    tables.items.sink_parquet(place / "items.parquet")
    log = (
        tables.interactions.filter(pl.col("matrix") == "big", pl.col("timestamp_ms").is_not_null())
        .select("user_id", "item_id", "timestamp_ms", liked=(pl.col("watch_ratio") >= 1).cast(pl.Int8))
        .collect()
    )
    users = log["user_id"].unique().sort()
    late = users.filter(pl.Series(np.random.default_rng(seed).random(len(users)) < LATE))
    if recipe == "catalogue":
        log = log.filter(pl.col("liked") == 1).drop("liked")
    is_new = pl.col("timestamp_ms") >= FIRST_DAY_MS
    log = log.filter(is_new | ~pl.col("user_id").is_in(late.implode()))
    log.write_parquet(place / "all.parquet")
    log.filter(~is_new).write_parquet(place / "old.parquet")
    log.filter(is_new).write_parquet(place / "new.parquet")


def files(place: Path, which: str) -> list[str]:
    """Overrides that name a log and its side tables."""
    return [
        "data=interactions",
        f"data.interactions={place / which}.parquet",
        f"data.users={place / 'users.parquet'}",
        f"data.items={place / 'items.parquet'}",
        "data.columns.timestamp=timestamp_ms",
    ]


class Seed:
    """The systems of one seed by one recipe."""

    def __init__(self, work: Path, seed: int, *, recipe: str) -> None:
        self.work, self.seed, self.place = work, seed, (work / f"log-{recipe}-{seed}").resolve()
        write_log(self.place, seed, work / "data", recipe=recipe)
        self.columns, of_model = RECIPES[recipe]
        self.common = [*self.columns, *of_model, "features.drop=[popularity,freshness]"]
        self.paths = [f"paths.data_dir={(work / 'data').resolve()}", f"seed={seed}", *QUICK]
        self.trained: dict[str, runs.Run] = {}
        self.processor_s: dict[str, float] = {}

    def train(self, name: str, words: list[str]) -> Path:
        """Train one system; its processor seconds are kept, which hardly depend on what else a machine does."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.trained[name] = runs.train([*words, *self.paths], work=self.work)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.processor_s[name] = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)
        return self.trained[name].directory

    def judged(self, run: Path, on: str, *words: str) -> pl.DataFrame:
        """Figures of every user, of a run on the days after."""
        out = self.work / "judged"
        log = [*files(self.place, "all"), *self.columns, *AFTER]
        how = [*log, f"eval.split={on}", "eval.baselines=[]", "eval.num_resamples=50"]
        place = [f"output={out.resolve()}", self.paths[0], f"paths.log_dir={(self.work / 'logs').resolve()}"]
        runs.command("evaluate.py", [f"run={run}", *how, *words, *place], work=self.work)
        return pl.read_parquet(out / "per_user.parquet")

    def run(self) -> dict[str, Any]:
        """Train and judge all systems: figures by system, and the figures of every user under `per_user`."""
        first = self.train("first", [*files(self.place, "old"), *BEFORE, *self.common])
        found: dict[str, Any] = {UNCHANGED: {on: self.judged(first, on) for on in ("val", "test")}}
        plans = {name: [f"continue_from={first}", *AFTER, *more] for name, (more, _) in CONTINUED.items()}
        whole = {name: holds for name, (_, holds) in CONTINUED.items()} | {ANEW: True}
        for name, words in (plans | {ANEW: [*AFTER, *self.common]}).items():
            run = self.train(name, [*files(self.place, "all" if whole[name] else "new"), *words])
            found[name] = {
                on: pl.read_parquet(run / where / "per_user.parquet")
                for on, where in (("val", "validation"), ("test", "evaluation"))
            }
        items = self.new_items(first)
        for name in (UNCHANGED, "continued", ANEW):
            run = first if name == UNCHANGED else self.trained[name].directory
            found[name]["new items"] = self.judged(run, "test", f"eval.candidates={items}")
        return {"per_user": found, **self.summary(found)}

    def new_items(self, first: Path) -> Path:
        """A file of the items that only the new days teach."""
        known = json.loads((first / "catalogue" / "encoders.json").read_text(encoding="utf-8"))["encoders"]
        ids = next(encoder["vocabulary"]["values"] for encoder in known if encoder["name"] == "item_id")
        new = pl.read_parquet(self.place / "new.parquet").filter(pl.col("timestamp_ms") < FIRST_DAY_MS + 3 * 86_400_000)
        path = self.place / "new_items.csv"
        new.filter(~pl.col("item_id").is_in(ids)).select(pl.col("item_id").unique()).write_csv(path)
        return path

    def summary(self, found: dict[str, Any]) -> dict[str, Any]:
        """Means by group of users, epochs and seconds."""
        old = pl.read_parquet(self.place / "old.parquet")["user_id"].unique()
        made = {}
        for name, tables in found.items():
            figures = {}
            for on, table in tables.items():
                for who, users in groups(table, old).items():
                    figures[f"{on}, {who}"] = {"mean": _round(users[FIGURE].mean()), "users": users.height}
            cost = {}
            if name in self.trained:
                facts = self.trained[name].read("run.json")
                cost = {"epochs": facts["epochs"], "fit_seconds": facts["seconds"]}
                cost |= {"processor_seconds": self.processor_s[name]}
            made[name] = {**figures, **cost}
        return {"systems": made}


def groups(table: pl.DataFrame, old: pl.Series) -> dict[str, pl.DataFrame]:
    """Figures of old and of new users."""
    is_old = pl.col("user_id").is_in(old.implode())
    return {"old users": table.filter(is_old), "new users": table.filter(~is_old)}


def compared(seeds: list[tuple[Seed, dict[str, Any]]]) -> dict[str, Any]:
    """Differences to the old model, paired by user and seed, on the days that judge."""
    found: dict[str, Any] = {}
    for name in [*CONTINUED, ANEW]:
        for on, who in (("test", "old users"), ("test", "new users"), ("new items", "old users")):
            pairs: dict[str, list[pl.DataFrame]] = {name: [], UNCHANGED: []}
            for one, made in seeds:
                old = pl.read_parquet(one.place / "old.parquet")["user_id"].unique()
                for system, tables in pairs.items():
                    table = made["per_user"][system].get(on)
                    if table is not None:
                        part = groups(table, old)[who].select(pl.col("user_id") + one.seed * 1_000_000, FIGURE)
                        tables.append(part)
            if pairs[name]:
                gain = paired_difference(pl.concat(pairs[name]), pl.concat(pairs[UNCHANGED]), FIGURE)
                ends = {"mean": gain.mean, "low": gain.low, "high": gain.high, "p": gain.p_value}
                key = who if on == "test" else "new items, old users"
                found.setdefault(name, {})[key] = {k: _round(v) for k, v in ends.items()} | {"users": gain.users}
    return found


def _round(value: Any) -> float:
    return round(float(value), 4)


def show(report: dict[str, Any]) -> str:
    """The figures as a table."""
    columns = ["val, old users", "test, old users", "test, new users", "new items, old users"]
    lines = [f"| NDCG@20 | {' | '.join(columns)} | old users, less the old model | epochs | processor s |"]
    lines.append("|---" * (len(columns) + 4) + "|")
    seeds = report["seeds"]
    for name in seeds[0]["systems"]:
        systems = [seed["systems"][name] for seed in seeds]
        means = [f"{sum(s[c]['mean'] for s in systems) / len(systems):.4f}" if c in systems[0] else "" for c in columns]
        gain = report["less_old_model"].get(name, {}).get("old users")
        said = f"{gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f})" if gain else ""
        cost = [
            f"{sum(s[k] for s in systems) / len(systems):.0f}" if k in systems[0] else ""
            for k in ("epochs", "processor_seconds")
        ]
        lines.append(f"| {name} | {' | '.join(means)} | {said} | {' | '.join(cost)} |")
    return "\n".join(lines)


def report_of(found: list[tuple[Seed, dict[str, Any]]], *, recipe: str) -> dict[str, Any]:
    """Figures of all seeds so far, with their conditions."""
    return {
        "conditions": conditions(),
        "recipe": recipe,
        "seeds": [{"seed": one.seed, "systems": made["systems"]} for one, made in found],
        "less_old_model": compared(found),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("data/continue"), help="where logs and runs lie")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipe", choices=sorted(RECIPES), default="rows", help="what is trained, and ranked")
    parser.add_argument("--json", type=Path, help="file to write, or to read under --show")
    parser.add_argument("--show", action="store_true", help="print the table of the file")
    asked = parser.parse_args()
    if asked.show:
        print(show(json.loads(asked.json.read_text(encoding="utf-8"))))
        return
    found = []
    for number in asked.seeds:
        one = Seed(asked.work, number, recipe=asked.recipe)
        found.append((one, one.run()))
        # After every seed: what is measured is kept.
        text = json.dumps(report_of(found, recipe=asked.recipe), indent=1)
        if asked.json:
            asked.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
