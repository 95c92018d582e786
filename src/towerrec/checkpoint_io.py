"""Checkpoints on disk: written whole, and read only where every byte is what was written."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from towerrec.files import whole_file


class WholeCheckpoints(CheckpointIO):
    """How a trainer writes and reads its checkpoints, see `write_checkpoint` and `read_checkpoint`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Called by Lightning, in one process."""
        if storage_options is not None:
            raise TypeError(f"storage_options: checkpoints are plain files, got {storage_options!r}")
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Called by Lightning; nothing but tensors and plain builtins is read, whatever `weights_only` says."""
        return read_checkpoint(Path(path), map_location=map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Called by Lightning, for a checkpoint that is no longer among the best."""
        Path(path).unlink(missing_ok=True)


def write_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all, and wait until it is on the disk.

    Raises:
        OSError: If it cannot be written, naming it; one that was there is as it was.
    """
    with whole_file(path) as written:
        try:
            with written.open("wb") as file:
                torch.save(content, file)
        except RuntimeError as error:
            # The error of the disk, and then torch finds that the file has not the length it should have.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def read_checkpoint(path: Path, *, map_location: Any | None = "cpu") -> dict[str, Any]:
    """What a checkpoint holds: tensors and plain builtins.

    `torch.save` keeps a checksum (CRC-32) of every tensor, which `torch.load` does not look at: here all are.

    Args:
        path: The file.
        map_location: Where its tensors are put, as in `torch.load`.

    Raises:
        ValueError: There is no such file, it is damaged, or it is something else; says what to do.
        OSError: It may not be read.
    """
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    with path.open("rb"):  # what may not be read is no damage
        pass
    try:
        _check(path)
        content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # a damaged file breaks the reader in many ways, and all of them mean the same
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path} cannot be read as a checkpoint, it is damaged or another file: {reason}. {_remedy(path)}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is not a checkpoint of towerrec: give one that train.py wrote")
    return content


def _check(path: Path) -> None:
    with zipfile.ZipFile(path) as records:
        # Never by torch; what is packed might unpack without end.
        if any(record.compress_type != zipfile.ZIP_STORED for record in records.infolist()):
            raise ValueError("its records are compressed, which torch.save never does")
        damaged = records.testzip()
    if damaged is not None:
        raise ValueError(f"record {damaged} has not the checksum that it was written with")


def _remedy(path: Path) -> str:
    others = sorted(other.stem for other in path.parent.glob("*.ckpt") if other != path)
    beside = f"use another checkpoint beside it ({', '.join(others)}), " if others else ""
    return f"{beside}copy it anew, or train again".capitalize()
