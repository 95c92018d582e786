"""Arrays in .npy files, written at once or in pieces; a full disk is always an error."""

from __future__ import annotations

from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as `numpy.save` does, and hear of a full disk.

    NumPy hands the values of an open file to C's stdio and does not look whether its last buffer (up to 4 KiB) came
    through: on a disk that is full just then the file is cut short and nobody is told.

    Raises:
        OSError: If the file cannot be written whole.
    """
    packed = np.ascontiguousarray(array).reshape(array.shape)  # which makes a number a list of one
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(packed))
        file.write(packed.data if packed.size else b"")


class ColumnFile:
    """A .npy file of a known length, written in pieces at any place."""

    def __init__(self, path: Path, *, dtype: np.dtype[np.generic], num_rows: int) -> None:
        self.dtype = dtype
        mapped = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=(num_rows,)) if num_rows else None
        if mapped is None:
            save_array(path, np.zeros(0, dtype=dtype))
        self.first_byte = 0 if mapped is None else int(mapped.offset)
        del mapped
        # Plain writes from here: pages of a map would count as memory of the process.
        self.file: BufferedRandom = path.open("r+b")

    def put(self, at: int, values: NDArray[np.generic]) -> None:
        """Write rows from `at` on."""
        self.file.seek(self.first_byte + at * self.dtype.itemsize)
        self.file.write(np.ascontiguousarray(values.astype(self.dtype, copy=False)).data)

    def close(self) -> None:
        self.file.close()
