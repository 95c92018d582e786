"""Several objectives of one score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from planted import Planted, module_of, schema_of, train_loader, trainer_of, val_loaders
from vectors import Vectors, batch_of, scorer_of

from towerrec.checkpoint import load_model
from towerrec.nn.losses import BCE, BPR, MSE, FullSoftmax, InBatchSoftmax, LabelFacts, Loss, Multi, predicted_label
from towerrec.nn.negatives import Skips
from towerrec.ragged import UserItems

PLANTED = Planted.make()
USER, ITEM = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 1, 1, 0, 3, 4])
LABEL = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
KNOWN = UserItems.from_pairs(USER[LABEL > 0], ITEM[LABEL > 0], num_users=4, num_items=5)


def multi(bce: float = 1.0, other: float = 0.5, loss: Loss | None = None, **more: Any) -> Multi:
    return Multi(
        parts={"bce": {"weight": bce, "loss": BCE()}, "other": {"weight": other, "loss": loss or FullSoftmax()}}, **more
    )


def value_of(loss: Multi, label: torch.Tensor = LABEL) -> torch.Tensor:
    torch.manual_seed(0)
    scorer = scorer_of(Vectors(torch.randn(4, 3), torch.randn(5, 3)), known=KNOWN, item_counts=torch.ones(5))
    return loss(scorer.scored(batch_of(USER, ITEM, label=label), loss), scorer.known)


def scores() -> torch.Tensor:
    torch.manual_seed(0)
    users, items = torch.randn(4, 3), torch.randn(5, 3)
    return users @ items.T


def bce_by_hand(scale: float, shift: float) -> torch.Tensor:
    p = (scale * scores()[USER, ITEM] + shift).sigmoid()
    return -torch.where(LABEL > 0, p.log(), (1 - p).log()).mean()


def test_the_sum_is_weighted_and_a_part_over_positives_takes_those_of_the_batch():
    rows = -scores().log_softmax(1)[USER, ITEM][LABEL > 0]
    loss = multi(bce=2.0, other=0.25)
    torch.testing.assert_close(value_of(loss), 2.0 * bce_by_hand(1.0, 0.0) + 0.25 * rows.mean())
    with torch.no_grad():
        loss.log_scale["bce"].fill_(0.7)
        loss.shift["bce"].fill_(-1.5)
    scale = float(torch.tensor(0.7).exp())
    torch.testing.assert_close(value_of(loss), 2.0 * bce_by_hand(scale, -1.5) + 0.25 * rows.mean())


def test_a_softmax_over_the_batch_sees_only_the_positives_of_the_batch():
    loss = InBatchSoftmax(correction="none")
    torch.manual_seed(0)
    scorer = scorer_of(Vectors(torch.randn(4, 3), torch.randn(5, 3)), known=KNOWN)
    positives = batch_of(USER[LABEL > 0], ITEM[LABEL > 0])
    alone = loss(scorer.scored(positives, loss), scorer.known)
    torch.testing.assert_close(value_of(multi(loss=loss)), bce_by_hand(1.0, 0.0) + 0.5 * alone)


def test_a_batch_without_positives_leaves_such_a_part_out():
    value = value_of(multi(loss=InBatchSoftmax()), torch.zeros(6))
    p = scores()[USER, ITEM].sigmoid()
    torch.testing.assert_close(value, -(1 - p).log().mean())


def test_parts_that_all_read_positives_train_on_positives():
    both = Multi(parts={"a": {"weight": 1, "loss": FullSoftmax()}, "b": {"weight": 1, "loss": BPR()}})
    assert both.rows == "positives" and both.predictor is None and both.prediction() is None
    assert multi().rows == "all" and isinstance(multi().predictor, BCE)
    with pytest.raises(ValueError, match="predicts no label"):
        both.predict(torch.zeros(1))


def test_every_part_checks_the_labels():
    with pytest.raises(ValueError, match="loss=bce needs labels between 0 and 1"):
        multi().check(LabelFacts(1.0, 0.0, 3.0), negatives_per_row=0)
    with pytest.raises(ValueError, match="loss=bpr compares with sampled negatives"):
        multi(loss=BPR()).check(LabelFacts(0.5, 0.0, 1.0), negatives_per_row=0)


@pytest.mark.parametrize(
    ("parts", "more", "words"),
    [
        ({"bce": {"weight": 1.0, "loss": BCE()}, "b": None}, {}, "needs two parts or more, got bce"),
        ({"a": {"loss": BCE()}, "b": {"weight": 1, "loss": BPR()}}, {}, "loss.parts.a must hold a weight and a loss"),
        ({"a": {"weight": 0.0, "loss": BCE()}, "b": {"weight": 1, "loss": BPR()}}, {}, "must be a number above 0"),
        ({"a": {"weight": 1, "loss": BCE()}, "b": {"weight": 1, "loss": MSE()}}, {}, "must say which part predicts"),
        ({"a": {"weight": 1, "loss": BCE()}, "b": {"weight": 1, "loss": BPR()}}, {"predict": "b"}, "must name a part"),
        ({"a": {"weight": 1, "loss": multi()}, "b": {"weight": 1, "loss": BPR()}}, {}, "cannot be loss=multi again"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: dict[str, Any], more: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        Multi(parts=parts, **more)


def test_predict_chooses_the_part_that_predicts():
    parts = {"a": {"weight": 1, "loss": BCE()}, "b": {"weight": 1, "loss": MSE()}}
    score = torch.tensor([0.3])
    assert torch.equal(Multi(parts=parts, predict="b").predict(score), score)
    assert torch.equal(Multi(parts=parts, predict="a").predict(score), score.sigmoid())


def trained(loss: Multi, **keywords: Any) -> tuple[Any, dict[str, float]]:
    module = module_of(PLANTED, loss=loss, negatives=keywords.pop("negatives", None))
    trainer = trainer_of(max_epochs=8, check_val_every_n_epoch=8, **keywords)
    trainer.fit(module, train_loader(PLANTED, module), val_loaders(PLANTED))
    return module, {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize(
    "other", [FullSoftmax(temperature=0.2), InBatchSoftmax(correction="refined"), BPR()], ids=lambda loss: loss.name
)
def test_several_objectives_learn_planted_tastes_and_predict_them(other: Loss):
    negatives = Skips(per_row=2) if other.name == "bpr" else None
    _, figures = trained(multi(other=0.1, loss=other), negatives=negatives)
    assert figures["val/recall@10"] >= 0.9
    assert figures["val/rmse"] < 0.25
    assert {"train/bce_scale", "train/bce_shift"} <= figures.keys()


def test_a_calibration_of_its_own_keeps_probabilities_true_where_a_softmax_rules_the_scale():
    # The softmax weighs most, and at this temperature its scores lie so far apart that as logits they are too sure.
    losses = [
        trained(multi(bce=0.1, loss=FullSoftmax(temperature=5.0), calibrate=calibrate))[1]["val/loss"]
        for calibrate in (True, False)
    ]
    assert losses[0] < 0.8 * losses[1]


def test_a_checkpoint_predicts_the_labels_that_the_module_predicts(tmp_path: Path):
    saver = ModelCheckpoint(dirpath=tmp_path, filename="best")
    module, figures = trained(multi(other=0.1), callbacks=[saver], enable_checkpointing=True)
    _, meta = load_model(tmp_path / "best.ckpt", expect=schema_of())
    assert meta.loss == "multi" and meta.prediction is not None
    assert meta.prediction.loss == "bce" and meta.prediction.scale != 1.0
    rows = PLANTED.held_out
    vectors = module.scorer
    with torch.no_grad():
        score = (vectors.user_vectors(rows.user_idx.long()) * vectors.item_vectors()[rows.item_idx.long()]).sum(1)
    predicted = predicted_label(meta.prediction, score)
    assert predicted is not None
    assert float((predicted - rows.label).square().mean().sqrt()) == pytest.approx(figures["val/rmse"], rel=1e-4)


def test_a_checkpoint_from_before_calibrations_predicts_by_the_name_of_its_loss(tmp_path: Path):
    saver = ModelCheckpoint(dirpath=tmp_path, filename="best")
    module = module_of(PLANTED)
    trainer = trainer_of(max_epochs=1, callbacks=[saver], enable_checkpointing=True)
    trainer.fit(module, train_loader(PLANTED, module), val_loaders(PLANTED))
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    for loss, link in (("bce", "bce"), ("mse", "mse"), ("full_softmax", None)):
        content["towerrec"]["loss"] = loss
        content["towerrec"].pop("prediction", None)
        torch.save(content, tmp_path / "old.ckpt")
        prediction = load_model(tmp_path / "old.ckpt")[1].prediction
        assert (prediction and prediction.loss) == link
