"""What auto and null stand for: the rules. The values themselves are tuned and stand in `choices.py` alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from planted import schema_of

from towerrec.choices import BY_ROWS, BY_USERS, batch_size, loss_node, max_epochs, model_node, split_node, unit
from towerrec.config import build
from towerrec.data.prepare import Prepared
from towerrec.data.splits import Given, RandomRows
from towerrec.nn.losses import BCE, MSE, FullSoftmax, InBatchSoftmax, Loss, Multinomial
from towerrec.nn.two_tower import build_two_tower

OTHERS = [BCE(), MSE(), InBatchSoftmax(), FullSoftmax()]


# -- split ------------------------------------------------------------------------------------------------------------

SPLIT = {"name": "auto", "val": 0.1, "test": 0.2, "val_of_train": 0.05, "seed": 3, "candidates": "held_out"}


def test_a_log_in_one_file_is_split_at_random():
    split = build(split_node(SPLIT, {"interactions": "a.csv", "train": None}), "split")
    assert isinstance(split, RandomRows)
    assert (split.val, split.test, split.seed, split.candidates) == (0.1, 0.2, 3, "held_out")


@pytest.mark.parametrize(("val_file", "expected"), [("val.csv", 0.0), (None, 0.05)])
def test_the_split_of_given_files_draws_validation_rows_only_where_there_is_no_file_of_them(
    val_file: str | None, expected: float
):
    files = {"train": "a.csv", "test": "b.csv", "val": val_file}
    split = build(split_node(SPLIT, files), "split")
    assert isinstance(split, Given)
    assert (split.val, split.seed, split.candidates) == (expected, 3, "held_out")
    older = {key: value for key, value in SPLIT.items() if key != "val_of_train"}
    assert build(split_node(older, files), "split").val == 0.0


def test_a_split_that_was_chosen_stays_what_it_is():
    chosen = {"_target_": "towerrec.data.splits.Given", "val": 0.3}
    assert split_node(chosen, {"train": "a.csv"}) == chosen


# -- loss -------------------------------------------------------------------------------------------------------------


def prepared_of(labels: list[float], *, candidates: str = "catalogue", num_users: int = 100) -> Prepared:
    binary = set(labels) <= {0.0, 1.0}
    positives = sum(label > 0 for label in labels)
    store = SimpleNamespace(
        num_rows=lambda split: len(labels) if split == "train" else 0,
        count=lambda split, rule: positives if (split, rule) == ("train", "> 0") else 0,
    )
    schema = SimpleNamespace(num_users=num_users, num_items=10)
    plain = {"store": store, "binary": binary, "candidates": candidates, "positive": "> 0", "schema": schema}
    return cast(Prepared, SimpleNamespace(**plain))


@pytest.mark.parametrize(
    ("labels", "of_split", "asked", "expected"),
    [
        ([0.0, 1.0], "observed", None, BCE),
        ([0.0, 1.0], "catalogue", "observed", BCE),
        ([0.0, 1.0], "catalogue", None, Multinomial),
        ([0.0, 1.0], "observed", "catalogue", Multinomial),
        ([0.0, 1.0], "held_out", None, Multinomial),
        ([0.0, 1.0], "observed", "items.csv", Multinomial),
        ([1.0, 1.0], "observed", None, Multinomial),
        ([1.0, 1.0], "catalogue", None, Multinomial),
        ([0.2, 1.7], "observed", None, MSE),
        ([0.2, 1.7], "catalogue", None, MSE),
    ],
)
def test_the_automatic_loss_follows_the_labels_and_what_lists_are_chosen_from(
    labels: list[float], of_split: str, asked: str | None, expected: type[Loss]
):
    node = loss_node({"name": "auto"}, prepared_of(labels, candidates=of_split), candidates=asked)
    assert type(build(node, "loss")) is expected


def test_where_the_log_shows_users_much_of_the_catalogue_likes_are_told_from_skips_instead():
    dense = prepared_of([0.0, 1.0], candidates="catalogue", num_users=1)
    assert type(build(loss_node({"name": "auto"}, dense, candidates=None), "loss")) is BCE


@pytest.mark.parametrize(("labels", "expected"), [([1.0, 0.0, 0.0, 0.0, 0.0], 0.125), ([1.0, 1.0, 1.0, 0.0], 1.0)])
def test_what_was_shown_in_vain_weighs_half_as_much_in_all_as_what_pleased(labels: list[float], expected: float):
    node = loss_node({"name": "auto"}, prepared_of(labels, candidates="catalogue"), candidates=None)
    assert node["shown_weight"] == pytest.approx(expected)


def test_a_loss_that_was_chosen_stays_what_it_is():
    chosen = {"_target_": "towerrec.nn.losses.BPR", "monitor": "val/recall@10"}
    assert loss_node(chosen, prepared_of([0.2, 1.7]), candidates=None) == chosen


# -- model ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [Multinomial(), *OTHERS], ids=lambda loss: loss.name)
def test_every_null_of_the_model_is_filled_in_by_the_loss(loss: Loss):
    filled = BY_USERS if isinstance(loss, Multinomial) else BY_ROWS
    node = {"name": "two_tower", "user_hidden": [3], **dict.fromkeys(BY_ROWS), "feature_dims": None}
    got = model_node(node, loss)
    assert got == {"name": "two_tower", "user_hidden": [3], **filled, "feature_dims": None}
    assert node["embedding_dim"] is None  # the config itself is left alone
    model = build_two_tower(schema_of(), got)
    assert (model.profile is not None) == (filled["profile"] != "none")


def test_a_log_of_positives_alone_has_no_vectors_for_what_was_shown_in_vain():
    node = {"name": "two_tower", **dict.fromkeys(BY_ROWS)}
    got = model_node(node, Multinomial(), only_positives=True)
    assert got["profile"] == "positives"
    pool = build_two_tower(schema_of(), got).profile
    assert pool is not None and pool.shown_ID is None
    assert model_node({**node, "profile": "rows"}, Multinomial(), only_positives=True)["profile"] == "rows"
    assert model_node(node, BCE(), only_positives=True)["profile"] == "none"


@pytest.mark.parametrize("loss", [Multinomial(), BCE()], ids=lambda loss: loss.name)
@pytest.mark.parametrize(
    "given",
    [
        {"embedding_dim": 7},
        {"use_user_id": True},
        {"use_user_id": False},
        {"learn_scale": False},
        {"learn_scale": True},
        {"profile": "none"},
        {"profile": "positives"},
        {"scale": 0.5},
    ],
    ids=str,
)
def test_a_value_that_was_given_is_kept_whatever_the_loss(given: dict[str, Any], loss: Loss):
    got = model_node({**dict.fromkeys(BY_ROWS), **given}, loss)
    assert got == {**(BY_USERS if isinstance(loss, Multinomial) else BY_ROWS), **given}


def test_both_recipes_fill_in_the_same_keys_and_a_model_without_nulls_is_left_alone():
    assert BY_ROWS.keys() == BY_USERS.keys()
    node = {"name": "matrix_factorization", "embedding_dim": 32, "profile": "none"}
    assert model_node(node, Multinomial()) == node


# -- loader -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_rows", "expected"),
    [(1, 128), (8_191, 128), (21_000, 256), (110_000, 1024), (262_144, 4096), (12_000_000, 4096)],
)
def test_small_logs_get_small_batches_so_that_an_epoch_has_steps_enough(num_rows: int, expected: int):
    assert batch_size(num_rows, "rows") == expected


@pytest.mark.parametrize("loss", OTHERS, ids=lambda loss: loss.name)
def test_only_a_softmax_per_user_reads_whole_users_and_not_where_rows_have_a_history(loss: Loss):
    assert unit(Multinomial(), history_length=0) == "users"
    assert unit(Multinomial(), history_length=5) == "rows"
    assert unit(loss, history_length=0) == "rows"


@pytest.mark.parametrize(
    ("number", "expected"), [(1, 64), (943, 64), (2_100, 128), (8_192, 512), (17_000, 512), (1_000_000, 512)]
)
def test_few_users_come_in_small_batches_so_that_an_epoch_has_steps_enough(number: int, expected: int):
    assert batch_size(number, "users") == expected


def test_batches_of_users_get_more_epochs():
    assert max_epochs("users") > max_epochs("rows")
