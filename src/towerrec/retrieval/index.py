"""The item side of retrieval, ready to search: vectors and the items they stand for.

Shape letters: B users, C items with a vector, D vector width.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import device as Device

from towerrec.files import whole_directory
from towerrec.npy import save_array
from towerrec.ragged import TopN, UserItems
from towerrec.reading_back import as_written
from towerrec.retrieval.manifest import check_files, read_part, stamps
from towerrec.retrieval.search import top_n_among
from towerrec.schema import FeatureSchema

FORMAT = 2
ABOUT = "index.json"


@dataclass(frozen=True)
class ItemIndex:
    """Exact index by dot product.

    Args:
        vectors_CD: float32, one row per indexed item.
        item_idx_C: int64, the row of the item table behind each vector, ascending.
        num_items: Rows of the item table.
    """

    vectors_CD: Tensor
    item_idx_C: Tensor
    num_items: int

    def __post_init__(self) -> None:
        if self.vectors_CD.ndim != 2 or self.item_idx_C.shape != self.vectors_CD.shape[:1]:
            raise ValueError(
                f"an index needs vectors [C, D] and items [C], got {tuple(self.vectors_CD.shape)} "
                f"and {tuple(self.item_idx_C.shape)}"
            )
        if bool((self.item_idx_C.diff() <= 0).any()):
            raise ValueError("the items of an index must ascend, each once")
        if self.item_idx_C.numel() and not 0 <= int(self.item_idx_C[0]) <= int(self.item_idx_C[-1]) < self.num_items:
            raise ValueError(f"the items of an index must be rows of a table of {self.num_items}")

    @classmethod
    def of(cls, item_ID: Tensor, candidates: Tensor | None = None) -> ItemIndex:
        """Index all items of a table, or those that `candidates` (bool [I]) admits."""
        every = torch.arange(item_ID.shape[0], device=item_ID.device)
        if candidates is None or (candidates.device.type == "cpu" and bool(candidates.all())):
            return cls(item_ID.float(), every, item_ID.shape[0])  # as they are: a copy takes longer than a search
        chosen = every[candidates.to(every.device)]
        return cls(item_ID[chosen].float(), chosen, item_ID.shape[0])

    def search(
        self,
        user_BD: Tensor,
        *,
        n: int,
        user_idx_B: Tensor | None = None,
        exclude: UserItems | None = None,
        allowed: UserItems | None = None,
        chunk: int | None = None,
        memory_mb: float | None = None,
        precision: str = "float32",
    ) -> TopN:
        """The n best items of the index for every user vector; arguments and rules as in `search.top_n`."""
        return top_n_among(
            user_BD,
            self.vectors_CD,
            # Where all items are indexed their rows are the columns: nothing to look up.
            self.item_idx_C if len(self.item_idx_C) < self.num_items else None,
            num_items=self.num_items,
            n=n,
            user_idx_B=user_idx_B,
            exclude=exclude,
            allowed=allowed,
            chunk=chunk,
            memory_mb=memory_mb,
            precision=precision,
        )

    def to(self, device: Device | str) -> ItemIndex:
        return ItemIndex(self.vectors_CD.to(device), self.item_idx_C.to(device), self.num_items)

    def save(
        self,
        directory: Path,
        *,
        ids: Sequence[int | str] | None = None,
        schema: FeatureSchema | None = None,
        versions: Mapping[str, str | None] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the index as a folder that says what it holds, whole or not at all.

        `vectors.npy` are the vectors float32 [C, D], `items.npy` their rows in the item table int64 [C], `ids.json` the
        raw id of every row of that table, and `index.json` the rest: metric, schema and its fingerprint, versions, and
        size and SHA-256 of the other files.

        Args:
            directory: The folder; an older index there gives way.
            ids: Raw ids of the item table [I]; None writes no `ids.json`.
            schema: Of the towers that the vectors come from.
            versions: Of what made them, by package.
            facts: Further plain builtins.
        """
        assert ids is None or len(ids) == self.num_items
        about: dict[str, Any] = {
            "format": FORMAT,
            "metric": "inner_product",
            "num_items": self.num_items,
            "indexed": self.item_idx_C.shape[0],
            "width": self.vectors_CD.shape[1],
            "versions": dict(versions or {}),
            "facts": dict(facts or {}),
        }
        if schema is not None:
            about |= {"schema_fingerprint": schema.fingerprint, "schema": schema.to_dict()}
        with whole_directory(directory) as filled:
            save_array(filled / "vectors.npy", self.vectors_CD.float().cpu().numpy())
            save_array(filled / "items.npy", self.item_idx_C.cpu().numpy())
            if ids is not None:
                (filled / "ids.json").write_text(json.dumps(list(ids), ensure_ascii=False), encoding="utf-8")
            about["files"] = stamps(filled)
            (filled / ABOUT).write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path, *, expect: FeatureSchema | None = None) -> ItemIndex:
        """Read what `save` wrote.

        Args:
            directory: The folder.
            expect: The schema of the towers that are to ask it.

        Raises:
            ValueError: If `directory` holds no index, one of another format, one of another schema than `expect`, or
                one with a damaged file, which is named.
        """
        path = directory / ABOUT
        if not path.is_file():
            raise ValueError(f"{directory} holds no item index: {ABOUT} is missing")
        with as_written(directory, remedy="write the index again"):
            return cls._of_folder(directory, expect)

    @classmethod
    def _of_folder(cls, directory: Path, expect: FeatureSchema | None) -> ItemIndex:
        path = directory / ABOUT
        about, schema = read_part(path, format=FORMAT, remedy="write the index again")
        if expect is not None:
            if schema is None:
                raise ValueError(f"{path} does not say which features its vectors come from: write the index again")
            schema.require(expect, name=str(path), other_name="the towers")
        check_files(directory, about["files"])
        vectors = np.load(directory / "vectors.npy", allow_pickle=False)
        items = np.load(directory / "items.npy", allow_pickle=False)
        if vectors.shape != (about["indexed"], about["width"]) or items.shape != (about["indexed"],):
            raise ValueError(f"{directory}: {ABOUT} and the arrays disagree; write the index again")
        return cls(torch.from_numpy(vectors), torch.from_numpy(items), int(about["num_items"]))
