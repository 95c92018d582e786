"""Logs of positives through the three commands: what auto makes of them, and lists from the run directory alone."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from commands import Outcome, command

from towerrec.checkpoint import find_checkpoint, load_model
from towerrec.data.catalogue import Catalogue, load_catalogue
from towerrec.nn.two_tower import TwoTower

NUM_USERS, NUM_ITEMS, NUM_GROUPS = 60, 40, 4
QUICK = ["data=interactions", "eval.ks=[5,20]", "eval.num_resamples=20", "trainer.accelerator=cpu"]


def told(folder: Path) -> list[str]:
    return [*QUICK, f"paths.data_dir={folder / 'cache'}", f"paths.log_dir={folder / 'logs'}"]


def planted_files(folder: Path, *, labels: bool = False) -> None:
    """Users like the items of their group: half of these pairs to train on, half to be judged by.

    With labels they were also shown half of the others, which they did not like, and everything has features and a
    time.
    """
    rng = np.random.default_rng(0)
    user, item = np.divmod(np.arange(NUM_USERS * NUM_ITEMS), NUM_ITEMS)
    liked = user % NUM_GROUPS == item % NUM_GROUPS
    frame = pl.DataFrame({"user_id": user + 1000, "item_id": [f"v{i}" for i in item], "liked": liked.astype(int)})
    frame = frame.with_columns(time=1_600_000_000 + rng.integers(0, 10**6, len(user)), half=rng.random(len(user)) < 0.5)
    if not labels:
        frame = frame.filter(liked).drop("liked", "time")
    frame.filter("half").drop("half").write_csv(folder / "train.csv")
    frame.filter(~pl.col("half")).drop("half").write_csv(folder / "test.csv")
    everybody, everything = np.arange(NUM_USERS), np.arange(NUM_ITEMS)
    users = pl.DataFrame({"user_id": everybody + 1000, "town": [f"t{u % 3}" for u in everybody]})
    items = pl.DataFrame({"item_id": [f"v{i}" for i in everything], "kind": [f"k{i % NUM_GROUPS}" for i in everything]})
    users.write_csv(folder / "users.csv")
    items.write_csv(folder / "items.csv")


@dataclass(frozen=True)
class Trained:
    """A run on files that are gone: `place` names the folders that commands write to."""

    directory: Path
    place: Path
    outcome: Outcome

    def recommend(self, output: Path, *overrides: str) -> pl.DataFrame:
        outcome = command(
            "recommend.py", f"paths.log_dir={self.place}", f"run={self.directory}", f"output={output}", *overrides
        )
        assert outcome.code == 0, outcome.err
        return pl.read_parquet(output)

    @property
    def facts(self) -> dict[str, Any]:
        return json.loads((self.directory / "run.json").read_text())

    @property
    def model(self) -> TwoTower:
        return load_model(find_checkpoint(self.directory / "checkpoints"))[0]  # type: ignore[return-value]

    @property
    def catalogue(self) -> Catalogue:
        return load_catalogue(self.directory / "catalogue")


def train(folder: Path, *overrides: str) -> Trained:
    files = [f"data.train={folder / 'train.csv'}", f"data.test={folder / 'test.csv'}"]
    outcome = command("train.py", *told(folder), *files, *overrides)
    assert outcome.code == 0, outcome.err
    return Trained(Path(outcome.last_line.removeprefix("run directory: ")), folder / "logs", outcome)


@pytest.fixture(scope="module")
def positives(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two files of positives, everything at its default but the number of epochs."""
    folder = tmp_path_factory.mktemp("positives")
    planted_files(folder)
    return train(folder, "trainer.max_epochs=30", "optimizer.lr=0.01")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Likes and what was only shown, with features, hours and ages of items."""
    folder = tmp_path_factory.mktemp("shown")
    planted_files(folder, labels=True)
    sides = [f"data.users={folder / 'users.csv'}", f"data.items={folder / 'items.csv'}"]
    columns = ["data.columns.label=liked", "data.columns.timestamp=time"]
    # Named: a log this small is so dense that auto would take its rows one by one.
    return train(folder, *sides, *columns, "loss=multinomial", "trainer.max_epochs=3")


# -- train ------------------------------------------------------------------------------------------------------------


def test_a_log_of_positives_is_learnt_by_profiles_and_one_softmax_per_user(positives: Trained):
    facts = positives.facts
    assert (facts["loss"], facts["profile"], facts["unit"]) == ("multinomial", "positives", "users")
    assert facts["steps"] == facts["epochs"]  # 60 users are one batch
    rows = facts["rows"]
    assert 0.02 < rows["val"] / (rows["val"] + rows["train"]) < 0.1
    found = json.loads((positives.directory / "metrics.json").read_text())
    assert found.keys() == {"val", "test"}
    assert found["test"]["recall@5"]["mean"] > 0.8  # chance: 5 of 35


def test_evaluating_a_run_repeats_the_figures_of_its_training(positives: Trained, tmp_path: Path):
    outcome = command("evaluate.py", f"run={positives.directory}", f"output={tmp_path}", "eval.num_resamples=20",
                      f"paths.data_dir={positives.place.parent / 'cache'}", f"paths.log_dir={tmp_path}")  # fmt: skip
    assert outcome.code == 0, outcome.err
    trained = json.loads((positives.directory / "metrics.json").read_text())["test"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == trained


@pytest.mark.parametrize("log", ["positives", "shown"])
def test_validation_in_training_gives_the_figure_of_the_judgement_after_it(log: str, request: pytest.FixtureRequest):
    """Context and profiles are read alike by the module and by what serves."""
    run: Trained = request.getfixturevalue(log)
    judged = json.loads((run.directory / "metrics.json").read_text())["val"]
    lines = [line for line in run.outcome.out.splitlines() if line.startswith("epoch ")]
    logged = [float(line.split("val/ndcg@20 ")[1].split()[0]) for line in lines]
    assert judged["ndcg@20"]["mean"] == pytest.approx(max(logged), abs=6e-5)


# -- recommend --------------------------------------------------------------------------------------------------------


def test_lists_come_from_the_run_directory_alone_and_are_what_the_definition_says(positives: Trained, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(positives.directory, run)
    moved = Trained(run, tmp_path, positives.outcome)
    lists = moved.recommend(tmp_path / "lists.parquet", "n=40", "exclude_seen=false")
    catalogue, model = moved.catalogue, moved.model
    pool, constant = model.profile, model.user_tower.constant
    assert pool is not None and constant is not None and catalogue.profiles is not None and model.log_scale is not None
    item_IV = model.encode_items(catalogue.items.columns).detach()
    width = pool.width
    train_rows = pl.read_csv(positives.place.parent / "train.csv")
    for user, user_id in enumerate(catalogue.user_ids.to_list()):
        start, end = catalogue.profiles.offsets[user : user + 2].tolist()
        own = catalogue.profiles.items[start:end]
        rated = train_rows.filter(pl.col("user_id") == user_id)["item_id"]
        assert set(catalogue.item_ids.gather(own.numpy())) <= set(rated)
        total = item_IV[own, :width].sum(0) / max(len(own), 1) ** pool.power
        vector = torch.nn.functional.normalize(constant + total, dim=0) * model.log_scale.exp()
        scores_I = item_IV[:, :width] @ vector + item_IV[:, -1] + (model.global_bias or 0.0)
        got = lists.filter(pl.col("user_id") == user_id).sort("rank")
        want = {catalogue.item_ids[i]: float(score) for i, score in enumerate(scores_I.detach())}
        assert got["score"].to_list() == pytest.approx([want[item] for item in got["item_id"]], abs=1e-4)
        assert got["score"].is_sorted(descending=True) and got.height == NUM_ITEMS


def test_nothing_seen_is_listed(positives: Trained, tmp_path: Path):
    lists = positives.recommend(tmp_path / "lists.parquet", "n=40")
    seen = pl.read_csv(positives.place.parent / "train.csv").select("user_id", "item_id")
    assert lists.join(seen, on=["user_id", "item_id"], how="semi").height == 0


def test_new_users_and_new_items_are_served_by_their_features(shown: Trained, tmp_path: Path):
    pl.DataFrame({"user_id": [7, 8], "town": ["t1", None]}).write_csv(tmp_path / "users.csv")
    pl.DataFrame({"item_id": ["new"], "kind": ["k2"]}).write_csv(tmp_path / "items.csv")
    asked = [f"users={tmp_path / 'users.csv'}", f"items={tmp_path / 'items.csv'}", "n=100"]
    lists = shown.recommend(tmp_path / "new.parquet", *asked)
    assert set(lists["user_id"]) == {7, 8} and lists.height == 2 * (NUM_ITEMS + 1)
    assert lists["score"].is_finite().all() and "new" in set(lists["item_id"])
    everybody = shown.recommend(tmp_path / "all.parquet", f"items={tmp_path / 'items.csv'}", "n=100")
    before = shown.recommend(tmp_path / "before.parquet", "n=100")
    kept = everybody.filter(pl.col("item_id") != "new").select("user_id", "item_id", "score")
    both = kept.join(before, on=["user_id", "item_id"])
    assert both.height == before.height == kept.height
    assert both["score"].to_list() == pytest.approx(both["score_right"].to_list(), abs=1e-5)


def test_items_that_training_has_not_seen_are_found_by_their_features(tmp_path: Path):
    planted_files(tmp_path)
    cold = [f"v{i}" for i in range(NUM_ITEMS - NUM_GROUPS, NUM_ITEMS)]  # one of each group
    rows = pl.read_csv(tmp_path / "train.csv")
    rows.filter(~pl.col("item_id").is_in(cold)).write_csv(tmp_path / "train.csv")
    pl.DataFrame({"item_id": cold}).write_csv(tmp_path / "cold.csv")
    run = train(tmp_path, f"data.items={tmp_path / 'items.csv'}", "trainer.max_epochs=30", "optimizer.lr=0.01")
    lists = run.recommend(tmp_path / "lists.parquet", f"candidates={tmp_path / 'cold.csv'}", "n=1")
    group = lists["item_id"].str.slice(1).cast(pl.Int64) % NUM_GROUPS
    assert float((group == (lists["user_id"] - 1000) % NUM_GROUPS).mean()) > 0.8  # chance: 1 of 4


def test_an_hour_can_be_asked_for(shown: Trained, tmp_path: Path):
    model = shown.model
    assert model.profile_kind == "rows"
    at = [shown.recommend(tmp_path / f"{hour}.parquet", "n=5", f"at=2020-09-15T{hour}:00") for hour in ("03", "21")]
    assert all(lists["score"].is_finite().all() for lists in at)


# -- other ways -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "overrides",
    [
        ["loss=bce", "model.profile=rows"],
        ["loss=bce", "model.profile=rows", "loader.unit=users"],
        ["loss=bce", "model.profile=positives", "model.similarity=cosine", "model.use_user_id=false"],
        ["loss=multinomial", "loader.unit=rows"],
        ["loss=multinomial", "model.profile=none", "loader.target_share=1", "model.use_user_id=true"],
        ["loss=multinomial", "model.history_dim=8", "loader.history_length=5"],
        ["loss=in_batch_softmax", "model.profile=positives"],
    ],
    ids=" ".join,
)
def test_other_losses_and_units_go_with_profiles(shown: Trained, tmp_path: Path, overrides: list[str]):
    folder = shown.place.parent
    sides = [f"data.users={folder / 'users.csv'}", f"data.items={folder / 'items.csv'}"]
    columns = ["data.columns.label=liked", "data.columns.timestamp=time"]
    run = train(folder, *sides, *columns, "trainer.max_epochs=1", *overrides)
    assert run.recommend(tmp_path / "lists.parquet", "n=3").height == NUM_USERS * 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loader.target_share=0"], "loader.target_share must be above 0 and at most 1, got 0"),
        (["loader.target_share=1"], "leaves nothing to the profile that model.profile=positives reads"),
        (["loader.unit=user"], "loader.unit must be rows or users, got 'user'"),
        (["loader.unit=users", "loader.history_length=5"], "set loader.history_length=0"),
        (["loader.micro_batch=16"], "loader.micro_batch: a profile reads the vectors of all items"),
        (["loss=multinomial", "loss.shown_weight=2"], "loss.shown_weight must be in [0, 1], got 2"),
        (["model.profile=row"], "model.profile must be none, positives or rows, got 'row'"),
        (["model.profile_power=2"], "model.profile_power must be in [0, 1], got 2"),
        (["split.val_of_train=1"], "split.val (split.val_of_train under split=auto) is a share of the training rows"),
        (["negatives=uniform"], "loss=multinomial"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_go_together_is_refused(positives: Trained, overrides: list[str], message: str):
    folder = positives.place.parent
    files = [f"data.train={folder / 'train.csv'}", f"data.test={folder / 'test.csv'}"]
    outcome = command("train.py", *told(folder), *files, "trainer.max_epochs=1", *overrides)
    assert outcome.code == 1
    assert message in outcome.message, outcome.err
    assert "Traceback" not in outcome.err
