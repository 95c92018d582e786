"""Lightning's TensorBoardLogger with a row of the HParams dashboard for every run, and every tag in a group."""

from __future__ import annotations

import logging
import os
import struct
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from tensorboard.plugins.hparams import metadata as hparams_metadata
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import text

log = logging.getLogger(__name__)

RESULT = "result"
"""Folder below the curves: a run of TensorBoard's that holds the row of HParams and nothing but its figures.

TensorBoard takes every scalar of such a run for a column. Beside the curves that would be dozens.
"""

_EVENTS = "events.out.tfevents.*"


class TensorBoard(TensorBoardLogger):
    """Lightning's logger, for `tensorboard --logdir logs`.

    Args:
        save_dir: The run directory.
        name: Folder of the event files in it.
        version: Folder below that, of the first of two fits; empty: none.
        flush_secs: Seconds after which what was logged can be seen.
        projected_items: The projector holds at most so many items: of a larger catalogue every n-th by popularity.
    """

    def __init__(
        self,
        *,
        save_dir: str,
        name: str = "tensorboard",
        version: str = "",
        flush_secs: int = 30,
        projected_items: int = 5_000,
    ) -> None:
        if projected_items < 1:
            raise ValueError(f"logger.tensorboard.projected_items must be at least 1, got {projected_items}")
        super().__init__(save_dir, name=name, version=version, default_hp_metric=False, flush_secs=flush_secs)
        threading.excepthook = _in_words
        self.projected_items = projected_items
        self._result: SummaryWriter | None = None

    @property
    def folder(self) -> Path:
        """Where the event files of the curves lie."""
        return Path(self.log_dir)

    @property
    def result(self) -> SummaryWriter:
        """Writer of the folder `RESULT`."""
        if self._result is None:
            self._result = SummaryWriter(str(self.folder / RESULT))
        return self._result

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Lightning's, without the `epoch` that it adds to every call: a tag outside of all groups."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    def forget(self) -> None:
        """Remove what an earlier training in the same place has logged: a training begins with an empty board."""
        for folder in (self.folder, self.folder / RESULT):
            for path in (*folder.glob(_EVENTS), *folder.glob(self.NAME_HPARAMS_FILE)):
                path.unlink()

    def position(self) -> dict[str, int]:
        """The size of every event file, once all that was logged is in them."""
        self.experiment.flush()
        if self._result is not None:
            self._result.flush()
        return {str(path.relative_to(self.folder)): path.stat().st_size for path in self._event_files()}

    def back_to(self, position: Mapping[str, int]) -> None:
        """Cut the event files to the sizes they had, and remove those that were not there: no step is there twice."""
        for path in self._event_files():
            size = position.get(str(path.relative_to(self.folder)))
            if size is None:
                path.unlink()
            elif path.stat().st_size > size:
                os.truncate(path, size)

    def _event_files(self) -> list[Path]:
        return [path for folder in (self.folder, self.folder / RESULT) for path in sorted(folder.glob(_EVENTS))]

    def begin_row(self, hparams: Mapping[str, bool | float | str]) -> None:
        """Open the run's row of HParams."""
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=time.time())
        for name, value in hparams.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, str):
                start.hparams[name].string_value = value
            else:
                start.hparams[name].number_value = value
        self._add(hparams_metadata.SESSION_START_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_start_info=start))

    def end_row(self, figures: Mapping[str, float], step: int) -> None:
        """Fill in its figures and close it."""
        for tag, value in figures.items():
            self.result.add_scalar(tag, value, step)
        self._end(api_pb2.STATUS_SUCCESS)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Called by Lightning when a fit ends; where it failed the run's row says so."""
        super().finalize(status)
        if status == "failed" and self._result is not None:
            self._end(api_pb2.STATUS_FAILURE)

    def add_text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Add text under its own tag: PyTorch's `add_text` would append a word to it."""
        summary = text(tag, markdown)
        summary.value[0].tag = tag
        self.experiment._get_file_writer().add_summary(summary, step)

    def add_png(self, tag: str, png: bytes, step: int) -> None:
        """Add a picture as it is."""
        width, height = struct.unpack(">II", png[16:24])  # of the first chunk, IHDR
        image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=png)
        self.experiment._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def _end(self, status: int) -> None:
        end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time.time())
        self._add(hparams_metadata.SESSION_END_INFO_TAG, plugin_data_pb2.HParamsPluginData(session_end_info=end))
        self.result.close()

    def _add(self, tag: str, data: plugin_data_pb2.HParamsPluginData) -> None:
        about = hparams_metadata.create_summary_metadata(data)
        value = Summary.Value(tag=tag, metadata=about, tensor=hparams_metadata.NULL_TENSOR)
        self.result._get_file_writer().add_summary(Summary(value=[value]))
        self.result.flush()


def _in_words(failed: threading.ExceptHookArgs) -> None:
    """Where a writer's thread finds no room, a line instead of its traceback; the next figure ends the run."""
    if isinstance(failed.exc_value, OSError) and type(failed.thread).__name__ == "_AsyncWriterThread":
        log.warning(f"TensorBoard's figures could not be written: {failed.exc_value.strerror}")
    else:
        threading.__excepthook__(failed)
