"""An exported folder: which file says what, and reading it back with every check.

`manifest.json` (sizes and SHA-256 of all files), `schema.json`, `vocabularies/{user,item}.json`, `users.json` and
`items.json` (raw ids by row; the same with `row` as Parquet), `catalogue/` (encoded rows, seen items, histories,
profiles, as in a run directory), `index/` (item vectors; below it `faiss/`), `towers/{user,item}.{onnx,pt2}` and
`towers/towers.json` (what they read).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import device as Device

from towerrec.data.catalogue import Catalogue, load_catalogue
from towerrec.files import read_json
from towerrec.nn.programs import ProgramInput
from towerrec.retrieval.export_towers import read_onnx, read_pt2
from towerrec.retrieval.exported_model import ExportedModel
from towerrec.retrieval.index import ABOUT, ItemIndex
from towerrec.retrieval.manifest import check_files, read_part
from towerrec.schema import FeatureSchema, FeatureSpec, Side

FORMAT = 1
KIND = "towerrec export"
MANIFEST = "manifest.json"
TOWERS = "towers/towers.json"
SIDES: tuple[Side, ...] = ("user", "item")
# Files that depend on the features, each of which says on which.
_PARTS = {
    f"index/{ABOUT}": 2,
    TOWERS: FORMAT,
    "vocabularies/user.json": FORMAT,
    "vocabularies/item.json": FORMAT,
}
_AGAIN = "export again: python recommend.py run=DIR export=FOLDER"


@dataclass(frozen=True)
class Export:
    """What an exported folder holds, ready to serve.

    Attributes:
        folder: Where it lies.
        manifest: What `manifest.json` says.
        catalogue: Users and items, encoded, with what the users saw and did.
        index: Vectors of the items that may be listed, in their context as of `at_ms`.
        model: The towers, as torch.export programs.
        at_ms: Moment of the items' context in the index; None: the end of training.
        history_length: Positives that the user tower is given.
        approximate: Folder of the FAISS index, None where the export has none.
    """

    folder: Path
    manifest: Mapping[str, Any]
    catalogue: Catalogue
    index: ItemIndex
    model: ExportedModel
    at_ms: int | None
    history_length: int
    approximate: Path | None

    @property
    def name(self) -> str:
        """Of the model."""
        return str(self.manifest["model"])


def is_export(folder: Path) -> bool:
    """Whether a folder says that it is an exported one, of whatever format."""
    try:
        about = read_json(folder / MANIFEST)
    except (OSError, ValueError):
        return False
    return isinstance(about, dict) and about.get("kind") == KIND


def load_export(folder: Path, *, device: Device | str = "cpu") -> Export:
    """Read an exported folder.

    Raises:
        ValueError: If it is none, of another format, its parts were made with different features (naming two of them
            and the first difference), or a file is missing or damaged (naming it).
    """
    if not is_export(folder):
        raise ValueError(f"{folder} is no exported folder: {MANIFEST} is missing or none of ours; {_AGAIN}")
    manifest, _ = read_part(folder / MANIFEST, format=FORMAT, remedy=_AGAIN)
    schema = _schema_of(folder, manifest)
    check_files(folder, manifest["files"])
    about = read_json(folder / TOWERS)
    index = ItemIndex.load(folder / "index", expect=schema)
    catalogue = load_catalogue(folder / "catalogue")
    schema.require(catalogue.schema, name=TOWERS, other_name="catalogue/schema.json")
    approximate = folder / "index" / "faiss"
    return Export(
        folder=folder,
        manifest=manifest,
        catalogue=catalogue,
        index=index,
        model=model_of(folder, about, schema, device=device),
        at_ms=read_json(folder / "index" / ABOUT)["facts"]["at_ms"],
        history_length=int(about["model"]["history_length"]),
        approximate=approximate if approximate.is_dir() else None,
    )


def model_of(
    folder: Path, about: Mapping[str, Any], schema: FeatureSchema, *, format: str = "pt2", device: Device | str = "cpu"
) -> ExportedModel:
    """The towers of a folder, by torch.export (`pt2`) or, on the CPU, by onnxruntime (`onnx`)."""
    if format == "onnx":
        user, item = (read_onnx(folder / "towers" / f"{side}.onnx") for side in SIDES)
    else:
        user, item = (read_pt2(folder / "towers" / f"{side}.pt2", device=device) for side in SIDES)
    settings = about["model"]
    return ExportedModel(
        user=user,
        item=item,
        inputs={side: tuple(_input_of(plain, schema) for plain in about[side]["inputs"]) for side in SIDES},
        schema=schema,
        profile_kind=settings["profile"],
        profile_items=settings["profile_items"],
        num_members=settings["members"],
        folds_bias=settings["folds_bias"],
        device=torch.device(device),
    )


def _input_of(plain: Mapping[str, Any], schema: FeatureSchema) -> ProgramInput:
    specs: dict[str | None, FeatureSpec] = {spec.name: spec for spec in schema.features}
    return ProgramInput(
        name=plain["name"],
        role=plain["role"],
        spec=specs.get(plain["feature"]),
        dtype=plain["dtype"],
        shape=tuple(plain["shape"]),
        absent=plain["absent"],
    )


def _schema_of(folder: Path, manifest: Mapping[str, Any]) -> FeatureSchema:
    """The one schema of all parts."""
    found = {}
    for name, format in _PARTS.items():
        _, schema = read_part(folder / name, format=format, remedy=_AGAIN)
        if schema is None:
            raise ValueError(f"{folder / name} does not say which features it was made with: {_AGAIN}")
        found[name] = schema
    names = list(found)
    for name in names[1:]:
        found[names[0]].require(found[name], name=str(folder / names[0]), other_name=str(folder / name))
    if manifest["schema_fingerprint"] != found[names[0]].fingerprint:
        raise ValueError(
            f"{folder / MANIFEST} was written for features {manifest['schema_fingerprint']}, {folder / names[0]} for "
            f"{found[names[0]].fingerprint}: {_AGAIN}"
        )
    return found[names[0]]
