"""From a run directory to a folder that serves without this package: towers, vocabularies, index.

Shape letters: U users, I items, R rows, V width of the vectors.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from towerrec import distributed
from towerrec.allowing import allowed, for_nobody
from towerrec.asking import moment
from towerrec.config import RecommendConfig
from towerrec.data.catalogue import Catalogue, load_catalogue, write_catalogue
from towerrec.data.vocabulary_files import described
from towerrec.exporting_towers import lists_of, write_towers
from towerrec.files import whole_directory, write_json
from towerrec.nn.programs import program_inputs
from towerrec.retrieval import export_folder, export_words
from towerrec.retrieval.approximate import require_faiss, write_approximate
from towerrec.retrieval.export_folder import SIDES
from towerrec.retrieval.export_towers import ONNX_PACKAGES, require_onnx
from towerrec.retrieval.exported_model import ExportedModel
from towerrec.retrieval.index import ItemIndex
from towerrec.retrieval.manifest import stamps
from towerrec.retriever import Retriever
from towerrec.run_directory import RunDirectory, environment
from towerrec.scoring import Moment, TowerScores, torch_device
from towerrec.trained import load

log = logging.getLogger(__name__)

EXACT = "exact"
"""`export_index` without an approximate index."""
# What an export reads of the config of `recommend.py`; the rest asks for lists.
_READS = {
    "run",
    "checkpoint",
    "items",
    "candidates",
    "deny",
    "at",
    "device",
    "progress",
    "paths",
    "export",
    "export_index",
}
# Users by whose vectors the approximate index is measured.
_ASKING = 10_000


def export(config: RecommendConfig) -> None:
    """Write the folder `export=FOLDER`, whole or not at all.

    Raises:
        ValueError: If the config asks for what an export has not, a package of the extra is missing, the folder holds
            something else, or what was written does not compute what the towers do.
        OSError: If it cannot be written.
    """
    target = Path(str(config.export))
    _check(config, target)
    if distributed.rank() != 0:
        return
    begun, run = time.perf_counter(), RunDirectory.open(str(config.run))
    known, device = load_catalogue(run.catalogue), torch_device(config.device)
    trained = load(run, checkpoint=config.checkpoint, device=device, catalogue=known)
    retriever = Retriever(trained.scores, known, name=trained.name)
    if config.items is not None:
        retriever = retriever.with_items(config.items)
    catalogue = retriever.catalogue
    for name, given in (("candidates", config.candidates), ("deny", config.deny)):
        for_nobody(given, catalogue, name=name)
    listed = allowed(catalogue, catalogue.user_ids, allow=config.candidates, deny=config.deny, exclude_seen=False)
    scores = retriever.scores.at(Moment(moment(config.at, catalogue.timezone)))
    with whole_directory(target, marker=export_folder.MANIFEST) as folder:
        about = write_export(folder, scores, catalogue, listed.candidates, name=trained.name, kind=config.export_index)
    size = sum(stamp["bytes"] for stamp in about["files"].values())
    log.info(
        f"{trained.name}: {about['indexed']:,} of {about['num_items']:,} items, vectors of {about['width']}, "
        f"{about['num_users']:,} users; towers as ONNX and torch.export, at most {max(about['parity'].values()):.1e} "
        f"from the model; {size / 2**20:.1f} MiB in {time.perf_counter() - begun:.1f} s -> {target}"
    )
    if about["approximate"] is not None:
        log.info(_measured(about["approximate"]))


def write_export(
    folder: Path, scores: TowerScores, catalogue: Catalogue, candidates: Tensor, *, name: str, kind: str
) -> dict[str, Any]:
    """Fill an empty folder; returns what `manifest.json` says.

    Args:
        folder: Empty.
        scores: The towers over the tables of the catalogue, at the moment of the index.
        catalogue: Users and items.
        candidates: Items that may be listed, bool [I].
        name: Of the model.
        kind: `exact`, or the approximate index beside the exact one: `auto`, `flat`, `hnsw` or `ivf_pq`.
    """
    model, schema, versions = scores.model, catalogue.schema, _versions()
    assert not isinstance(model, ExportedModel), "an export is written from a run"
    index = ItemIndex.of(scores.items().clone(), candidates).to("cpu")
    asking = torch.randperm(len(catalogue.user_ids), generator=torch.Generator().manual_seed(0))[:_ASKING]
    user_UV = torch.cat([scores.users(part) for part in asking.sort().values.split(1024)]).cpu()
    index.save(
        folder / "index",
        ids=catalogue.item_ids.to_list(),
        schema=schema,
        versions=versions,
        facts={"data": catalogue.data_name, "model": name, "at_ms": scores.moment.at_ms},
    )
    measured = None
    if kind != EXACT:
        measured = write_approximate(folder / "index" / "faiss", index, user_UV, kind=kind)
    _write_ids(folder, "users", catalogue.user_ids.alias("user_id"))
    _write_ids(folder, "items", catalogue.item_ids.alias("item_id"))
    # What may be listed is what the index holds, unless a request says otherwise.
    write_catalogue(replace(catalogue, in_log=candidates), folder / "catalogue")
    for side in SIDES:
        rules = described(catalogue.encoders, side, schema)
        if side == "user":
            rules["inputs"] |= export_words.rules_of_items(program_inputs(model, side))
        write_json(folder / "vocabularies" / f"{side}.json", rules)
    write_json(folder / "schema.json", schema.to_dict())
    found = write_towers(folder, model.cpu(), catalogue, history_length=scores.history_length)
    about = {
        "kind": export_folder.KIND,
        "format": export_folder.FORMAT,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions,
        "data": catalogue.data_name,
        "model": name,
        "schema_fingerprint": schema.fingerprint,
        "similarity": "inner product of the vectors: biases and scale are folded in",
        "contents": export_words.contents(folder),
        "moment_ms": catalogue.as_of_ms if scores.moment.at_ms is None else scores.moment.at_ms,
        "timezone": catalogue.timezone,
        "width": index.vectors_CD.shape[1],
        "num_users": len(catalogue.user_ids),
        "num_items": len(catalogue.item_ids),
        "indexed": len(index.item_idx_C),
        "seen": lists_of(folder, "seen_items", "seen_offsets"),
        "parity": found,
        "approximate": measured,
        "files": stamps(folder),
    }
    write_json(folder / export_folder.MANIFEST, about)
    return about


def _check(config: RecommendConfig, target: Path) -> None:
    """What can be refused before any work."""
    for key in fields(RecommendConfig):
        default = key.default if key.default_factory is MISSING else key.default_factory()
        if key.name not in _READS and getattr(config, key.name) != default:
            raise ValueError(
                f"{key.name}={getattr(config, key.name)} asks for lists, an export has none: leave it out, or leave "
                "out export"
            )
    require_onnx()
    if config.export_index != EXACT:
        require_faiss(config.export_index)
    if target.exists() and not (target.is_dir() and (not any(target.iterdir()) or export_folder.is_export(target))):
        raise ValueError(
            f"export={target}: there is something else, which would be lost; name a new folder, an empty one, or an "
            "older export"
        )


def _versions() -> dict[str, str | None]:
    """Of what a run is made with, and of what writes the folder."""
    found: dict[str, str | None] = dict(environment()["versions"])
    for name in (*ONNX_PACKAGES, "faiss-cpu"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _measured(found: Mapping[str, Any]) -> str:
    """What was measured of the approximate index, in a line."""
    one = {kind: timed["one_query"]["median_ms"] for kind, timed in found["latency"].items()}
    recall = ", ".join(f"{name} {share:.4f}" for name, share in found["recall"].items())
    return (
        f"approximate index, {found['kind']}: {recall}; {one['approximate']:.2f} ms a user, exact {one['exact']:.2f} "
        f"ms ({found['users']:,} users)"
    )


def _write_ids(folder: Path, name: str, ids: pl.Series) -> None:
    """Raw ids in the order of the rows, as JSON, and with their row as Parquet."""
    (folder / f"{name}.json").write_text(json.dumps(ids.to_list(), ensure_ascii=False), encoding="utf-8")
    ids.to_frame().with_row_index("row").select(ids.name, pl.col("row").cast(pl.Int64)).write_parquet(
        folder / f"{name}.parquet"
    )
