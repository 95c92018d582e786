"""Lists as tables, made a chunk of users at a time, and the files they are written to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from towerrec.distributed import Job
from towerrec.files import whole_directory
from towerrec.retrieval.recommend import RANK, write_lists

# No list is longer, whatever is asked for.
_MOST = 2**62


class Lists:
    """Tables of lists, each made when it is taken, and how many lists were shorter than asked for.

    Args:
        tables: The tables; a rank column counts from 1 in every list.
        schema: Their columns.
        num_lists: Lists asked for.
        n: Their length.
        of: What they are lists for, in the plural.
    """

    def __init__(
        self, tables: Iterable[pl.DataFrame], schema: pl.Schema, *, num_lists: int, n: int, of: str = "users"
    ) -> None:
        self.schema, self.num_lists, self.n, self.of = schema, num_lists, n, of
        self._tables = tables
        self._full = self._begun = 0

    def __iter__(self) -> Iterator[pl.DataFrame]:
        for table in self._tables:
            self._full += int((table[RANK].cast(pl.Int64) == min(self.n, _MOST)).sum())
            self._begun += int((table[RANK] == 1).sum())
            yield table

    def table(self) -> pl.DataFrame:
        """All lists at once."""
        return pl.concat([self.schema.to_frame(), *self])

    def written(self, rows: int) -> Written:
        """What became of them, once all were taken."""
        return Written(rows, self.num_lists, self.num_lists - self._full, self.num_lists - self._begun)


@dataclass(frozen=True)
class Written:
    """What a command wrote, over all its processes: rows, and lists in all, shorter than asked for, and empty."""

    rows: int
    lists: int
    short: int
    empty: int

    def told(self, lists: Lists, path: Path) -> str:
        """What a person reads of it."""
        done = f"{self.rows:,} rows, {self.lists:,} {lists.of}, up to {lists.n} items each -> {path}"
        return "\n".join(line for line in (self.shortage(lists), done) if line)

    def shortage(self, lists: Lists) -> str:
        """One line about lists that ended early; nothing where none did."""
        if self.short == 0:
            return ""
        none = f", {self.empty:,} of them none at all" if self.empty else ""
        return (
            f"{self.short:,} of {self.lists:,} {lists.of} get fewer than {lists.n} items{none}: no more may be listed"
        )


def write(lists: Lists, path: Path, *, format: str) -> Written:
    """Write the lists into one file that appears when it is complete."""
    rows = write_lists(lists, path, format=format, schema=lists.schema)
    return lists.written(rows)


def write_parts(lists: Lists, directory: Path, *, format: str, job: Job) -> Written:
    """Write this process's lists as one part of a directory, `part-00000.parquet` and so on in the order of the users.

    The directory appears when all processes have written their parts; returns what all of them wrote.

    Raises:
        ValueError: If processes do not see one and the same directory.
    """
    if job.rank == 0:
        with whole_directory(directory, marker="part-00000.*") as filled:
            job.store.set("parts", str(filled.resolve()))
            written = _write_part(lists, filled, format=format, job=job)
        job.store.set("moved", "")
        return written
    filled = Path(job.wait("parts"))
    if not filled.is_dir():
        raise ValueError(f"output={directory}: process {job.rank} does not see it; choose a disk that all nodes share")
    written = _write_part(lists, filled, format=format, job=job)
    job.wait("moved")
    return written


def _write_part(lists: Lists, filled: Path, *, format: str, job: Job) -> Written:
    own = write(lists, filled / f"part-{job.rank:05d}.{format}", format=format)
    for name, number in vars(own).items():
        job.store.add(name, number)
    job.everybody("written")
    return Written(**{name: int(job.store.add(name, 0)) for name in vars(own)})
