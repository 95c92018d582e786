"""Training end to end on planted tastes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from planted import Planted, module_of, schema_of, tables_of, train_loader, trainer_of, val_loaders

from towerrec.callbacks import EpochLines, Throughput, progress
from towerrec.checkpoint import find_checkpoint, load_model
from towerrec.nn.losses import BCE, BPR, MSE, FullSoftmax, Huber, InBatchSoftmax, Loss, Poisson, Quantile
from towerrec.nn.negatives import CrossBatch, Hard, InBatch, Mixed, Negatives, NoNegatives, Popularity, Skips, Uniform
from towerrec.optim import SGD, Adagrad, Adam, AdamW, Constant, Cosine, Linear, OptimizerSettings
from towerrec.schema import FeatureSchema

PLANTED = Planted.make()


def fit(module: Any, *, epochs: int = 8, seed: int = 0, **keywords: Any) -> dict[str, float]:
    trainer = trainer_of(max_epochs=epochs, **keywords)
    trainer.fit(module, train_loader(PLANTED, module, seed=seed), val_loaders(PLANTED))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def recall_before(module: Any) -> float:
    trainer = trainer_of()
    return float(trainer.validate(module, val_loaders(PLANTED), verbose=False)[0]["val/recall@10"])


@pytest.mark.parametrize(
    ("loss", "negatives"),
    [
        (MSE(), NoNegatives()),
        (BCE(), NoNegatives()),
        (BCE(), Uniform(per_row=2)),
        (BCE(), InBatch(per_row=1)),
        (InBatchSoftmax(), NoNegatives()),
        (InBatchSoftmax(mask_known=False), NoNegatives()),
        (InBatchSoftmax(), Uniform(shared=32)),
        (FullSoftmax(), NoNegatives()),
        (FullSoftmax(mask_known=True), NoNegatives()),
        (Huber(delta=0.5), NoNegatives()),
        (Quantile(tau=0.6), NoNegatives()),
        (BCE(), Popularity(of="views", per_row=2)),
        (BCE(), Hard(per_row=1, pool=4)),
        (BPR(), Uniform(per_row=2)),
        (BPR(), Popularity(per_row=2)),
        (BPR(), Skips(per_row=2)),
        (BPR(), Mixed(sources={"a": Hard(per_row=1, pool=4), "b": Skips()})),
        (InBatchSoftmax(correction="refined"), NoNegatives()),
        (InBatchSoftmax(), Popularity(shared=32)),
        (InBatchSoftmax(), Skips(per_row=4, emphasis=2.0)),
        (InBatchSoftmax(), Hard(per_row=4, pool=16)),
        (InBatchSoftmax(), CrossBatch(num_batches=2)),
    ],
    ids=lambda value: value.name,
)
def test_every_loss_learns_planted_tastes(loss: Loss, negatives: Negatives):
    # A softmax takes held-out positives for negatives: only a narrow model generalises instead of remembering.
    model = {"use_features": False, "embedding_dim": 8} if loss.rows == "positives" else {}
    module = module_of(PLANTED, loss=loss, negatives=negatives, model=model)
    assert recall_before(module) < 0.45  # chance: 10 of about 40 items left
    epochs = 40 if loss.rows == "positives" else 8
    assert fit(module, epochs=epochs, check_val_every_n_epoch=epochs)["val/recall@10"] >= 0.9


def test_validation_logs_ranking_and_errors_of_the_predicted_label():
    figures = fit(module_of(PLANTED))
    assert figures["val/rmse"] < 0.2
    assert figures["val/explained"] > 0.5
    assert 0.0 < figures["val/loss"] < 0.2
    assert 0.0 <= figures["val/coverage@10"] <= 1.0
    assert figures["train/loss"] > 0.0


def test_two_runs_with_one_seed_are_equal_to_the_last_bit_and_another_seed_differs():
    model = {"dropout": 0.2, "id_dropout": 0.1}
    states = []
    for seed in (1, 1, 2):
        module = module_of(PLANTED, model=model, seed=seed, negatives=Uniform(per_row=1))
        fit(module, epochs=2, seed=seed)
        states.append(module.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize(
    ("loss", "negatives"),
    [(BCE(), NoNegatives), (InBatchSoftmax(), lambda: Mixed(sources={"a": CrossBatch(), "b": Popularity(shared=16)}))],
    ids=["bce", "cross_batch"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path, loss: Loss, negatives: Callable[[], Negatives]):
    model = {"dropout": 0.2, "id_dropout": 0.1}

    def saver(where: Path) -> ModelCheckpoint:
        return ModelCheckpoint(dirpath=where, save_last=True, filename="best")

    whole = module_of(PLANTED, loss=loss, negatives=negatives(), model=model)
    fit(whole, epochs=4)
    first = module_of(PLANTED, loss=loss, negatives=negatives(), model=model)
    fit(first, epochs=2, callbacks=[saver(tmp_path)], enable_checkpointing=True)
    second = module_of(PLANTED, loss=loss, negatives=negatives(), model=model, seed=0)
    trainer = trainer_of(max_epochs=4)
    trainer.fit(second, train_loader(PLANTED, second), val_loaders(PLANTED), ckpt_path=str(tmp_path / "last.ckpt"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    directory = tmp_path_factory.mktemp("checkpoints")
    module = module_of(PLANTED)
    saver = ModelCheckpoint(dirpath=directory, filename="best", monitor="val/recall@10", mode="max", save_last=True)
    fit(module, epochs=2, callbacks=[saver], enable_checkpointing=True)
    return module, directory


def test_a_checkpoint_holds_plain_builtins_and_gives_the_same_vectors(saved: tuple[Any, Path]):
    module, directory = saved
    content = torch.load(directory / "last.ckpt", weights_only=True)
    assert content["towerrec"]["settings"] == {"name": "planted"}
    model, meta = load_model(find_checkpoint(directory, "last"), expect=schema_of())
    users, items = tables_of()
    torch.testing.assert_close(model.encode_users(users.columns), module.model.eval().encode_users(users.columns))
    torch.testing.assert_close(model.encode_items(items.columns), module.model.encode_items(items.columns))
    assert (meta.loss, meta.epoch, meta.fingerprint) == ("bce", 1, schema_of().fingerprint)


def test_a_missing_checkpoint_says_what_is_there(saved: tuple[Any, Path], tmp_path: Path):
    with pytest.raises(ValueError, match=r"best2.ckpt is missing.*best.ckpt, last.ckpt"):
        find_checkpoint(saved[1], "best2")
    with pytest.raises(ValueError, match="there is nothing"):
        find_checkpoint(tmp_path / "nowhere")


def test_a_checkpoint_of_another_schema_or_a_damaged_one_is_refused(saved: tuple[Any, Path], tmp_path: Path):
    path = saved[1] / "best.ckpt"
    schema = schema_of()
    other = FeatureSchema(schema.features[1:], schema.num_users, schema.num_items)
    with pytest.raises(ValueError, match="the tables lack \\['user_id'\\]"):
        load_model(path, expect=other)
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged"):
        load_model(broken)
    foreign = tmp_path / "foreign.ckpt"
    torch.save({"state_dict": {}}, foreign)
    with pytest.raises(ValueError, match="not a checkpoint of towerrec"):
        load_model(foreign)


def test_labels_that_teach_nothing_are_refused_before_training():
    only_positives = Planted.make()
    keep = only_positives.train.label > 0
    rows = only_positives.train
    only_positives.train = type(rows)(
        rows.user_idx[keep], rows.item_idx[keep], rows.label[keep], rows.timestamp_ms[keep]
    )
    with pytest.raises(ValueError, match="only positives, and negatives=none"):
        module_of(only_positives)
    with pytest.raises(ValueError, match="nothing to learn"):
        module_of(only_positives, loss=MSE())
    module_of(only_positives, negatives=Uniform())
    rows.label *= 3
    with pytest.raises(ValueError, match=r"labels between 0 and 1, these lie in \[0, 3\]"):
        module_of(Planted(rows, rows))


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": AdamW(lr=0.02, weight_decay=0.1)},
        {"optimizer": Adam(lr=0.02, embedding_decay=0.01)},
        {"optimizer": Adam(lr=0.02, id_decay=0.01)},
        {"optimizer": Adam(lr=0.02, bias_decay=0.01)},
        {"optimizer": Adam(lr=0.02, embedding_lr=0.05)},
        {"optimizer": Adam(lr=0.02, weight_decay=0.01)},
        {"optimizer": Adam(lr=0.02, beta1=0.5)},
        {"optimizer": Adam(lr=0.02, beta2=0.9)},
        {"optimizer": Adam(lr=0.02, eps=1e-2)},
        {"optimizer": SGD(lr=0.5)},
        {"optimizer": SGD(lr=0.5, momentum=0.9)},
        {"optimizer": SGD(lr=0.5, momentum=0.9, nesterov=True)},
        {"optimizer": Adagrad()},
        {"optimizer": Adagrad(initial_accumulator=0.1)},
        {"scheduler": Constant(warmup_steps=10)},
        {"scheduler": Cosine()},
        {"scheduler": Cosine(final=0.5)},
        {"scheduler": Linear()},
        {"negatives": Uniform(per_row=1)},
        {"negatives": InBatch()},
        {"loss": MSE()},
        {"loss": Huber(delta=0.3)},
        {"loss": Quantile(tau=0.3)},
        {"loss": Poisson()},
        {"negatives": Popularity(of="views")},
        {"negatives": Skips()},
        {"negatives": Hard(pool=16)},
    ],
    ids=lambda change: type(next(iter(change.values()))).__name__,
)
def test_every_training_option_changes_the_parameters(change: dict[str, Any]):
    plain, changed = module_of(PLANTED), module_of(PLANTED, **change)
    for module in (plain, changed):
        fit(module, epochs=1)
    before, after = plain.state_dict(), changed.state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before if name in after)


def test_vectors_of_ids_take_the_decay_of_embeddings_unless_they_have_their_own():
    named = list(module_of(PLANTED).named_parameters())
    vectors = {name: p for name, p in named if name.endswith("id_vectors")}
    assert len(vectors) == 2

    def decay_of(optimizer: OptimizerSettings) -> set[float]:
        groups = optimizer.build(named).param_groups
        return {g["weight_decay"] for g in groups for p in g["params"] for v in vectors.values() if p is v}

    assert decay_of(SGD(embedding_decay=0.2)) == {0.2}
    assert decay_of(SGD(embedding_decay=0.2, id_decay=0.0)) == {0.0}
    assert decay_of(Adagrad(embedding_decay=0.2, id_decay=0.5)) == {0.5}
    with pytest.raises(ValueError, match=r"optimizer.id_decay must not be negative, got -1"):
        Adam(id_decay=-1)


def test_schedules_start_warm_up_and_end_where_they_say():
    cosine = Cosine(warmup_steps=4, final=0.1).factor(104)
    assert [cosine(step) for step in (0, 3, 4)] == pytest.approx([0.2, 0.8, 1.0])
    assert (cosine(54), cosine(104), cosine(200)) == pytest.approx((0.55, 0.1, 0.1))
    linear = Linear().factor(10)
    assert [linear(step) for step in (0, 5, 10)] == pytest.approx([1.0, 0.5, 0.0])
    assert Constant().factor(float("inf"))(10**6) == 1.0
    with pytest.raises(ValueError, match="needs an end of training"):
        Cosine().build(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), float("inf"))


def test_the_global_bias_starts_at_the_log_odds_of_the_labels():
    module = module_of(PLANTED, optimizer=SGD(lr=1e-12))
    fit(module, epochs=1)
    mean = float(PLANTED.train.label.mean())
    assert module.model.global_bias.detach().sigmoid().item() == pytest.approx(mean, rel=1e-4)


def test_throughput_counts_every_row_once_and_lines_name_the_figures(capsys: pytest.CaptureFixture[str]):
    module, rates = module_of(PLANTED), Throughput()
    figures = fit(module, epochs=2, callbacks=[rates, progress(kind="lines")], enable_progress_bar=True)
    assert rates.rows == 2 * len(PLANTED.train)
    assert figures["speed/rows_per_s"] > 0 and figures["memory/peak_mib"] > 0 and rates.rows_per_s > 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "val/rmse 0." in lines[0]
    assert f"train/loss {figures['train/loss']:.4f}" in lines[1] and "train/loss" in lines[0]
    assert isinstance(progress(kind="auto"), EpochLines)
    with pytest.raises(ValueError, match="auto, bar or lines"):
        progress(kind="none")
