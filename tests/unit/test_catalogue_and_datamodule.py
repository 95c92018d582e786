import lightning as L
import polars as pl
import pytest
import torch
from memory_source import FEATURES, Memory, log, run

from towerrec.data.catalogue import catalogue_of, load_catalogue, save_catalogue, with_items
from towerrec.data.datamodule import RetrievalDataModule
from towerrec.data.labels import Liked
from towerrec.data.splits import Given


@pytest.fixture
def prepared(tmp_path):
    return run(tmp_path)


def test_a_catalogue_comes_back_without_the_data(prepared, tmp_path):
    save_catalogue(prepared, tmp_path / "run" / "catalogue")
    loaded = load_catalogue(tmp_path / "run" / "catalogue")
    made = catalogue_of(prepared)
    assert loaded.schema == prepared.schema
    assert loaded.encoders == prepared.encoders
    assert loaded.user_ids.equals(prepared.user_ids) and loaded.item_ids.equals(prepared.item_ids)
    for side in ("users", "items"):
        expected = getattr(prepared, side).columns
        assert all(torch.equal(column, expected[name]) for name, column in getattr(loaded, side).columns.items())
    assert torch.equal(loaded.seen.items, made.seen.items) and torch.equal(loaded.seen.offsets, made.seen.offsets)
    everyone = torch.arange(30)
    assert torch.equal(loaded.history.latest(everyone, length=5), made.history.latest(everyone, length=5))
    assert loaded.display["caption"][0] == "word0 other"
    assert (loaded.positive, loaded.as_of_ms, loaded.timezone) == ("> 0", prepared.as_of_ms, "UTC")


def test_seen_items_are_those_of_training_and_validation(prepared):
    catalogue = catalogue_of(prepared)
    for user in (0, 7, 29):
        rows = [prepared.store.rows(split) for split in ("train", "val")]
        expected = sorted({int(i) for part in rows for i in part.item_idx[part.user_idx == user]})
        start, end = catalogue.seen.offsets[user : user + 2]
        assert catalogue.seen.items[start:end].tolist() == expected


def test_a_damaged_or_missing_catalogue_says_so(prepared, tmp_path):
    with pytest.raises(ValueError, match="there is no catalogue"):
        load_catalogue(tmp_path / "nowhere")
    save_catalogue(prepared, tmp_path / "catalogue")
    (tmp_path / "catalogue" / "encoders.json").write_text("{")
    with pytest.raises(ValueError, match=r"catalogue/encoders\.json is damaged: it has 1 bytes"):
        load_catalogue(tmp_path / "catalogue")


def test_new_items_join_the_catalogue_by_their_features(prepared):
    catalogue = catalogue_of(prepared)
    known = {name: column[3].clone() for name, column in catalogue.items.columns.items()}
    frame = pl.DataFrame(
        {"item_id": [900], "tags": [[4]], "caption": ["word3 other"], "length": [0.5], "born": ["2020-07-01"]}
    )
    grown = with_items(catalogue, frame)
    assert grown.items.num_rows == 41 and grown.item_ids[40] == 900 and grown.display["caption"][40] == "word3 other"
    assert torch.equal(grown.items.columns["caption"][40], known["caption"])
    assert grown.items.columns["item_id"][40] == 1
    assert grown.items.columns["item_rate"][40] == 0
    assert grown.seen.mask_of(torch.arange(30))[:, 40].sum() == 0
    assert len(grown.item_days["age_days"]) == 41
    assert catalogue.items.num_rows == 40
    with pytest.raises(ValueError, match=r"already .such as \[100\]"):
        with_items(catalogue, frame.with_columns(item_id=pl.lit(100)))
    with pytest.raises(ValueError, match="no column 'tags'"):
        with_items(catalogue, frame.drop("tags"))
    assert with_items(catalogue, frame.drop("tags"), allow_missing=True).items.columns["tags"][40].tolist() == [0]


@pytest.mark.parametrize("kind", ["rows", "positives"])
def test_profiles_hold_the_training_rows_of_every_user_and_come_back_with_the_catalogue(prepared, tmp_path, kind):
    rows = prepared.store.rows("train")
    made = prepared.profiles(kind)
    for user in range(30):
        own = rows.user_idx == user
        liked = {int(i) for i in rows.item_idx[own & (rows.label > 0)]}
        shown = {int(i) for i in rows.item_idx[own]} if kind == "rows" else liked
        start, end = made.offsets[user : user + 2]
        assert made.items[start:end].tolist() == sorted(shown)
        assert {int(i) for i in made.items[start:end][made.values[start:end] > 0]} == liked
    assert made.counts.sum() > 0 and (made.counts[25:] == 0).all()  # users of held-out rows alone
    save_catalogue(prepared, tmp_path / "catalogue", profile=kind)
    loaded = load_catalogue(tmp_path / "catalogue").profiles
    for name in ("offsets", "items", "values"):
        assert torch.equal(getattr(loaded, name), getattr(made, name)), name
    assert loaded.num_items == made.num_items == 40


def test_a_catalogue_holds_no_profiles_where_no_model_reads_them(prepared, tmp_path):
    assert prepared.profiles("none") is None
    save_catalogue(prepared, tmp_path / "catalogue")
    assert load_catalogue(tmp_path / "catalogue").profiles is None


def test_new_items_stand_in_nobodys_profile(prepared):
    catalogue = catalogue_of(prepared, profile="rows")
    frame = pl.DataFrame(
        {"item_id": [900], "tags": [[4]], "caption": ["word3 other"], "length": [0.5], "born": ["2020-07-01"]}
    )
    grown = with_items(catalogue, frame).profiles
    assert grown.num_items == 41 and catalogue.profiles.num_items == 40
    assert torch.equal(grown.items, catalogue.profiles.items) and torch.equal(grown.values, catalogue.profiles.values)
    assert with_items(catalogue_of(prepared), frame).profiles is None


def datamodule(folder, rows=None, kind="all", **more):
    source = Memory(folder, log=log() if rows is None else rows)
    return RetrievalDataModule(
        source=source,
        split=Given(),
        label=Liked(),
        features=FEATURES,
        cache_dir=str(folder / "cache"),
        rows=kind,
        **{"batch_size": 64, "eval_users": 8, "eval_rows": 50, **more},
    )


class Recorder(L.LightningModule):
    """Keeps what the trainer hands it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.epochs, self.val = {}, {0: [], 1: []}

    def training_step(self, batch, batch_idx):
        self.epochs.setdefault(self.current_epoch, []).append(batch.item_idx)
        return self.weight * batch.label.sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.val[dataloader_idx].append(batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(module, data, **more):
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0, **{"max_epochs": 2, **more},
    )  # fmt: skip
    trainer.fit(module, datamodule=data)


def test_the_trainer_gets_every_row_once_an_epoch_in_a_new_order(tmp_path):
    module, data = Recorder(), datamodule(tmp_path)
    fit(module, data)
    first, second = (torch.cat(module.epochs[epoch]) for epoch in (0, 1))
    rows = data.prepared.store.rows("train").item_idx.long()
    assert torch.equal(first.sort().values, rows.sort().values)
    assert torch.equal(second.sort().values, rows.sort().values)
    assert not torch.equal(first, second)


def test_validation_gets_the_users_with_a_positive_and_then_the_rows(tmp_path):
    module, data = Recorder(), datamodule(tmp_path)
    fit(module, data, max_epochs=1)
    positives = data.prepared.store.positives("val", "> 0")
    assert torch.cat(module.val[0]).tolist() == positives.counts.nonzero()[:, 0].tolist()
    assert sum(len(batch) for batch in module.val[1]) == data.prepared.store.num_rows("val")
    assert data.users_with_positives("test").numel() > 0
    assert sum(len(batch) for batch in data.test_dataloader()[1]) == data.prepared.store.num_rows("test")


def test_a_split_without_validation_rows_trains_without_validation(tmp_path):
    rows = log().filter(pl.col("split") != 2)
    module, data = Recorder(), datamodule(tmp_path, rows=rows)
    fit(module, data, max_epochs=1)
    assert module.val == {0: [], 1: []}
    assert len(module.epochs[0]) == len(data.train_dataloader())


def test_positives_only_history_and_seed_reach_the_loader(tmp_path):
    data = datamodule(tmp_path)
    every = sum(len(batch) for batch in data.train_dataloader())
    only = datamodule(tmp_path, kind="positives", history_length=3, seed=1)
    batches = list(only.train_dataloader())
    assert 0 < sum(len(batch) for batch in batches) < every
    assert all((batch.label > 0).all() for batch in batches)
    assert batches[0].history.shape == (64, 3)
    assert all((batch.history != batch.item_idx[:, None]).all() for batch in batches)
    assert not torch.equal(next(iter(data.train_dataloader())).item_idx, batches[0].item_idx)


def test_hyper_parameters_are_plain_builtins(tmp_path):
    hparams = dict(datamodule(tmp_path).hparams)
    assert set(map(type, hparams.values())) <= {int, float, str, bool, type(None)}
    assert hparams["batch_size"] == 64


def test_batches_of_users_reach_the_trainer_and_differ_from_epoch_to_epoch(tmp_path):
    module, data = Recorder(), datamodule(tmp_path, unit="users", batch_size=4, target_share=0.3)
    fit(module, data)
    rows = data.prepared.store.rows("train")
    assert len(module.epochs[0]) == -(-len(rows.user_idx.unique()) // 4)
    first, second = (torch.cat(module.epochs[epoch]) for epoch in (0, 1))
    for asked in (first, second):
        assert 0.2 < len(asked) / len(rows) < 0.4
    assert first.tolist() != second.tolist()
    only = datamodule(tmp_path, unit="users", kind="positives", target_share=1.0)
    kept = torch.cat([batch.label for batch in only.train_dataloader()])
    assert (kept > 0).all() and len(kept) == (rows.label > 0).sum()


def test_a_batch_of_users_has_no_history_and_a_unit_is_one_of_two(tmp_path):
    with pytest.raises(ValueError, match=r"a batch of users has no moment, set loader\.history_length=0"):
        datamodule(tmp_path, unit="users", history_length=3).train_dataloader()
    with pytest.raises(ValueError, match=r"loader\.unit must be rows or users, got 'user'"):
        datamodule(tmp_path, unit="user")
    with pytest.raises(ValueError, match=r"loader\.target_share must be above 0 and at most 1, got 0"):
        datamodule(tmp_path, unit="users", target_share=0.0).train_dataloader()
