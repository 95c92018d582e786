"""The item side of retrieval, ready to search: vectors and the items they stand for.

Shape letters: B users, C items with a vector, D vector width.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import device as Device

from towerrec.files import whole_directory
from towerrec.ragged import TopN, UserItems
from towerrec.retrieval.search import top_n_among

_FORMAT = 1


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
        chosen = every if candidates is None else every[candidates.to(every.device)]
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

    def save(self, directory: Path, *, facts: dict[str, Any] | None = None) -> None:
        """Write `vectors.npy`, `items.npy` and `index.json`; `facts` (plain builtins) go into the latter."""
        about = {
            "format": _FORMAT,
            "similarity": "dot",
            "num_items": self.num_items,
            "indexed": self.item_idx_C.shape[0],
            "width": self.vectors_CD.shape[1],
            "facts": facts or {},
        }
        with whole_directory(directory) as filled:
            np.save(filled / "vectors.npy", self.vectors_CD.float().cpu().numpy())
            np.save(filled / "items.npy", self.item_idx_C.cpu().numpy())
            (filled / "index.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> ItemIndex:
        """Read what `save` wrote.

        Raises:
            ValueError: If `directory` holds no index, or one whose parts do not belong together.
        """
        about_file = directory / "index.json"
        if not about_file.is_file():
            raise ValueError(f"{directory} holds no item index: index.json is missing")
        about = json.loads(about_file.read_text(encoding="utf-8"))
        if about.get("format") != _FORMAT:
            raise ValueError(f"{about_file}: format {about.get('format')!r} is not known, this version reads {_FORMAT}")
        try:
            vectors = np.load(directory / "vectors.npy", allow_pickle=False)
            items = np.load(directory / "items.npy", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"{directory}: the item index is damaged ({error}); write it again") from error
        if vectors.shape != (about["indexed"], about["width"]) or items.shape != (about["indexed"],):
            raise ValueError(f"{directory}: index.json and the arrays disagree; write the index again")
        return cls(torch.from_numpy(vectors), torch.from_numpy(items), int(about["num_items"]))
