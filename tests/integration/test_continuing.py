"""`train.py continue_from=DIR`: three days in a row, what is refused, and that old users lose nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from commands import Outcome, command
from resume_faults import Fault
from same_run import differences

from towerrec.config_continue import arguments
from towerrec.data.catalogue import load_catalogue
from towerrec.report.paired import paired_difference
from towerrec.schema import FIRST

DAY_MS = 86_400_000
# Twice the half-width of the interval over 160 users when nothing is lost: chance alone does not reach it.
TOLERANCE = 0.02
SPLIT = ["split=time", "split.val=0.1", "split.test=0.2"]
QUICK = [
    "data=interactions", "trainer.accelerator=cpu", "trainer.devices=1",
    "trainer.max_epochs=2", "eval.baselines=[]", "eval.num_resamples=20", "eval.ks=[20]", "logger=none", "progress=off",
]  # fmt: skip


@dataclass(frozen=True)
class Days:
    """Files of a log that goes on: users of a taste like the items of that taste, and every day brings new ones."""

    root: Path
    num_tastes: int = 4
    rows_per_day: int = 600

    def write(self, day: int, *, users: int, items: int, seed: int = 0) -> Path:
        rng = np.random.default_rng([seed, day])
        user, item = rng.integers(0, users, self.rows_per_day), rng.integers(0, items, self.rows_per_day)
        alike = user % self.num_tastes == item % self.num_tastes
        liked = np.where(rng.random(self.rows_per_day) < 0.9, alike, ~alike)
        path = self.root / f"day{day}.parquet"
        time_ms = 1_600_000_000_000 + day * DAY_MS + np.sort(rng.integers(0, DAY_MS, self.rows_per_day))
        log = {"user_id": user, "item_id": item, "liked": liked.astype(np.int8), "timestamp_ms": time_ms}
        pl.DataFrame(log).write_parquet(path)
        return path

    def side(self, name: str, number: int) -> str:
        """A table of users or items, `<name>s.parquet`: a column with some values, of which each day brings more."""
        path = self.root / f"{name}s-{number}.parquet"
        kind = [f"{name}{i // 5}" for i in range(number)]
        pl.DataFrame(
            {f"{name}_id": range(number), "kind": kind, "size": [i % 7 / 2 + 0.25 for i in range(number)]}
        ).write_parquet(path)
        return str(path)

    def sides(self, users: int, items: int) -> list[str]:
        return [f"data.users={self.side('user', users)}", f"data.items={self.side('item', items)}"]

    def train(self, *words: str) -> Outcome:
        places = [f"paths.data_dir={self.root / 'd'}", f"paths.log_dir={self.root / 'l'}"]
        return command("train.py", *QUICK, *places, *words)

    def trained(self, *words: str) -> Path:
        outcome = self.train(*words)
        assert outcome.code == 0, outcome.err
        return Path(outcome.last_line.removeprefix("run directory: "))

    def judged(self, run: Path, *words: str) -> pl.DataFrame:
        """Figures of every user, of a run on a later log."""
        place = self.root / "judged"
        outcome = command(
            "evaluate.py", f"run={run}", *words, "eval.num_resamples=20", "eval.baselines=[]", "progress=off",
            f"paths.data_dir={self.root / 'd'}", f"output={place}",
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        return pl.read_parquet(place / "per_user.parquet")


def log_of(*paths: Path) -> str:
    return f"data.interactions=[{','.join(map(str, paths))}]"


@pytest.fixture(scope="module")
def days(tmp_path_factory: pytest.TempPathFactory) -> Days:
    return Days(tmp_path_factory.mktemp("days"))


@pytest.fixture(scope="module")
def first(days: Days) -> Path:
    """A run on the first two days."""
    paths = [days.write(day, users=40, items=50) for day in (0, 1)]
    features = "features.drop=[popularity,freshness]"
    columns = ["data.columns.label=liked", "data.columns.timestamp=timestamp_ms"]
    return days.trained(log_of(*paths), *columns, *days.sides(40, 50), *SPLIT, features, "loss=bce")


def facts(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def test_three_days_in_a_row(days: Days, first: Path):
    days.write(2, users=46, items=55)
    second = days.trained(f"continue_from={first}", log_of(days.root / "day2.parquet"), *days.sides(46, 55))
    days.write(3, users=50, items=60)
    paths = [days.root / f"day{day}.parquet" for day in range(4)]
    third = days.trained(f"continue_from={second}", log_of(*paths), *days.sides(50, 60))
    found = facts(third)["continued_from"]
    assert found["path"] == str(second.resolve()) and found["checkpoint"] == "best"
    assert [run["path"] for run in found["chain"]] == [str(first.resolve())]
    assert found["epochs_before"] == found["epochs"] + found["chain"][0]["epochs"]
    assert (facts(second)["users"], facts(third)["items"]) == (46, 60)
    assert facts(third)["loss"] == facts(first)["loss"] == "bce"
    one, two, three = (load_catalogue(run / "catalogue") for run in (first, second, third))
    for earlier, later in ((one, two), (two, three)):
        for (_, then), (_, now) in zip(earlier.encoders.encoders, later.encoders.encoders, strict=True):
            if hasattr(then, "vocabulary"):
                assert now.vocabulary.values[: len(then.vocabulary.values)] == then.vocabulary.values
            else:
                assert now == then
        # Nothing that was seen is unseen later, though the second log held one day alone.
        assert later.user_ids[: len(earlier.user_ids)].equals(earlier.user_ids)
        for user in range(len(earlier.user_ids)):
            seen, still = (held.seen.pairs_of(torch.tensor([user]))[1].tolist() for held in (earlier, later))
            assert set(seen) <= set(still)
    lists = days.root / "lists.parquet"
    assert command("recommend.py", f"run={second}", "n=60", f"output={lists}", "progress=off").code == 0
    listed = pl.read_parquet(lists)
    # Nor is what the first run held out: those days are over.
    before = pl.concat([pl.read_parquet(days.root / f"day{day}.parquet") for day in (0, 1)])
    assert listed["user_id"].n_unique() == 46
    assert listed.join(before, on=["user_id", "item_id"], how="semi").height == 0
    # A run is complete: the first one may be elsewhere when the log of the second is prepared anew.
    assert (second / "origin/catalogue/meta.json").samefile(first / "catalogue/meta.json")
    moved = first.rename(first.parent / "moved")
    outcome = command(
        "evaluate.py", f"run={second}", "eval.num_resamples=20", "eval.baselines=[]", "progress=off",
        f"paths.data_dir={days.root / 'elsewhere'}", f"output={days.root / 'again'}",
    )  # fmt: skip
    moved.rename(first)
    assert outcome.code == 0, outcome.err
    again, then = (json.loads(p.read_text()) for p in (days.root / "again/metrics.json", second / "metrics.json"))
    assert again["ndcg@20"]["mean"] == then["test"]["ndcg@20"]["mean"]


def test_what_the_command_leaves_out_is_as_it_was_and_a_model_that_is_no_better_is_not_kept(days: Days, first: Path):
    still = ["optimizer.lr=1e-30", "optimizer.embedding_lr=1e-30"]
    outcome = days.train(f"continue_from={first}", *still)
    assert outcome.code == 0, outcome.err
    assert "no training row is later than its last, 2020-09-14 21:" in outcome.out
    assert f"train that run itself for longer: python train.py run={first} trainer.max_epochs=N" in outcome.out
    assert "no epoch was better on the validation rows than the model it began with" in outcome.out
    run = Path(outcome.last_line.removeprefix("run directory: "))
    best, then = (torch.load(d / "checkpoints" / "best.ckpt", weights_only=True) for d in (run, first))
    assert (best["global_step"], facts(run)["epochs"]) == (0, 2)
    assert all(torch.equal(best["state_dict"][name], old) for name, old in then["state_dict"].items())
    now, before = facts(run), facts(first)
    assert now["data"] == before["data"] and now["monitored"] == now["began_with"] == before["monitored"]


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault("validation", 1, "error"), Fault("step", 20, "error")], ids=lambda f: f.kind)
def test_a_run_that_was_stopped_needs_its_origin_no_more_and_ends_as_one_that_was_not(
    days: Days, first: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault
):
    path, origin = days.write(2, users=46, items=55), days.root / f"origin of {fault.point}"
    shutil.copytree(first, origin)
    words = [f"continue_from={origin}", log_of(path), *days.sides(46, 55), "loader.batch_size=64"]
    words += ["callbacks.last.every_n_steps=3", "trainer.max_epochs=3"]
    whole, stopped = days.trained(*words), days.root / f"stopped in {fault.point}"
    with monkeypatch.context() as patched:
        fault.plant(patched.setattr)
        assert days.train(*words, f"hydra.run.dir={stopped}").code == 1
    shutil.rmtree(origin)
    outcome = command("train.py", f"run={stopped}")
    assert outcome.code == 0, outcome.err
    assert differences(whole, stopped) == []
    assert facts(whole)["began_with"] == facts(stopped)["began_with"] is not None
    assert facts(whole)["continued_from"] == facts(stopped)["continued_from"]


@pytest.mark.slow
def test_a_log_that_is_gone_from_the_cache_is_named_with_what_prepares_it_again(days: Days, first: Path):
    path = days.write(2, users=46, items=55)
    words = [f"continue_from={first}", log_of(path), *days.sides(46, 55), f"paths.cache_dir={days.root / 'other'}"]
    cache = Path(facts(first)["cache"])
    away = cache.rename(cache.with_name("away"))
    said = days.train(*words).message
    assert f"({cache}: complete.json is missing" in said and f"python evaluate.py run={first}" in said
    assert days.train(*words, "continue_replay=0").code == 0
    days.judged(first)
    assert days.train(*words).code == 0
    shutil.rmtree(away)


@pytest.mark.slow
def test_old_ids_keep_their_rows_bit_by_bit_before_the_first_step(days: Days, first: Path):
    days.write(2, users=46, items=55)
    still = ["optimizer.lr=1e-30", "optimizer.embedding_lr=1e-30"]
    words = [f"continue_from={first}", log_of(days.root / "day2.parquet"), *days.sides(46, 55), *still]
    begun = days.trained(*words)
    then, now = (
        torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"] for run in (first, begun)
    )
    for name in ("user_tower.id_vectors", "user_tower.id_biases", "item_tower.id_vectors", "item_tower.id_biases"):
        old = then[f"model.{name}"]
        assert torch.equal(now[f"model.{name}"][: len(old)], old) and len(now[f"model.{name}"]) > len(old)
        assert not now[f"model.{name}"][len(old) :].abs().max() > 1e-20
    for name, old in then.items():
        if old.shape == now[name].shape:
            assert torch.equal(now[name], old), name
    assert len(then["model.user_tower.id_vectors"]) == 40 + FIRST


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=matrix_factorization"], "model.name=matrix_factorization: the run's model has two_tower"),
        (["model.embedding_dim=16"], "model.embedding_dim=16: the run's model has 32"),
        (["loss=mse"], "loss=mse: the run was trained with bce"),
        (["experiment=best_warm"], "experiment= brings others"),
        (["features.drop=[popularity,freshness,content]"], "reads the feature 'item_kind'"),
        (["data.streaming=true"], "prepared in chunks"),
        (["continue_replay=2"], "continue_replay is a share"),
        (["continue_checkpoint=newest"], "continue_checkpoint=newest is not known"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_cannot_go_on_is_refused_in_words(days: Days, first: Path, words: list[str], said: str):
    outcome = days.train(f"continue_from={first}", *words)
    assert outcome.code == 1 and said in outcome.message, outcome.err


def test_the_log_is_of_the_source_that_the_run_had_unless_another_is_named(first: Path):
    words = ["train.py", f'continue_from="{first}"', "data.interactions=new.csv"]
    assert arguments(words) == [*words, "data=interactions"]
    for other in ([*words, "data=demo"], [*words, "experiment=best_warm"], words[:1], ["continue_from=nowhere"]):
        assert arguments(other) == other


def test_the_run_that_training_goes_on_from_is_not_overwritten(days: Days, first: Path):
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert "and would be lost" in days.train(f"continue_from={first}", f"hydra.run.dir='{first}/'").message
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before


@pytest.mark.slow
def test_a_run_whose_log_was_prepared_in_chunks_goes_on_with_new_days_alone(days: Days, first: Path):
    old, new = [days.root / f"day{day}.parquet" for day in (0, 1)], days.write(2, users=40, items=50)
    words = ["data.columns.label=liked", "data.columns.timestamp=timestamp_ms", "loss=bce", "features=ids", *SPLIT]
    streamed = days.trained(log_of(*old), "data.streaming=true", "loader.buffer_rows=500", *words)
    outcome = days.train(f"continue_from={streamed}", log_of(new), "continue_replay=0.5")
    assert outcome.code == 0 and "420 of 420 training rows are later" in outcome.out, outcome.err


@pytest.mark.slow
def test_a_log_that_brings_nothing_new_is_refused_unless_it_holds_all_days(days: Days, first: Path):
    known = days.train(f"continue_from={first}", log_of(days.root / "day0.parquet"))
    assert known.code == 1 and "no training row is later than its last, 2020-09-14 21:" in known.message
    assert f"for longer: python train.py run={first} trainer.max_epochs=N" in known.message
    path = days.write(2, users=46, items=55)
    second = days.trained(f"continue_from={first}", log_of(path), *days.sides(46, 55))
    assert "days that it knows are missing" in days.train(f"continue_from={second}").message


@pytest.mark.slow
def test_rows_the_run_was_trained_on_cannot_judge_it(days: Days, first: Path):
    outcome = days.train(f"continue_from={first}", "split=random", "split.val=0.1", "split.test=0.2")
    assert outcome.code == 1 and "rows the run has seen" in outcome.message, outcome.err


@pytest.mark.slow
def test_keys_of_going_on_need_a_run(days: Days, first: Path):
    assert "belong to continue_from=DIR" in days.train("continue_replay=0.5").message
    assert "is no run directory of train.py" in days.train(f"continue_from={days.root / 'nowhere'}").message


@pytest.mark.slow
def test_each_option_changes_what_is_learnt(days: Days, first: Path):
    path = days.write(2, users=46, items=55)
    words = [f"continue_from={first}", log_of(path), *days.sides(46, 55)]
    heads = {
        name: next(line for line in days.train(*words, *more).out.splitlines() if line.startswith("model:"))
        for name, more in {"all": [], "half": ["continue_replay=0.5"], "none": ["continue_replay=0"]}.items()
    }
    rows = {name: int(head.split(" of ")[-1].split()[0].replace(",", "")) for name, head in heads.items()}
    assert rows["none"] == 420 and rows["all"] == 420 + 1200 and 900 < rows["half"] < 1150
    last = days.trained(*words, "continue_checkpoint=last", "refit=true")
    assert facts(last)["continued_from"]["checkpoint"] == "last" and facts(last)["refit"]


def planted_days(days: Days) -> tuple[list[Path], Path, Path]:
    """Files of four old days, a new one, and the one after it, which judges.

    Of the new day a third of the rows are of old users and items, a third of new users (160 and above), and a third
    bring new items (400 and above) to old users. On the day after every old user is back among old items.
    """
    old = [days.write(day, users=160, items=400) for day in range(4)]
    new, after = days.write(4, users=160, items=400), days.write(5, users=160, items=400)
    third = pl.col("user_id") % 3
    rows = pl.read_parquet(new)
    rows.with_columns(pl.col("user_id") + 160 * (third == 1), pl.col("item_id") + 400 * (third == 2)).write_parquet(new)
    rows = pl.read_parquet(after)
    back = pl.concat([rows, rows.filter(third == 1).with_columns(pl.col("user_id") + 160)])
    back.sort("timestamp_ms").write_parquet(after)
    return old, new, after


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False], ids=["old and new days", "new days alone"])
def test_old_users_lose_nothing_and_new_ones_gain(tmp_path: Path, whole: bool):
    days = Days(tmp_path, rows_per_day=3000)
    old, new, after = planted_days(days)
    columns = ["data.columns.label=liked", "data.columns.timestamp=timestamp_ms", "loss=bce"]
    taste = days.root / "items.parquet"
    pl.DataFrame({"item_id": range(800), "taste": [f"t{i % days.num_tastes}" for i in range(800)]}).write_parquet(taste)
    columns += [f"data.items={taste}", "features.drop=[popularity,freshness,time]"]
    columns.append(
        "eval.candidates=observed"
    )  # the day after shows no new item: none is to stand before the shown ones
    first = days.trained(log_of(*old), *columns, *SPLIT, "trainer.max_epochs=10")
    split = ["split=time", "split.val=2020-09-18T06:00", "split.test=2020-09-18T12:26:40"]
    log = log_of(*(old if whole else []), new, after)
    continued = days.trained(f"continue_from={first}", log, *split, "trainer.max_epochs=10")
    judged = days.judged(first, log_of(*old, new, after), *split)
    now = pl.read_parquet(continued / "evaluation" / "per_user.parquet")
    is_old = pl.col("user_id") < 160
    lost = paired_difference(now.filter(is_old), judged.filter(is_old), "ndcg@20", num_resamples=2000)
    gained = paired_difference(now.filter(~is_old), judged.filter(~is_old), "ndcg@20", num_resamples=2000)
    assert lost.low > -TOLERANCE, lost
    assert gained.low > 0.05, gained
