"""A second fit on training and validation rows: what it reads, what it leaves, what its figures mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from commands import Outcome, command
from torch import Tensor

from towerrec.checkpoint import load_model, num_epochs
from towerrec.data.catalogue import load_catalogue
from towerrec.training import Fitted, fit

NUM_USERS, NUM_ITEMS = 40, 30
FOLDS = ["split=where", 'split.train="fold < 6"', 'split.val="fold = 6 or fold = 7"', 'split.test="fold > 7"']
SECOND = ["trainer.check_val_every_n_epoch=2"]
UNITED = ["split=where", 'split.train="fold < 8"', 'split.test="fold > 7"']


def rows_of(folder: Path, *, seed: int = 0) -> Path:
    """Two kinds of users who like every other item; each pair is a row, in one of ten folds, at a moment of its own.

    `seed` moves the items of the test rows among them, and nothing else.
    """
    rng = np.random.default_rng(0)
    user, item = np.divmod(np.arange(NUM_USERS * NUM_ITEMS), NUM_ITEMS)
    noise = rng.random(len(user)) < 0.15
    fold = (user + item + rng.integers(0, 3, len(user))) % 10
    test = np.flatnonzero(fold > 7)
    item[test] = item[np.random.default_rng(seed).permutation(test)] if seed else item[test]
    frame = pl.DataFrame(
        {
            "user_id": user,
            "item_id": item,
            "rating": ((user + item) % 2 ^ noise).astype(float) + 1.0,
            "time": 1_600_000_000 + rng.permutation(len(user)),
            "fold": fold,
        }
    )
    path = folder / f"rows{seed}.csv"
    frame.write_csv(path)
    return path


def train(folder: Path, rows: Path, name: str, *overrides: str) -> Outcome:
    return command(
        "train.py", "data=interactions", f"data.interactions={rows}", "data.columns.timestamp=time", "features=ids",
        "trainer.accelerator=cpu", "trainer.max_epochs=6", "loader.batch_size=64", "optimizer.lr=0.01",
        "scheduler=cosine", "eval.ks=[5,10]", "eval.num_resamples=20", f"paths.data_dir={folder / 'cache'}",
        f"paths.log_dir={folder / 'logs'}", f"hydra.run.dir={folder / name}", *overrides,
    )  # fmt: skip


RATINGS = ["label=column", "label.binary=false", "label.positive='> 1.5'", "data.columns.label=rating", "loss=poisson"]
LIKES = ["label=implicit", "loss=multinomial", "optimizer.lr=0.05", "model.scale=5"]


def weights(run: Path, which: str = "best") -> dict[str, Tensor]:
    return dict(load_model(run / "checkpoints" / f"{which}.ckpt")[0].state_dict())


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@pytest.fixture(scope="module", params=[RATINGS, LIKES], ids=["ratings", "likes"])
def options(request: pytest.FixtureRequest) -> list[str]:
    return request.param


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, options: list[str]) -> Path:
    """A refitted run in `refit`."""
    folder = tmp_path_factory.mktemp("refit")
    # Every second epoch: the refit, which validates nothing, must not wait for a validation to write its checkpoint.
    outcome = train(folder, rows_of(folder), "refit", "refit=true", *SECOND, *FOLDS, *options)
    assert outcome.code == 0, outcome.err
    (folder / "out.txt").write_text(outcome.out)
    return folder


def test_a_refit_is_a_training_on_the_united_rows_for_the_epochs_that_validation_chose(place: Path, options: list[str]):
    facts = read(place / "refit" / "run.json")
    epochs = facts["epochs"]
    assert facts["refit"] is True and facts["first_fit"]["best_epoch"] == epochs
    assert num_epochs(place / "refit" / "checkpoints" / "validated" / "best.ckpt") == epochs
    again = train(place, rows_of(place), "united", f"trainer.max_epochs={epochs}", *UNITED, *options)
    assert again.code == 0, again.err
    assert facts["steps"] == read(place / "united" / "run.json")["steps"]
    expected = weights(place / "united")
    for name, value in weights(place / "refit").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6, msg=name)
    ours, theirs = (read(place / run / "metrics.json")["test"] for run in ("refit", "united"))
    assert {n: f["mean"] for n, f in ours.items()} == pytest.approx({n: f["mean"] for n, f in theirs.items()}, abs=1e-5)


def test_a_refit_keeps_what_short_fits_on_validation_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("towerrec.assembling.best_scale", lambda *_, **__: 12.0)
    outcome = train(tmp_path, rows_of(tmp_path), "refit", "refit=true", *FOLDS, *LIKES, "model.scale=null")
    assert outcome.code == 0, outcome.err
    for name in ("validated/best", "best"):
        checkpoint = torch.load(tmp_path / "refit" / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert checkpoint["towerrec"]["model"]["scale"] == 12.0


def test_validation_figures_are_those_of_the_first_fit(place: Path, options: list[str]):
    plain = train(place, rows_of(place), "plain", *SECOND, *FOLDS, *options)
    assert plain.code == 0, plain.err
    expected, found = weights(place / "plain"), weights(place / "refit", "validated/best")
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    ours, theirs = (read(place / run / "metrics.json") for run in ("refit", "plain"))
    assert ours["val"] == theirs["val"]
    refitted = weights(place / "refit")
    assert any(not torch.equal(refitted[name], expected[name]) for name in expected)
    assert "validation figures: the first fit" in (place / "out.txt").read_text()
    assert "refit" not in read(place / "plain" / "run.json")


def test_test_rows_never_enter(place: Path, options: list[str]):
    other = train(place, rows_of(place, seed=1), "other", "refit=true", *SECOND, *FOLDS, *options)
    assert other.code == 0, other.err
    expected = weights(place / "refit")
    assert all(torch.equal(value, expected[name]) for name, value in weights(place / "other").items())
    one, two = (load_catalogue(place / run / "catalogue") for run in ("refit", "other"))
    assert torch.equal(one.seen.items, two.seen.items) and torch.equal(one.history.items, two.history.items)
    assert read(place / "other" / "metrics.json")["test"] != read(place / "refit" / "metrics.json")["test"]


def test_what_serves_knows_the_validation_rows(place: Path, options: list[str]):
    catalogue = load_catalogue(place / "refit" / "catalogue")
    frame = pl.read_csv(rows_of(place))
    known = frame.filter(pl.col("fold") < 8)
    positive = known if options is LIKES else known.filter(pl.col("rating") > 1.5)
    of_user = positive.filter(pl.col("user_id") == 3)["item_id"]
    latest = catalogue.history.latest(torch.tensor([3]), length=50)
    assert sorted(latest[latest >= 0].tolist()) == sorted(of_user.to_list())
    assert (catalogue.profiles is not None) == (options is LIKES)
    if catalogue.profiles is not None:
        assert catalogue.profiles.counts.tolist() == known.group_by("user_id").len().sort("user_id")["len"].to_list()


def test_evaluating_a_refitted_run_repeats_its_test_figures_and_refuses_validation(place: Path, tmp_path: Path):
    paths = [f"paths.data_dir={place / 'cache'}", f"paths.log_dir={tmp_path}"]
    asked = [f"run={place / 'refit'}", f"output={tmp_path / 'out'}", "eval.num_resamples=20", *paths]
    outcome = command("evaluate.py", *asked)
    assert outcome.code == 0, outcome.err
    assert read(tmp_path / "out" / "metrics.json") == read(place / "refit" / "metrics.json")["test"]
    assert "first_fit" in (tmp_path / "out" / "report.html").read_text()
    refused = command("evaluate.py", *asked, "eval.split=val")
    assert refused.code == 1 and "was refitted on its validation rows" in refused.message


def test_a_refit_without_validation_rows_is_refused_before_anything_is_trained(place: Path, options: list[str]):
    outcome = train(place, rows_of(place), "none", "refit=true", *UNITED, *options)
    assert outcome.code == 1
    assert "no validation rows to choose the number of epochs by" in outcome.message
    assert "set refit=false" in outcome.message
    assert not (place / "none" / "checkpoints").exists()


def test_an_interrupted_refit_leaves_no_finished_run(place: Path, options: list[str], monkeypatch: pytest.MonkeyPatch):
    fits = [fit]

    def only_the_first(*arguments: Any, **keywords: Any) -> Fitted:
        if not fits:
            raise KeyboardInterrupt
        return fits.pop()(*arguments, **keywords)

    monkeypatch.setattr("towerrec.refit.fit", only_the_first)
    stopped = train(place, rows_of(place), "stopped", "refit=true", *FOLDS, *options)
    assert stopped.code != 0 and "run directory" not in stopped.out
    assert (place / "stopped" / "checkpoints" / "validated" / "best.ckpt").is_file()
    assert not (place / "stopped" / "checkpoints" / "best.ckpt").exists()
    outcome = command("evaluate.py", f"run={place / 'stopped'}", f"paths.log_dir={place / 'logs'}")
    assert outcome.code == 1 and "is not a finished run" in outcome.message
