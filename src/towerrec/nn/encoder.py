"""Rows of the two resident tables to vectors: each once, and in pieces that bound the memory.

Shape letters: B rows of a batch, G groups (distinct users, or rows), I items, K rows to encode, C distinct items,
V width of the vectors, N rows of a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from towerrec.nn.embedding import PackedFeatures
from towerrec.nn.ensemble import Model
from towerrec.nn.negatives import distinct
from towerrec.nn.profile import Profile, UserProfiles
from towerrec.schema import FIRST, Batch, FeatureTable

# On an accelerator a table of up to this many times the batch is encoded whole: that needs no distinct rows, whose
# number the host would have to wait for.
_WHOLE_TABLE = 4
# On a CPU it is where at least this share of its rows is in the batch: the gradients of its embeddings are then sums
# whose terms are known (`nn.lookup`).
_NEARLY_ALL = 0.7


@dataclass
class Users:
    """The user side of a batch: vectors [G, V] of the groups (distinct users, or rows where these have a context),
    their users [G], the group of every row [B], what the profile of every group held, and whether the groups are the
    rows."""

    vectors_GV: Tensor
    idx_G: Tensor
    group_B: Tensor
    profile: Profile | None = None
    each: bool = False


class TableEncoder:
    """The towers over the two feature tables of a log.

    Static rows are evaluated once per distinct user and item of a batch; rows with a context or a history one by one.

    With `micro_batch` at most so many rows pass a tower at once. The first pass keeps no graph, only the vectors and
    the state of the random numbers; once the loss over the whole batch has handed back the gradients of the vectors,
    each piece is encoded again, with the same dropout, and takes its gradient home before the next one: the gradient
    caching of Gao et al., RepL4NLP 2021 (arXiv 2101.06983). The gradients are those of the whole batch, the memory that
    of a piece, the price a second pass through the towers.

    Args:
        model: The two towers.
        users: Encoded users.
        items: Encoded items.
        micro_batch: Rows of a piece; None encodes all at once.

    Raises:
        ValueError: Pieces, and a model whose batch norm would see each piece alone, or that reads profiles.
    """

    def __init__(
        self, model: Model, users: FeatureTable, items: FeatureTable, *, micro_batch: int | None = None
    ) -> None:
        if micro_batch is not None and micro_batch < 1:
            raise ValueError(f"loader.micro_batch must be at least 1, got {micro_batch}")
        if micro_batch is not None and any(isinstance(m, _BatchNorm) for m in model.modules()):
            raise ValueError(
                "loader.micro_batch: batch norm takes its statistics over a piece instead of the batch; choose "
                "model.norm=layer or loader.micro_batch=null"
            )
        if micro_batch is not None and model.profile is not None:
            raise ValueError("loader.micro_batch: a profile reads the vectors of all items; set it to null")
        self.model, self.micro_batch = model, micro_batch
        self.users = model.pack("user", users)
        self.items = model.pack("item", items)
        # Batch norm takes its statistics over the rows of a batch: on a CPU no others are encoded with them.
        self._nearly_all = 1.0 if any(isinstance(m, _BatchNorm) for m in model.modules()) else _NEARLY_ALL

    def to(self, device: torch.device) -> None:
        """Move the tables (not the model)."""
        self.users, self.items = self.users.to(device), self.items.to(device)

    @torch.no_grad()
    def start_item_biases(self, bias_I: Tensor, *, first: int = FIRST) -> None:
        """Set the biases of the items' own ids from the id `first` on, where the model has them."""
        biases, id_I = self.model.item_tower.id_biases, self.items.id_N
        if biases is not None and id_I is not None:
            known_I, begins, shard = id_I >= first, 0, self.model.item_tower.shard
            if shard is not None:
                known_I, begins = known_I & shard.holds(id_I), shard.first
            biases[id_I[known_I] - begins] = bias_I.to(biases)[known_I]

    @property
    def num_items(self) -> int:
        return self.items.num_rows

    @property
    def reads_item_context(self) -> bool:
        return self.model.item_tower.reads_context

    def of_users(
        self, batch: Batch, profiles: UserProfiles | None, all_IV: Tensor | None, *, whole: bool = False
    ) -> Users:
        """The groups of a batch; `profiles` and the vectors of the catalogue where the model reads profiles.

        What the batch asks for is left out of them, unless `whole`: rows that are no training rows may.
        """
        model = self.model
        if profiles is not None:
            return self._of_profiles(batch, profiles, all_IV, whole=whole)
        if model.user_tower.reads_context or model.reads_history:

            def encode(piece: slice) -> Tensor:
                rows = self._rows(batch.user_idx[piece], self.users)
                return model.user_vectors(
                    _gather(self.users, rows),
                    context=_cut(batch.user_context, piece),
                    history_RH=None if batch.history is None else batch.history[piece],
                    at_R=rows.group_B,
                )

            vectors = self._in_pieces(encode, len(batch))
            return Users(vectors, batch.user_idx, torch.arange(len(batch), device=vectors.device), each=True)
        rows = self._rows(batch.user_idx, self.users)
        vectors = self._in_pieces(lambda piece: model.user_vectors(_piece(self.users, rows, piece)), len(rows.idx_G))
        return Users(vectors, rows.idx_G, rows.group_B)

    def _of_profiles(self, batch: Batch, profiles: UserProfiles, all_IV: Tensor | None, *, whole: bool) -> Users:
        """Profiles are pooled once per distinct user, whether or not rows have a context of their own."""
        assert all_IV is not None, "profiles are sums of item vectors"
        user_idx_U, user_B = distinct(batch.user_idx, self.users.num_rows)
        profile = profiles.of(user_idx_U, all_IV)
        if not whole:
            profile = profile.without(user_B, batch.item_idx)
        table = self.users.gather(user_idx_U)
        if not (self.model.user_tower.reads_context or self.model.reads_history):
            return Users(self.model.user_vectors(table, profile=profile), user_idx_U, user_B, profile)
        vectors = self.model.user_vectors(
            table, context=batch.user_context, history_RH=batch.history, at_R=user_B, profile=profile
        )
        each = torch.arange(len(batch), device=vectors.device)
        return Users(vectors, batch.user_idx, each, profile.read_by(user_B), each=True)

    def of_rows(self, item_idx_K: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """The batch's items in their contexts, and further ones behind them, which have none: vectors, and where each
        element finds its own among them [K] (None: one each, in their order)."""
        if not self.reads_item_context:
            rows = self._rows(item_idx_K, self.items)
            return self._of_items(rows), rows.group_B

        def encode(piece: slice) -> Tensor:
            rows = self._rows(batch.item_idx[piece], self.items)
            context = _cut(batch.item_context, piece)
            return self.model.item_vectors(_gather(self.items, rows), context=context, at_R=rows.group_B)

        vectors = self._in_pieces(encode, len(batch))
        sampled = item_idx_K[len(batch) :]
        return (vectors if len(sampled) == 0 else torch.cat([vectors, self.of_items(sampled)])), None

    def of_items(self, item_idx_K: Tensor) -> Tensor:
        """Vectors [K, V] of items without a context."""
        rows = self._rows(item_idx_K, self.items)
        return self._of_items(rows).index_select(0, rows.group_B)

    def distinct_items(self, item_idx_K: Tensor, *, exact: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors [C, V] of the distinct items without a context, the items, and the place of every element [K].

        On an accelerator there may be items that were not asked for, unless `exact`.
        """
        if exact:
            rows = _Rows(*distinct(item_idx_K, self.num_items), whole=False)
        else:
            rows = self._rows(item_idx_K, self.items, unique=True)
        return self._of_items(rows), rows.idx_G, rows.group_B

    def catalogue(self, context: Mapping[str, Tensor] | None = None, *, chunk: int = 65536) -> Tensor:
        """Vectors of the whole catalogue [I, V]; `context` holds a value per item."""
        idx_I = torch.arange(self.num_items, device=self.model.device)

        def encode(piece: slice) -> Tensor:
            return self.model.item_vectors(self.items.gather(idx_I[piece]), context=_cut(context or {}, piece))

        if self.micro_batch is not None and torch.is_grad_enabled():
            return self._in_pieces(encode, self.num_items)
        if context is None and torch.is_grad_enabled():
            return self.model.item_vectors(self.items)
        starts = range(0, self.num_items, chunk)
        return torch.cat([encode(slice(start, start + chunk)) for start in starts])

    def _rows(self, idx_B: Tensor, table: PackedFeatures, *, unique: bool = False) -> _Rows:
        """What to encode of a table for the elements of a batch; `unique`: on a CPU exactly the distinct ones."""
        num_rows, device = table.num_rows, idx_B.device
        if device.type != "cpu":
            if num_rows <= _WHOLE_TABLE * idx_B.shape[0]:
                return _Rows(torch.arange(num_rows, device=device), idx_B, whole=True)
            if not unique:
                return _Rows(idx_B, torch.arange(idx_B.shape[0], device=device), whole=False)
        idx_G, group_B = distinct(idx_B, num_rows)
        if not unique and len(idx_G) >= self._nearly_all * num_rows:
            return _Rows(torch.arange(num_rows), idx_B, whole=True)
        return _Rows(idx_G, group_B, whole=False)

    def _of_items(self, rows: _Rows) -> Tensor:
        return self._in_pieces(lambda p: self.model.item_vectors(_piece(self.items, rows, p)), len(rows.idx_G))

    def _in_pieces(self, encode: Callable[[slice], Tensor], num_rows: int) -> Tensor:
        size = self.micro_batch
        if size is None or num_rows <= size or not torch.is_grad_enabled():
            return encode(slice(None))
        # Recomputes each piece when its gradient has come, from the state of the random numbers it had.
        pieces = [slice(start, start + size) for start in range(0, num_rows, size)]
        return torch.cat([checkpoint(encode, piece, use_reentrant=False) for piece in pieces])


@dataclass
class _Rows:
    """Which rows of a table to encode (`whole`: all of them), and where each element of the batch finds its row."""

    idx_G: Tensor
    group_B: Tensor
    whole: bool


def _gather(table: PackedFeatures, rows: _Rows) -> PackedFeatures:
    return table if rows.whole else table.gather(rows.idx_G)


def _piece(table: PackedFeatures, rows: _Rows, piece: slice) -> PackedFeatures:
    return _gather(table, rows) if piece == slice(None) else table.gather(rows.idx_G[piece])


def _cut(columns: Mapping[str, Tensor], piece: slice) -> dict[str, Tensor]:
    return {name: column[piece] for name, column in columns.items()}
