"""From vectors to a table of lists: user_id, item_id, rank (from 1), score; sorted by user_id, rank.

Shape letters: U users asked for, B users of a chunk, D vector width, n length of the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import polars as pl
import torch
from polars.exceptions import PolarsError
from polars.io.plugins import register_io_source
from torch import Tensor

from towerrec.files import whole_file
from towerrec.ragged import TopN, UserItems
from towerrec.schema import ITEM_ID, USER_ID

RANK = "rank"
SCORE = "score"

Encode = Callable[[Tensor], Tensor]
"""`encode(user_idx_B) -> user_BD`: vectors of some rows of the user table."""


class Searchable(Protocol):
    """What lists are searched in: an `ItemIndex`, or several of which each user has his."""

    def search(
        self,
        user_BD: Tensor,
        *,
        n: int,
        user_idx_B: Tensor,
        exclude: UserItems | None,
        allowed: UserItems | None,
        memory_mb: float | None,
        precision: str,
    ) -> TopN:
        """See `ItemIndex.search`."""
        ...


def recommend(
    encode: Encode,
    index: Searchable,
    user_idx_U: Tensor,
    *,
    user_ids: pl.Series,
    item_ids: pl.Series,
    n: int,
    exclude: UserItems | None = None,
    allowed: UserItems | None = None,
    batch_users: int = 1024,
    memory_mb: float | None = None,
    precision: str = "float32",
) -> Iterator[pl.DataFrame]:
    """Yield the lists of some users, a chunk of users at a time, in the order of the users' ids.

    Args:
        encode: Gives the vectors of the users.
        index: The items to choose from.
        user_idx_U: Rows of the user table, each once, in any order.
        user_ids: Id of every row of the user table.
        item_ids: Id of every row of the item table.
        n: Length of the lists; shorter where fewer candidates remain.
        exclude: Items never listed for a user.
        allowed: Candidates of every user, where they differ between users.
        batch_users: Users encoded at once.
        memory_mb: Bound on the scores held at once, as in `search.top_n`.
        precision: Of the first scores, as in `search.top_n`.
    """
    if n < 1:
        raise ValueError(f"n, the length of a list, must be at least 1, got {n}")
    n = min(n, max(1, len(item_ids)))  # whoever asks for a million of a thousand items must not pay for a million
    asked = torch.from_numpy(user_ids.gather(user_idx_U.cpu().numpy()).arg_sort().to_numpy().copy()).long()
    for user_idx_B in user_idx_U[asked.to(user_idx_U.device)].split(batch_users):
        lists = index.search(
            encode(user_idx_B),
            n=n,
            user_idx_B=user_idx_B,
            exclude=exclude,
            allowed=allowed,
            memory_mb=memory_mb,
            precision=precision,
        )
        yield as_table(lists, user_ids=user_ids.gather(user_idx_B.cpu().numpy()), item_ids=item_ids)


def as_table(lists: TopN, *, user_ids: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
    """One row per listed item; `user_ids` holds the id of every list, `item_ids` that of every item row."""
    if len(user_ids) != len(lists):
        raise ValueError(f"{len(lists)} lists, but {len(user_ids)} user ids")
    items_Bn = lists.items.cpu()
    row, place = (items_Bn >= 0).nonzero(as_tuple=True)
    return pl.DataFrame(
        {
            USER_ID: user_ids.gather(row.numpy()),
            ITEM_ID: item_ids.gather(items_Bn[row, place].numpy()),
            RANK: pl.Series((place + 1).to(torch.int32).numpy()),
            SCORE: pl.Series(lists.scores.cpu()[row, place].numpy()),
        }
    )


def lists_schema(user_type: pl.DataType, item_type: pl.DataType) -> pl.Schema:
    """Columns of a table of lists."""
    return pl.Schema({USER_ID: user_type, ITEM_ID: item_type, RANK: pl.Int32(), SCORE: pl.Float32()})


def write_lists(tables: Iterable[pl.DataFrame], path: Path, *, format: str, schema: pl.Schema) -> int:
    """Write tables of `recommend` one after the other into one file and return the number of rows.

    The file appears when it is complete; only one table is held at a time.

    Args:
        tables: Tables of lists.
        path: File to write.
        format: `parquet`, `csv` or `jsonl`.
        schema: Their columns, so that a file without rows has them too.

    Raises:
        ValueError: If the format is not known.
        OSError: If the file cannot be written.
    """
    if format not in ("parquet", "csv", "jsonl"):
        raise ValueError(f"format={format} is not known: choose parquet, csv or jsonl")
    num_rows = 0

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, limit: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        nonlocal num_rows
        assert columns is None and predicate is None and limit is None
        for table in tables:
            num_rows += table.height
            yield table

    frame = register_io_source(source, schema=schema)
    with whole_file(path) as written:
        try:
            if format == "parquet":
                frame.sink_parquet(written)
            elif format == "csv":
                frame.sink_csv(written)
            else:
                frame.sink_ndjson(written)
        except PolarsError as error:
            raise OSError(str(error)) from error
    return num_rows
