"""FAISS indexes for inner products of vectors whose lengths differ: flat, graph (HNSW), compressed lists (IVF-PQ).

Item vectors of a tower carry a bias and, with it, popularity: their lengths differ by a factor of ten. FAISS's own
inner product serves cosines: a graph of the largest products hangs on a few long vectors and leaves most of the others
without a way to them (10,728 items of a trained run: recall@100 .54 at efSearch 100, .61 at 800; others met the same,
milvus-io/milvus#51821), and lists around centroids of length 1 are met in the wrong order (100,000 items, 8 of 1,024
lists: .53; facebookresearch/faiss#1496).

Bachrach et al. 2014 (Speeding up the Xbox recommender system using a Euclidean transformation for inner-product spaces,
section 3.2) add the column sqrt(max |x|^2 - |x|^2) to the items and 0 to the query: products with a query stay, all
items get one length, and nearest is largest. Any share of that column leaves the products with queries as they are, so
the metric stays the inner product, scores are scores, and the share only shapes the graph. All of it gives .88 for the
lists, but draws away from each other what popular items have in common: with .7 a graph found .98 to .995 of 100 at
efSearch 100 where all of it found .77 to 1. The column is put on inside the index, so whoever reads the file hands over
plain vectors.

Number of lists (4 sqrt(N), at least 39 training vectors each): FAISS wiki, "Guidelines to choose an index". PQ: Jegou
et al. 2011, a byte for 4 dimensions. A rotation before it (OPQ, Ge et al. 2013) lost a hundredth of recall here, for
the bias has a dimension of its own, and took as long as all the rest; there is none. Candidates of the codes, four or
more for each item asked for, are scored anew in vectors of half precision.

Shape letters: C items with a vector, D vector width, W width inside the index (D, a column, zeros), T training vectors.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("flat", "hnsw", "ivf_pq")
# Up to here exact search takes less than a millisecond for a query on one core (64 dimensions) ...
FLAT_UP_TO = 50_000
# ... and up to here a graph, the fastest, is built within minutes; it needs 256 bytes an item above the vectors.
HNSW_UP_TO = 500_000

_LINKS, _CONSTRUCTION, _SHARE = 32, 200, 0.7
_DIMENSIONS_A_BYTE, _BITS, _CANDIDATES = 4, 8, 4
_TRAINING_A_LIST, _TRAINING_A_CODE = 39, 64
_HALF_RANGE = (1e-2, 6e4)

Floats = NDArray[np.float32]
Parameters = dict[str, Any]


def kind_for(num_items: int) -> str:
    """What `auto` is for so many items."""
    if num_items <= FLAT_UP_TO:
        return "flat"
    return "hnsw" if num_items <= HNSW_UP_TO else "ivf_pq"


def require_faiss(kind: str) -> None:
    """Refuse a kind that is not known, or all of them where FAISS is not installed.

    Raises:
        ValueError: As said.
    """
    if kind not in ("auto", *KINDS):
        raise ValueError(f"the approximate index {kind!r} is not known: choose auto, {', '.join(KINDS)}")
    if find_spec("faiss") is None:
        raise ValueError('an approximate index needs faiss: pip install -e ".[export]"')


def library() -> Any:
    """FAISS, which is optional, and whose type stubs lack half of what it has."""
    logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # it tells which processor it found
    return import_module("faiss")


def built(vectors_CD: Floats, items_C: NDArray[np.int64], *, kind: str, seed: int) -> tuple[Any, Parameters]:
    """A `faiss.IndexIDMap` whose ids are `items_C`, and what it was made with.

    All is done in one thread: with more of them the links of a graph depend on who came first.
    """
    faiss = library()
    make = {"flat": _flat, "hnsw": _hnsw, "ivf_pq": _ivf_pq}[kind]
    with threads(1):
        inner, parameters = make(vectors_CD, np.random.default_rng(seed), seed)
    # Around a full index, which its constructor refuses; `add_with_ids` would hand the vectors to the transform that is
    # for queries.
    index = faiss.IndexIDMap(faiss.IndexFlatIP(inner.d))
    index.index, index.ntotal = inner, inner.ntotal
    index.referenced_objects.append(inner)
    faiss.copy_array_to_vector(items_C, index.id_map)
    return index, parameters


@contextmanager
def threads(number: int) -> Iterator[None]:
    """FAISS's threads for the length of a block; the setting is the process's."""
    faiss = library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _flat(vectors_CD: Floats, random: np.random.Generator, seed: int) -> tuple[Any, Parameters]:
    faiss = library()
    index = faiss.IndexFlatIP(vectors_CD.shape[1])
    index.add(vectors_CD)
    return index, {}


def _hnsw(vectors_CD: Floats, random: np.random.Generator, seed: int) -> tuple[Any, Parameters]:
    faiss = library()
    widened_CW = widened(vectors_CD, share=_SHARE)
    graph = faiss.IndexHNSWFlat(widened_CW.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _CONSTRUCTION
    graph.hnsw.rng = faiss.RandomGenerator(seed)  # of the levels
    graph.add(widened_CW)
    parameters = {"links": _LINKS, "ef_construction": _CONSTRUCTION, "norm_share": _SHARE}
    return _widening(graph, vectors_CD.shape[1]), parameters


def _ivf_pq(vectors_CD: Floats, random: np.random.Generator, seed: int) -> tuple[Any, Parameters]:
    faiss = library()
    num_items, width = vectors_CD.shape
    codes = -(-(width + 1) // _DIMENSIONS_A_BYTE)
    widened_CW = widened(vectors_CD, share=1.0, width=codes * _DIMENSIONS_A_BYTE)
    lists = max(1, min(round(4 * num_items**0.5), num_items // _TRAINING_A_LIST))
    wide = widened_CW.shape[1]
    inverted = faiss.IndexIVFPQ(faiss.IndexFlatIP(wide), wide, lists, codes, _BITS, faiss.METRIC_INNER_PRODUCT)
    for clustering, most in ((inverted.cp, _TRAINING_A_LIST), (inverted.pq.cp, _TRAINING_A_CODE)):
        clustering.seed = seed
        clustering.min_points_per_centroid, clustering.max_points_per_centroid = 1, most
    # A clustering wants as many vectors as clusters: of few items each stands there several times.
    drawn = max(lists * _TRAINING_A_LIST, _TRAINING_A_CODE << _BITS)
    training_TW = widened_CW[np.resize(random.permutation(num_items), max(min(drawn, num_items), 1 << _BITS))]
    inverted.train(training_TW)
    inverted.add(widened_CW)
    half = _HALF_RANGE[0] <= float(np.abs(vectors_CD).max(initial=0.0)) <= _HALF_RANGE[1]
    index = faiss.IndexRefine(_widening(inverted, width), _store(vectors_CD, half=half))
    index.k_factor = _CANDIDATES
    return index, {
        "lists": lists,
        "code_bytes": codes,
        "norm_share": 1.0,
        "training_vectors": len(training_TW),
        "candidates": _CANDIDATES,
        "rescored_in": "float16" if half else "float32",
    }


def _store(vectors_CD: Floats, *, half: bool) -> Any:
    """The vectors themselves, in half precision where its range holds them."""
    faiss = library()
    width = vectors_CD.shape[1]
    store = (
        faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
        if half
        else faiss.IndexFlatIP(width)
    )
    store.train(vectors_CD)
    store.add(vectors_CD)
    return store


def widened(vectors_CD: Floats, *, share: float, width: int | None = None) -> Floats:
    """Vectors with the column `share * sqrt(max |x|^2 - |x|^2)`, then zeros up to `width`."""
    num_items, own = vectors_CD.shape
    squared_C = np.square(vectors_CD, dtype=np.float64).sum(1)
    widened_CW = np.zeros((num_items, width or own + 1), dtype=np.float32)
    widened_CW[:, :own] = vectors_CD
    widened_CW[:, own] = share * np.sqrt(squared_C.max(initial=0.0) - squared_C)
    return widened_CW


def _widening(index: Any, width: int) -> Any:
    """The index behind a transform that puts zeros under the further columns of a query."""
    faiss = library()
    return faiss.IndexPreTransform(faiss.RemapDimensionsTransform(width, index.d, False), index)
