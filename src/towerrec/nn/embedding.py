"""Feature columns to vectors: embeddings of categoricals, pooled embeddings of lists, numbers as they are.

All categorical features of one width share one table with offsets, so that a row of twenty features is one gather.

Shape letters: N rows of a table, R rows encoded, F features, L values of a list, W embedding width, X dense width,
E encoded width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch import device as Device

from towerrec.nn.checks import check_one_of
from towerrec.nn.lookup import Lists, Readers, pooled, pooled_padded, read
from towerrec.nn.missing import Hidden, MissingValues
from towerrec.schema import FIRST, UNKNOWN, FeatureSpec


@dataclass
class PackedFeatures:
    """Checked feature columns in the layout the encoder reads: packed once, gathered in every step.

    `id_N` int64 [N] or None; `index[width]` int64 [N, F] with table offsets added; `lists[name]` of N lists;
    `dense_NX` float32 [N, X] or None; `has_unknown_ids` where an id of the whole table is not known; `constant` where
    the same rows are encoded in every step; `padded[name]` int64 [N, L] instead of `lists` where a program is traced,
    whose shapes must not hang on values.
    """

    id_N: Tensor | None
    index: dict[int, Tensor]
    lists: dict[str, Lists]
    dense_NX: Tensor | None
    num_rows: int
    has_unknown_ids: bool = False
    constant: bool = False
    padded: dict[str, Tensor] = field(default_factory=dict)
    _readers: dict[int | None, Readers] = field(default_factory=dict, repr=False, compare=False)

    def readers(self, width: int | None, num_rows: int) -> Readers | None:
        """Which places of the features of a width, flattened to [N * F], or of the ids (None) read each row of their
        embedding table; found once, where the same rows learn in every step."""
        if not self.constant or not torch.is_grad_enabled():
            return None
        if width not in self._readers:
            index = self.id_N if width is None else self.index[width]
            assert index is not None
            self._readers[width] = Readers.of(index.reshape(-1), num_rows)
        return self._readers[width]

    def gather(self, idx_R: Tensor) -> PackedFeatures:
        """Rows `idx_R`."""
        return PackedFeatures(
            id_N=None if self.id_N is None else self.id_N.index_select(0, idx_R),
            index={width: index_NF.index_select(0, idx_R) for width, index_NF in self.index.items()},
            lists={name: lists.gather(idx_R) for name, lists in self.lists.items()},
            dense_NX=None if self.dense_NX is None else self.dense_NX.index_select(0, idx_R),
            num_rows=idx_R.shape[0],
            has_unknown_ids=self.has_unknown_ids,
        )

    def to(self, device: Device | str) -> PackedFeatures:
        return PackedFeatures(
            id_N=None if self.id_N is None else self.id_N.to(device),
            index={width: index_NF.to(device) for width, index_NF in self.index.items()},
            lists={name: lists.to(device) for name, lists in self.lists.items()},
            dense_NX=None if self.dense_NX is None else self.dense_NX.to(device),
            num_rows=self.num_rows,
            has_unknown_ids=self.has_unknown_ids,
            constant=self.constant,
        )


class FeatureEncoder(nn.Module):
    """Concatenates the embeddings of all features of one tower (the id apart, see `Tower`).

    Args:
        specs: Features of the tower without its id; context features included.
        width: Embedding width of categorical and list features.
        widths: Other widths for some features, by name.
        pooling: How the embeddings of a list become one: `mean`, `sum`, or `sqrt` (sum over root of the length).
        init_std: Standard deviation of the initial embeddings. Padding and unknown start at zero: what training never
            sees adds nothing.

    Raises:
        ValueError: An unknown name in `widths`, an unknown pooling.
    """

    def __init__(
        self,
        specs: Sequence[FeatureSpec],
        *,
        width: int,
        widths: Mapping[str, int],
        pooling: str,
        init_std: float,
    ) -> None:
        super().__init__()
        check_one_of("pooling", pooling, ("mean", "sum", "sqrt"))
        self.pooling = pooling
        self.specs = tuple(specs)
        self.width_of = {s.name: widths.get(s.name, width) for s in self.specs if s.kind in ("categorical", "multi")}
        self.offsets: dict[str, int] = {}
        rows: dict[int, int] = {}
        # Table features before context features: the order in which a tower encodes them.
        self.ordered = tuple(sorted(self.specs, key=lambda spec: spec.context))
        for spec in self.ordered:
            if spec.kind == "categorical":
                at = self.width_of[spec.name]
                self.offsets[spec.name] = rows.get(at, 0)
                rows[at] = rows.get(at, 0) + spec.cardinality
        self.tables = nn.ParameterDict({str(w): nn.Parameter(torch.empty(n, w)) for w, n in sorted(rows.items())})
        self.list_tables = nn.ParameterDict(
            {s.name: nn.Parameter(torch.empty(s.cardinality, self.width_of[s.name])) for s in self._of("multi")}
        )
        self.missing = nn.ModuleDict({"table": self._missing(context=False), "context": self._missing(context=True)})
        self.reset_parameters(init_std)

    def _missing(self, *, context: bool) -> MissingValues:
        specs = [spec for spec in self.ordered if spec.context == context]
        unknown: dict[int, list[int]] = {}
        for spec in specs:
            if spec.kind == "categorical":
                unknown.setdefault(self.width_of[spec.name], []).append(self.offsets[spec.name] + UNKNOWN)
        return MissingValues(unknown, [spec for spec in specs if spec.kind in ("numeric", "vector")])

    def _of(self, kind: str) -> tuple[FeatureSpec, ...]:
        return tuple(spec for spec in self.ordered if spec.kind == kind)

    @property
    def out_width(self) -> int:
        """E, the width of the encoding."""
        return sum(self.width_of.get(spec.name, spec.width) for spec in self.specs)

    @torch.no_grad()
    def reset_parameters(self, init_std: float) -> None:
        for table in (*self.tables.values(), *self.list_tables.values()):
            table.normal_(0.0, init_std)
        for spec in self._of("categorical"):
            first = self.offsets[spec.name]
            self.tables[str(self.width_of[spec.name])][first : first + FIRST] = 0.0
        for table in self.list_tables.values():
            table[:FIRST] = 0.0

    def pack(
        self,
        columns: Mapping[str, Tensor],
        *,
        context: bool,
        num_rows: int,
        device: Device,
        traced: bool = False,
    ) -> PackedFeatures:
        """Lay columns out for `forward`.

        Args:
            columns: Feature columns by name; others are ignored. A context column may be absent: it is then unknown.
            context: Whether to pack the context features or those of the table.
            num_rows: Rows of every column.
            device: Where absent columns are made.
            traced: For a program that is traced: no value is looked at, so nothing is checked and lists stay padded.

        Raises:
            ValueError: A table column is missing or holds an index beyond the cardinality.
        """
        index: dict[int, list[Tensor]] = {}
        lists: dict[str, Lists] = {}
        padded: dict[str, Tensor] = {}
        dense: list[Tensor] = []
        for spec in self.ordered:
            if spec.context != context:
                continue
            column = columns.get(spec.name)
            if column is None:
                column = _absent(spec, num_rows, device)
            elif not context and not traced:
                check_range(spec, column)
            if spec.kind == "categorical":
                index.setdefault(self.width_of[spec.name], []).append(
                    as_type(column, torch.int64) + self.offsets[spec.name]
                )
            elif spec.kind == "multi" and traced:
                padded[spec.name] = as_type(column, torch.int64)
            elif spec.kind == "multi":
                lists[spec.name] = Lists.of(column)
            else:
                dense.append(as_type(column, torch.float32).view(num_rows, spec.width))
        return PackedFeatures(
            id_N=None,
            index={width: torch.stack(part, dim=1) for width, part in index.items()},
            lists=lists,
            dense_NX=torch.cat(dense, dim=1) if dense else None,
            num_rows=num_rows,
            padded=padded,
        )

    def hide(self, packed: PackedFeatures, hidden: Hidden, *, context: bool) -> PackedFeatures:
        """Replace features by what a missing one is encoded as: the unknown value, an empty list, a zero.

        Args:
            packed: Of this encoder.
            hidden: Which features are hidden in which row.
            context: Whether the context features were packed or those of the table.
        """
        missing = cast(MissingValues, self.missing["context" if context else "table"])
        return replace(
            packed,
            index={w: missing.hide_index(index_RF, hidden, width=w) for w, index_RF in packed.index.items()},
            lists={name: lists.hidden(hidden(1)) for name, lists in packed.lists.items()},
            dense_NX=None if packed.dense_NX is None else missing.hide_dense(packed.dense_NX, hidden),
            constant=False,
        )

    def forward(self, packed: PackedFeatures) -> Tensor:
        """Encoding [R, E]."""
        parts: list[Tensor] = []
        for width, index_RF in packed.index.items():
            table = self.tables[str(width)]
            rows = read(table, index_RF.reshape(-1), packed.readers(width, table.shape[0]))
            parts.append(rows.view(packed.num_rows, index_RF.shape[1] * width))
        constant = packed.constant and torch.is_grad_enabled()
        for name, lists in packed.lists.items():
            parts.append(pooled(self.list_tables[name], lists, self.pooling, constant=constant))
        for name, list_RL in packed.padded.items():
            parts.append(pooled_padded(self.list_tables[name], list_RL, self.pooling))
        if packed.dense_NX is not None:
            parts.append(packed.dense_NX)
        if not parts:
            return torch.zeros(packed.num_rows, 0, device=next(self.parameters()).device)
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _absent(spec: FeatureSpec, num_rows: int, device: Device) -> Tensor:
    if not spec.context:
        raise ValueError(
            f"{spec.side} feature {spec.name!r} is missing, but the model was built with it: encode the {spec.side}s "
            "with the encoders of the same run"
        )
    if spec.kind == "categorical":
        return torch.full((num_rows,), UNKNOWN, dtype=torch.int64, device=device)
    return torch.zeros(num_rows, device=device)


def as_type(column: Tensor, dtype: torch.dtype) -> Tensor:
    """The column in a type; what has it already is no step of a program that is traced."""
    return column if column.dtype == dtype else column.to(dtype)


def check_range(spec: FeatureSpec, column: Tensor) -> None:
    """Refuse an index that would read a neighbour's row: the offset hides it from PyTorch's own check."""
    if spec.kind in ("categorical", "multi") and column.numel():
        low, high = int(column.min()), int(column.max())
        if low < 0 or high >= spec.cardinality:
            raise ValueError(
                f"{spec.side} feature {spec.name!r} holds the index {high if low >= 0 else low}, the schema allows "
                f"0..{spec.cardinality - 1}: encode the table with the encoders of the same run"
            )
