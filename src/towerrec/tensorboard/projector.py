"""Item vectors for TensorBoard's projector, with what people know the items by.

Shape letters: I items of the catalogue, N items shown, V width of the vectors.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.files import whole_file
from towerrec.wording import one_line

_CONFIG = "projector_config.pbtxt"
_VECTORS, _METADATA = "items_vectors.tsv", "items_metadata.tsv"


def evenly_by_popularity(popularity_I: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Rows of the items that are shown, [N], the most popular first: all, or `limit` of them evenly from the most to
    the least popular; ties in the order of the table."""
    order_I = np.argsort(-popularity_I, kind="stable")
    if len(order_I) <= limit:
        return order_I
    return order_I[np.linspace(0, len(order_I) - 1, limit).round().astype(np.int64)]


def write(directory: Path, vectors_NV: NDArray[np.float32], about: pl.DataFrame, *, num_items: int) -> None:
    """Write vectors and metadata where TensorBoard looks for them; what was there before is replaced.

    Args:
        directory: That of the event files.
        vectors_NV: One vector per item.
        about: One row per item and at least two columns, which the projector offers for labels and colours.
        num_items: How many items the catalogue has: where not all are shown the name says so.
    """
    assert len(vectors_NV) == about.height and about.width > 1, "with one column the projector expects no header"
    name = "items" if num_items == about.height else f"{about.height:,} of {num_items:,} items, by popularity"
    directory.mkdir(parents=True, exist_ok=True)
    with whole_file(directory / _VECTORS) as path:
        columns = pl.DataFrame(vectors_NV, orient="row")
        columns.write_csv(path, separator="\t", include_header=False, float_precision=5)
    with whole_file(directory / _METADATA) as path:
        path.write_text(_tsv(about), encoding="utf-8")
    config = (
        f'embeddings {{\n  tensor_name: "{name}"\n  tensor_path: "{_VECTORS}"\n  metadata_path: "{_METADATA}"\n'
        f"  tensor_shape: {vectors_NV.shape[0]}\n  tensor_shape: {vectors_NV.shape[1]}\n}}\n"
    )
    with whole_file(directory / _CONFIG) as path:
        path.write_text(config, encoding="utf-8")


def _tsv(about: pl.DataFrame) -> str:
    """A line per item. The projector knows no quotes: white space of every kind becomes one space, null a dash."""
    texts = about.select(
        pl.all().cast(pl.String).str.replace_all(r"[\s\p{Zl}\p{Zp}\p{Cc}]+", " ").str.strip_chars().fill_null("–")
    )
    lines = texts.select(pl.concat_str(pl.all(), separator="\t").alias("line"))["line"]
    return "\n".join(["\t".join(map(one_line, about.columns)), *lines]) + "\n"
