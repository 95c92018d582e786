"""The towers of a model into an exported folder, compared with the model before anybody sees them.

Shape letters: R rows, I items, V width of the vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from towerrec.data.catalogue import Catalogue
from towerrec.files import read_json, write_json
from towerrec.nn.ensemble import Model
from towerrec.nn.profile import UserProfiles
from towerrec.nn.programs import ItemProgram, ProgramInput, UserProgram
from towerrec.retrieval import export_folder, export_words
from towerrec.retrieval.export_folder import SIDES, TOWERS
from towerrec.retrieval.export_towers import VECTOR, traced, write_onnx, write_pt2
from towerrec.retrieval.exported_model import ExportedModel
from towerrec.schema import FeatureTable, Side

# Rows on which the programs are compared with the towers, and how far they may lie apart (`difference`).
_COMPARED, TOLERANCE = 512, 1e-4
# Arrays of the catalogue that hold what profiles are made of.
_PROFILE = {"profile": "profile_items", "profile_positive": "profile_positive"}


def write_towers(folder: Path, model: Model, catalogue: Catalogue, *, history_length: int) -> dict[str, float]:
    """Write `towers/` beside the folder's `catalogue/`; returns how far each format lies from the model (`parity`).

    Raises:
        ValueError: If that is further than rounding explains.
    """
    directory, schema = folder / "towers", catalogue.schema
    directory.mkdir()
    item_IV = None if model.profile is None else _plain_items(model, catalogue)
    programs: dict[Side, UserProgram | ItemProgram] = {
        "user": UserProgram(model, item_IV, history_length=history_length),
        "item": ItemProgram(model),
    }
    opset = 0
    for side in SIDES:
        graph = traced(programs[side])
        write_pt2(graph, directory / f"{side}.pt2")
        opset = write_onnx(graph, programs[side].inputs, directory / f"{side}.onnx")
    about: dict[str, Any] = {
        "format": export_folder.FORMAT,
        "schema_fingerprint": schema.fingerprint,
        "schema": schema.to_dict(),
        "model": {
            "members": model.num_members,
            "folds_bias": model.folds_bias,
            "profile": model.profile_kind,
            "profile_items": len(catalogue.item_ids),
            "history_length": history_length if model.reads_history else 0,
        },
        "output": {"name": VECTOR, "dtype": "float32", "shape": ["rows", _width(model, catalogue)]},
        "opset": opset,
        "reading": export_words.READING,
    }
    for side in SIDES:
        inputs = programs[side].inputs
        known = _known(folder, side, inputs, history_length)
        about[side] = {"inputs": export_words.described_inputs(inputs, known)}
    found = {
        format: parity(
            model,
            export_folder.model_of(folder, about, schema, format=format),
            catalogue,
            item_IV,
            history_length=history_length,
        )
        for format in ("onnx", "pt2")
    }
    for format, difference in found.items():
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the exported towers ({format}) differ from the model by {difference:.1e}, more than rounding "
                f"explains ({TOLERANCE:g}), so nothing was written; please report this, with your versions of torch, "
                "onnxscript and onnxruntime"
            )
    about["parity"] = found
    write_json(folder / TOWERS, about)
    return found


@torch.no_grad()
def parity(
    model: Model, exported: ExportedModel, catalogue: Catalogue, item_IV: Tensor | None, *, history_length: int
) -> float:
    """How far exported towers lie from their model, on known users and items (`difference`)."""
    furthest = 0.0
    tables: dict[Side, FeatureTable] = {"user": catalogue.users, "item": catalogue.items}
    for side, table in tables.items():
        rows_R = torch.randperm(table.num_rows, generator=torch.Generator().manual_seed(0))[:_COMPARED]
        more: dict[str, Any] = {}
        if side == "user" and model.reads_history:
            more["history_RH"] = catalogue.history.latest(rows_R, length=history_length)
        if side == "user" and item_IV is not None and catalogue.profiles is not None:
            more["profile"] = UserProfiles(catalogue.profiles).of(rows_R, item_IV)
        got, want = (
            getattr(towers, f"{side}_vectors")(towers.pack(side, table).gather(rows_R), **more)
            for towers in (exported, model)
        )
        furthest = max(furthest, difference(got, want))
    return furthest


def difference(got_RV: Tensor, want_RV: Tensor) -> float:
    """Largest difference of two numbers, in units of the length of the vector they stand in where that is above 1."""
    unit_R1 = want_RV.norm(dim=1, keepdim=True).clamp(min=1.0)
    return float(((got_RV - want_RV).abs() / unit_R1).max())


def _plain_items(model: Model, catalogue: Catalogue, *, batch: int = 65536) -> Tensor:
    """Vectors of all items without a context, float32 [I, V]."""
    packed = model.pack("item", catalogue.items)
    with torch.no_grad():
        parts = [model.item_vectors(packed.gather(idx)) for idx in torch.arange(packed.num_rows).split(batch)]
    return torch.cat(parts).float()


def _width(model: Model, catalogue: Catalogue) -> int:
    one = model.pack("item", catalogue.items).gather(torch.zeros(1, dtype=torch.int64))
    with torch.no_grad():
        return int(model.item_vectors(one).shape[1])


def lists_of(folder: Path, values: str, offsets: str) -> dict[str, str]:
    """`values[offsets[row] : offsets[row + 1]]` is the list of a row; histories end with the most recent."""
    packed = arrays_of(folder, "catalogue/packed")
    return {"values": packed[values], "offsets": packed[offsets]}


def arrays_of(folder: Path, place: str) -> dict[str, str]:
    names = read_json(folder / place / "columns.json")
    return {name: f"{place}/{number}.npy" for number, name in enumerate(names)}


def _known(
    folder: Path, side: Side, inputs: tuple[ProgramInput, ...], history_length: int
) -> dict[str, Mapping[str, Any]]:
    """Where the folder holds the inputs of its own users or items, by name, and what those of a moment are made of."""
    columns = arrays_of(folder, f"catalogue/{side}s")
    known: dict[str, Mapping[str, Any]] = {}
    for given in inputs:
        if given.role == "history":
            known[given.name] = {**lists_of(folder, "history_items", "history_first"), "most": history_length}
        elif given.spec is None:
            known[given.name] = lists_of(folder, _PROFILE[given.role], "profile_offsets")
        elif not given.spec.context:
            known[given.name] = {"values": columns[given.spec.name]}
        for what, place in (("days", "catalogue/item_days"), ("popularity", "catalogue/item_recent")):
            if given.name in (of_moment := arrays_of(folder, place)):
                known[given.name] = {what: of_moment[given.name]}
    return known
