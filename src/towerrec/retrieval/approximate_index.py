"""A FAISS index of items: asked under exclusions, written, read again.

Shape letters: B users asked for, b those of them whose lists are still short, C items with a vector, V vector width,
n length of the lists, k items fetched.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerrec.files import whole_directory
from towerrec.ragged import TopN, UserItems
from towerrec.retrieval.approximate_build import KINDS, Floats, Parameters, library, require_faiss
from towerrec.retrieval.manifest import check_files, read_part, stamps

FORMAT = 1
ABOUT, INDEX = "faiss.json", "index.faiss"
_REMEDY = "write the index again"

Ints = NDArray[np.int64]
Reach = Callable[[Floats, int], tuple[Floats, Ints]]
"""`reach(user_bV, k) -> scores_bk, items_bk`, best first, -1 where nothing was found."""


@dataclass(frozen=True)
class ApproximateIndex:
    """A FAISS index of inner products whose ids are rows of the item table.

    Args:
        index: `faiss.IndexIDMap`.
        kind: `flat`, `hnsw` or `ivf_pq`.
        num_items: Rows of the item table.
        parameters: What it was made with.
    """

    index: Any
    kind: str
    num_items: int
    parameters: Parameters

    def search(
        self,
        user_BV: Tensor,
        *,
        n: int,
        user_idx_B: Tensor | None = None,
        exclude: UserItems | None = None,
    ) -> TopN:
        """The n best items of the index for every user vector, on the CPU; arguments as in `ItemIndex.search`.

        What a user is not to be given is fetched with the rest and left out; while a list is short twice as much is
        fetched, and where graph or lists lead no further the vectors are searched one by one. So a list is as long as
        that of the exact search, and with `flat` the same (but for scores that differ in their last bits).

        Raises:
            ValueError: n too small, widths or numbers of users and items that do not fit, or vectors that are not
                numbers.
        """
        users_BV = np.ascontiguousarray(user_BV.detach().cpu().float().numpy())
        users_B = self._checked(users_BV, n, user_idx_B, exclude)
        lists = TopN(torch.full((len(users_BV), n), -1), torch.full((len(users_BV), n), -torch.inf))
        everybody = np.arange(len(users_BV))
        self._fill(lists, everybody, users_BV, users_B, exclude, self.index.search)
        short_b = (lists.items[:, -1] < 0).nonzero()[:, 0].numpy()
        if self.kind != "flat":
            self._fill(lists, short_b, users_BV, users_B, exclude, self._search_all)
        return lists

    def _fill(
        self, lists: TopN, row_b: Ints, users_BV: Floats, users_B: Tensor, exclude: UserItems | None, reach: Reach
    ) -> None:
        """Fill some lists with what `reach` finds, and fetch more for those that it leaves short."""
        items_Bn, scores_Bn = lists.items.numpy(), lists.scores.numpy()
        n, fetch = items_Bn.shape[1], items_Bn.shape[1] * (1 if exclude is None else 2) + 1
        while len(row_b):
            fetch = min(fetch, self.index.ntotal)
            scores_bk, items_bk = reach(users_BV[row_b], fetch)
            last_b = scores_bk[:, -1].copy()
            found_b = (items_bk >= 0).all(1)
            items_bn, scores_bn = _best(scores_bk, items_bk, users_B[torch.from_numpy(row_b)], exclude, n)
            items_Bn[row_b, : items_bn.shape[1]], scores_Bn[row_b, : items_bn.shape[1]] = items_bn, scores_bn
            # What is exact goes on while the last item listed may have equals that were not fetched.
            open_b = items_Bn[row_b, -1] < 0
            if self.kind == "flat":
                open_b |= scores_Bn[row_b, -1] <= last_b
            row_b = row_b[open_b & found_b & (fetch < self.index.ntotal)]
            fetch *= 2

    def _search_all(self, users_bV: Floats, k: int) -> tuple[Floats, Ints]:
        """The best of all vectors that the index holds, graph and lists left aside."""
        faiss = library()
        inner = faiss.downcast_index(self.index.index)
        if self.kind == "hnsw":
            store = faiss.downcast_index(faiss.downcast_index(inner.index).storage)
        else:
            store = faiss.downcast_index(inner.refine_index)
        beside = np.zeros((len(users_bV), store.d - users_bV.shape[1]), dtype=np.float32)
        scores_bk, place_bk = store.search(np.concatenate([users_bV, beside], axis=1), k)
        return scores_bk, faiss.vector_to_array(self.index.id_map)[place_bk]

    def _checked(self, users_BV: Floats, n: int, user_idx_B: Tensor | None, exclude: UserItems | None) -> Tensor:
        if n < 1:
            raise ValueError(f"n, the length of a list, must be at least 1, got {n}")
        if users_BV.ndim != 2 or users_BV.shape[1] != self.index.d:
            raise ValueError(f"the index has vectors of width {self.index.d}, those of the users are {users_BV.shape}")
        if not np.isfinite(users_BV).all():
            raise ValueError("some user vectors are not numbers (NaN or infinite): the model has diverged")
        if exclude is not None and exclude.num_items != self.num_items:
            raise ValueError(f"exclude speaks of {exclude.num_items} items, the index of {self.num_items}")
        if user_idx_B is None:
            if exclude is not None and exclude.num_users != len(users_BV):
                raise ValueError(
                    f"{len(users_BV)} vectors for {exclude.num_users} users: say whose they are with user_idx_B"
                )
            return torch.arange(len(users_BV))
        if user_idx_B.shape != (len(users_BV),):
            raise ValueError(f"{len(users_BV)} vectors, but user_idx_B has shape {tuple(user_idx_B.shape)}")
        return user_idx_B.cpu()

    def set_to(self, setting: int, *, candidates: int | None = None) -> None:
        """Search wider or narrower: `efSearch` of a graph, `nprobe` of lists; `flat` has nothing to set.

        Args:
            setting: As said.
            candidates: Items of the lists scored anew for each one that is asked for; None: as it was.
        """
        faiss = library()
        inner = faiss.downcast_index(self.index.index)
        if self.kind == "hnsw":
            faiss.downcast_index(inner.index).hnsw.efSearch = setting
            self.parameters["ef_search"] = setting
        elif self.kind == "ivf_pq":
            lists = faiss.downcast_index(faiss.downcast_index(inner.base_index).index)
            lists.nprobe = min(setting, lists.nlist)
            self.parameters["probes"] = lists.nprobe
            if candidates is not None:
                inner.k_factor = candidates
                self.parameters["candidates"] = candidates

    def save(self, directory: Path, facts: dict[str, Any]) -> dict[str, Any]:
        """Write `index.faiss` and `faiss.json`, which holds `facts`; returns the latter."""
        faiss = library()
        about: dict[str, Any] = {
            "format": FORMAT,
            "kind": self.kind,
            "metric": "inner_product",
            "ids": "rows of the item table",
            "num_items": self.num_items,
            "indexed": self.index.ntotal,
            "width": self.index.d,
            "parameters": self.parameters,
            **facts,
        }
        with whole_directory(directory, marker=ABOUT) as filled:
            # By way of memory: FAISS's own writer has no words for a full disk.
            (filled / INDEX).write_bytes(faiss.serialize_index(self.index).data)
            about["files"] = stamps(filled)
            about["bytes"] = about["files"][INDEX]["bytes"]
            (filled / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        return about

    @classmethod
    def load(cls, directory: Path) -> ApproximateIndex:
        """Read what `save` wrote.

        Raises:
            ValueError: If FAISS is not installed, the folder holds no such index, one of another format, or a damaged
                file, which is named.
        """
        require_faiss("auto")
        faiss = library()
        about, _ = read_part(directory / ABOUT, format=FORMAT, remedy=_REMEDY)
        try:
            kind, num_items, parameters = about["kind"], int(about["num_items"]), dict(about["parameters"])
            shape, files = (about["indexed"], about["width"]), about["files"]
            # Before FAISS reads a byte: it believes what a file says of its own size.
            check_files(directory, {INDEX: files[INDEX]})
            index = faiss.read_index(str(directory / INDEX))
        except (KeyError, TypeError, RuntimeError, MemoryError) as error:
            raise ValueError(f"{directory}: {ABOUT} or {INDEX} is damaged ({error}); {_REMEDY}") from error
        if kind not in KINDS or shape != (index.ntotal, index.d):
            raise ValueError(f"{directory}: {ABOUT} and {INDEX} disagree; {_REMEDY}")
        return cls(index, kind, num_items, parameters)


def _best(scores_bk: Floats, items_bk: Ints, users_b: Tensor, exclude: UserItems | None, n: int) -> tuple[Ints, Floats]:
    """The n best of what was fetched that may be listed, equal scores by item; -1 and -inf where there are fewer."""
    gone_bk = items_bk < 0
    if exclude is not None:
        flat = torch.from_numpy(items_bk.ravel())
        seen = exclude.contain(users_b.repeat_interleave(items_bk.shape[1]), flat)
        gone_bk |= seen.numpy().reshape(items_bk.shape)
    scores_bk, items_bk = np.where(gone_bk, -np.inf, scores_bk), np.where(gone_bk, -1, items_bk)
    # Most rows come as they shall be: without gaps and without equal scores.
    row_r = np.flatnonzero((gone_bk[:, :-1] | (scores_bk[:, :-1] <= scores_bk[:, 1:])).any(1))
    order_rk = np.lexsort((items_bk[row_r], -scores_bk[row_r]), axis=1)
    for values_bk in (scores_bk, items_bk):
        values_bk[row_r] = np.take_along_axis(values_bk[row_r], order_rk, 1)
    return items_bk[:, :n], scores_bk[:, :n]
