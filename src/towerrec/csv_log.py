"""Lightning's CSV logger, for runs that may be stopped and go on."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from lightning.pytorch.loggers import CSVLogger

from towerrec.files import whole_file


class CsvLog(CSVLogger):
    """Lightning's logger, which begins an empty file whenever it is started; this one can go back to where it was.

    Args:
        save_dir: The run directory.
        name: Folder of `metrics.csv` in it.
        version: Folder below that, of the first of two fits; empty: none.
        flush_every_n_steps: Steps after which what was logged is in the file.
    """

    def __init__(self, *, save_dir: str, name: str = "csv", version: str = "", flush_every_n_steps: int = 100) -> None:
        super().__init__(save_dir, name=name, version=version, flush_logs_every_n_steps=flush_every_n_steps)

    def position(self) -> dict[str, str]:
        """The file, once all that was logged is in it."""
        self.save()
        path = Path(self.experiment.metrics_file_path)
        return {"text": path.read_bytes().decode() if path.is_file() else ""}

    def back_to(self, position: Mapping[str, str]) -> None:
        """Put back the file as it was: no step is missing, and none is there twice."""
        text = position.get("text", "")
        writer = self.experiment
        if text:
            with whole_file(Path(writer.metrics_file_path)) as written:
                written.write_text(text, encoding="utf-8", newline="")
            writer.metrics_keys = next(csv.reader(io.StringIO(text)))
