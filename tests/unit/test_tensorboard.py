"""What a run leaves for TensorBoard, read back from the files."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import numpy as np
import polars as pl
import pytest
import torch
from planted import Planted, module_of, train_loader, val_loaders
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata

from towerrec.nn.ensemble import without_biases
from towerrec.nn.gradients import gradient_norm
from towerrec.nn.peers import ALONE, Peers
from towerrec.nn.towers import Tower
from towerrec.report.charts import line, mark, svg, text
from towerrec.tensorboard import hparams, projector, results
from towerrec.tensorboard.histograms import Histograms, evenly
from towerrec.tensorboard.logger import RESULT, TensorBoard
from towerrec.tensorboard.pictures import charts_of, draws_text

PLANTED = Planted.make()


def events_of(directory: Path) -> EventAccumulator:
    found = EventAccumulator(str(directory), size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    found.Reload()
    return found


def fit(logger: TensorBoard | bool, *callbacks: L.Callback) -> dict[str, float]:
    """Two epochs; returns what was logged last."""
    module = module_of(PLANTED)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        logger=logger,
        callbacks=list(callbacks),
        log_every_n_steps=2,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, train_loader(PLANTED, module), val_loaders(PLANTED))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


def board_of(directory: Path, *callbacks: L.Callback) -> TensorBoard:
    """The board of such a training."""
    board = TensorBoard(save_dir=str(directory))
    fit(board, *callbacks)
    return board


def row_of(board: TensorBoard) -> tuple[dict[str, Any], int | None]:
    """Columns and status of a run's row of HParams."""
    found = events_of(board.folder / RESULT)
    contents = found.summary_metadata
    start = hparams_metadata.parse_session_start_info_plugin_data(
        contents[hparams_metadata.SESSION_START_INFO_TAG].plugin_data.content
    )
    columns = {
        name: value.string_value or (value.bool_value if value.HasField("bool_value") else value.number_value)
        for name, value in start.hparams.items()
    }
    if hparams_metadata.SESSION_END_INFO_TAG not in contents:
        return columns, None
    end = hparams_metadata.parse_session_end_info_plugin_data(
        contents[hparams_metadata.SESSION_END_INFO_TAG].plugin_data.content
    )
    return columns, end.status


# --- scalars and histograms ------------------------------------------------------------------------------------------


def test_every_scalar_is_in_a_group_and_no_step_is_written_twice(tmp_path: Path):
    found = events_of(board_of(tmp_path).folder)
    tags = found.Tags()["scalars"]
    assert {tag.split("/")[0] for tag in tags if "/" in tag} == {"train", "val", "optim"}
    assert all("/" in tag for tag in tags), "a tag outside of all groups"
    for tag in tags:
        steps = [event.step for event in found.Scalars(tag)]
        assert steps == sorted(set(steps)), tag


def test_a_second_training_in_the_same_place_begins_with_an_empty_board(tmp_path: Path):
    board_of(tmp_path)
    board = TensorBoard(save_dir=str(tmp_path))
    board.begin_row({"seed": 1})
    board.end_row({"result/val_ndcg@10": 0.5}, step=3)
    assert events_of(board.folder).Tags()["scalars"]
    other = TensorBoard(save_dir=str(tmp_path))
    other.forget()
    assert not list(board.folder.rglob("events.*")) and not list(board.folder.glob("*.yaml"))


def test_histograms_are_added_once_a_validation_and_their_sample_bounds_them(tmp_path: Path):
    found = events_of(board_of(tmp_path / "all", Histograms()).folder)
    tags = found.Tags()["histograms"]
    assert {"norms/users", "norms/items", "scores/sampled_pairs", "parameters/item_tower.id_vectors"} <= set(tags)
    assert all(len(found.Histograms(tag)) == 2 for tag in tags)
    assert found.Histograms("norms/items")[-1].histogram_value.num == 80
    few = events_of(board_of(tmp_path / "few", Histograms(sample=10)).folder)
    assert few.Histograms("norms/items")[-1].histogram_value.num == 10
    assert few.Histograms("scores/sampled_pairs")[-1].histogram_value.num == 10
    assert few.Histograms("parameters/item_tower.id_vectors")[-1].histogram_value.num == 10
    with pytest.raises(ValueError, match=r"callbacks.histograms.sample must be at least 1, got 0"):
        Histograms(sample=0)


def test_norms_leave_out_the_columns_of_biases():
    model = module_of(PLANTED).model
    vectors_RV = torch.tensor([[3.0, *[0.0] * 14, 4.0, 1.0, 7.0]])
    assert without_biases(model, vectors_RV).norm(dim=1).item() == 5.0
    several = module_of(PLANTED, model={"members": 2}).model
    assert without_biases(several, torch.cat([vectors_RV, vectors_RV], dim=1)).norm(dim=1).item() == pytest.approx(
        50**0.5
    )
    plain = module_of(PLANTED, model={"user_bias": False, "item_bias": False, "global_bias": False}).model
    assert without_biases(plain, vectors_RV[:, :16]).shape == (1, 16)


def test_watching_does_not_change_what_is_learnt(tmp_path: Path):
    watched, alone = fit(TensorBoard(save_dir=str(tmp_path)), Histograms()), fit(False)
    assert {name: watched[name] for name in alone} == alone
    assert watched.keys() - alone.keys() == {"optim/grad_norm"}


def test_rows_are_read_at_even_distances_without_a_draw():
    assert evenly(torch.arange(101), 5).tolist() == [0, 25, 50, 75, 100]
    assert evenly(torch.arange(3), 5).tolist() == [0, 1, 2]


def test_the_norm_of_a_gradient_is_over_all_parameters_and_the_blocks_of_all_processes(monkeypatch: pytest.MonkeyPatch):
    module = module_of(PLANTED)
    batch = next(iter(train_loader(PLANTED, module)))
    module.loss(module.scorer.scored(batch, module.loss), module.scorer.known).backward()
    grads = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    slow = sum(float((grad.double() ** 2).sum()) for grad in grads.values())
    assert gradient_norm(module, ALONE).item() == pytest.approx(slow**0.5, rel=1e-5)

    # Each of two processes has a block with such a gradient: the sum of squares counts it twice.
    table = module.model.item_tower.id_vectors
    monkeypatch.setattr(
        Tower, "blocks", property(lambda tower: [tower.id_vectors] if tower.id_vectors is table else [])
    )
    monkeypatch.setattr(Peers, "mean", lambda self, value: value)
    twice = slow + float((table.grad.double() ** 2).sum())
    assert gradient_norm(module, Peers(0, 2)).item() == pytest.approx(twice**0.5, rel=1e-5)


# --- HParams ---------------------------------------------------------------------------------------------------------


def test_a_row_holds_the_main_knobs_as_they_were_settled_and_what_the_command_says():
    settings = {
        "name": "two_tower",
        "loss": "bce",
        "optimizer._target_": "towerrec.optim.Adam",
        "optimizer.lr": 0.01,
        "optimizer.embedding_lr": None,
        "model.dropout": 0.1,
        "batch_size": 512,
        "seed": 0,
    }
    words = ["data=demo", "+model.dropout=null", "loader.batch_size=auto", "eval.ks=[10]", "paths.log_dir=/x", "seed=0"]
    words += ["~callbacks.progress", "~negatives", "model.user_hidden=[64,32]", "refit=true", "hydra/launcher=joblib"]
    assert hparams.columns(settings, words) == {
        "model": "two_tower",
        "loss": "bce",
        "optimizer": "Adam",
        "optimizer.lr": 0.01,
        "loader.batch_size": 512,
        "seed": 0,
        "data": "demo",
        "model.dropout": 0.1,
        "negatives": "removed",
        "model.user_hidden": "[64, 32]",
        "refit": True,
    }


def test_a_row_ends_with_the_best_on_validation_the_main_figures_on_test_and_the_cost():
    facts = {
        "monitor": "val/rmse",
        "monitored": 0.25,
        "seconds": 12.0,
        "rows_per_second": 1000.0,
        "peak_memory_bytes": 2**30,
        "peak_device_memory_bytes": None,
    }
    test = {name: {"mean": 0.5} for name in ("ndcg@10", "ndcg@20", "recall@20", "recall@50", "rmse", "mae")}
    assert hparams.figures({"test": test}, facts) == {
        "result/val_rmse": 0.25,
        "result/test_rmse": 0.5,
        "result_more/test_ndcg@20": 0.5,
        "result_more/test_recall@20": 0.5,
        "cost/seconds": 12.0,
        "cost/rows_per_s": 1000.0,
        "cost/peak_memory_mib": 1024.0,
    }
    given_up = hparams.figures({}, facts | {"peak_device_memory_bytes": 2**21})
    assert given_up.keys() >= {"result/val_rmse", "cost/seconds"} and given_up["system/peak_device_memory_mib"] == 2.0


def test_a_row_is_written_with_its_types_and_its_figures_are_the_only_scalars_beside_it(tmp_path: Path):
    board = TensorBoard(save_dir=str(tmp_path))
    board.begin_row({"refit": True, "optimizer.lr": 0.01, "loss": "bce"})
    assert row_of(board) == ({"refit": True, "optimizer.lr": 0.01, "loss": "bce"}, None)
    board.end_row({"result/test_ndcg@20": 0.25}, step=7)
    assert row_of(board)[1] == api_pb2.STATUS_SUCCESS
    found = events_of(board.folder / RESULT)
    assert found.Tags()["scalars"] == ["result/test_ndcg@20"]
    assert [(e.step, e.value) for e in found.Scalars("result/test_ndcg@20")] == [(7, 0.25)]


def test_the_row_of_a_training_that_fails_says_so(tmp_path: Path):
    class Stop(L.Callback):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            raise OSError("disk full")

    board = TensorBoard(save_dir=str(tmp_path))
    board.begin_row({"seed": 1})
    with pytest.raises(OSError, match="disk full"):
        fit(board, Stop())
    assert row_of(board) == ({"seed": 1.0}, api_pb2.STATUS_FAILURE)


# --- projector -------------------------------------------------------------------------------------------------------


def test_of_a_large_catalogue_the_projector_shows_every_nth_item_by_popularity_and_says_so(tmp_path: Path):
    popularity_I = np.array([5, 9, 1, 7, 0])
    assert projector.evenly_by_popularity(popularity_I, 10).tolist() == [1, 3, 0, 2, 4]
    rows_N = projector.evenly_by_popularity(popularity_I, 3)
    assert rows_N.tolist() == [1, 0, 4]
    about = pl.DataFrame({"title": ["a", "b", "c"], "item_id": ["2", "1", "5"]})
    projector.write(tmp_path, np.zeros((3, 2), np.float32), about, num_items=5)
    assert 'tensor_name: "3 of 5 items, by popularity"' in (tmp_path / "projector_config.pbtxt").read_text()
    with pytest.raises(ValueError, match=r"logger.tensorboard.projected_items must be at least 1, got 0"):
        TensorBoard(save_dir=str(tmp_path), projected_items=0)


def test_a_category_that_is_called_like_a_column_of_the_projector_has_a_column_of_its_own():
    counts, ids = np.array([3, 0, 1, 2, 1]), [4, 5, 6, 7, 8]
    store = SimpleNamespace(item_counts=lambda part, rule: torch.from_numpy(counts))
    log = SimpleNamespace(
        display=pl.DataFrame({"item_id": ids, "title": ["x", "x", "y", "y", "y"]}),
        item_ids=pl.Series(ids),
        store=store,
        positive="> 0",
    )
    found = results.item_facts(cast(Any, log), counts)
    assert found.columns == ["title", "item_id", "category", "training_rows", "positive_rate"]
    assert found["category"].to_list() == ["x", "x", "y", "y", "y"] and found["title"][0] == "4"


def test_titles_with_tabs_newlines_and_quotes_stay_one_cell_of_one_line(tmp_path: Path):
    titles = ["two\ttabs\there", "new\nline\r\nand\u2028another", '"quoted"', None]
    about = pl.DataFrame({"title": titles, "rows": [3, 2, 1, 0]})
    vectors_NV = np.array([[1.5, -2.0], [0.25, 1e-3], [np.nan, 0.0], [3.0, 4.0]], np.float32)
    projector.write(tmp_path, vectors_NV, about, num_items=4)
    lines = (tmp_path / "items_metadata.tsv").read_text(encoding="utf-8").split("\n")
    assert lines == ["title\trows", "two tabs here\t3", "new line and another\t2", '"quoted"\t1', "–\t0", ""]
    numbers = [line.split("\t") for line in (tmp_path / "items_vectors.tsv").read_text().splitlines()]
    np.testing.assert_allclose(np.array(numbers, np.float32), vectors_NV, atol=1e-5)
    assert 'tensor_name: "items"' in (tmp_path / "projector_config.pbtxt").read_text()


# --- pictures --------------------------------------------------------------------------------------------------------


def test_the_charts_of_a_page_become_pictures_with_a_name_each(tmp_path: Path):
    chart = svg(40, "NDCG & K", [line(0, 10, 200, 10, "c0"), text(10, 30, "words", "")])
    icon = '<svg width="14" height="14" aria-hidden="true"></svg>'
    page = f"<h2>One</h2>{chart}{icon}<h2>Two</h2><figure>{chart}</figure>"
    charts = charts_of(page)
    assert [c.title for c in charts] == ["NDCG & K", "NDCG & K (Two, 1)"]
    assert charts[0].png.startswith(b"\x89PNG")
    board = TensorBoard(save_dir=str(tmp_path))
    board.add_png("report/one", charts[0].png, step=5)
    board.finalize("success")
    (image,) = events_of(board.folder).Images("report/one")
    assert (image.step, image.encoded_image_string) == (5, charts[0].png)
    assert image.width > image.height > 40


@pytest.mark.skipif(not draws_text(), reason="this machine has no font")
def test_colours_of_a_picture_are_those_of_the_light_style():
    from io import BytesIO

    from PIL import Image

    from towerrec.report.style import LIGHT

    (chart,) = charts_of(svg(40, "a mark", [mark(0, 100, 20, 12)]))
    colours = {c[:3] for _, c in Image.open(BytesIO(chart.png)).convert("RGB").getcolors(100_000)}
    for name in ("back", "c0"):
        assert tuple(bytes.fromhex(LIGHT[name][1:])) in colours, name


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyError("ours")], ids=["disk", "bug"]
)
def test_a_writer_without_room_is_told_in_a_line_and_a_bug_with_its_traceback(
    tmp_path: Path, error: Exception, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    class _AsyncWriterThread(threading.Thread):  # called as TensorBoard's own
        def run(self) -> None:
            raise error

    before = threading.excepthook
    try:
        TensorBoard(save_dir=str(tmp_path))
        thread = _AsyncWriterThread()
        thread.start()
        thread.join()
    finally:
        threading.excepthook = before
    told = "TensorBoard's figures could not be written: No space left on device" in caplog.messages
    assert told == isinstance(error, OSError) and ("Traceback" in capsys.readouterr().err) != told
