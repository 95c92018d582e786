"""Exported towers against the models they come from: every model config, both formats, random rows.

Models have random weights over the features of the simulated log (`data=demo`), as wide as their configs say; rows are
drawn with unknown ids, missing values, and empty lists, histories and profiles among them. Differences are in units of
the vectors' length where that is above 1. Prints JSON: the largest difference of each model and format, size of its
files and seconds to write them.

    python benchmarks/export_parity.py [--rows 10000] [--scale tiny] [--data FOLDER] [--only NAME ...] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from export_rows import by_model, drawn
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from towerrec.choices import BY_ROWS, BY_USERS
from towerrec.config import TrainConfig
from towerrec.exporting_towers import difference
from towerrec.nn.ensemble import Model, build_model, members_of
from towerrec.nn.programs import ItemProgram, UserProgram
from towerrec.retrieval.export_towers import read_onnx, read_pt2, traced, write_onnx, write_pt2
from towerrec.schema import FeatureTable, Side
from towerrec.tasks import prepared_data

CONF = Path(__file__).parents[1] / "conf"
# Rows asked for at once: a profile of 100 items of width 128 is 50 kB a row.
_BATCH, _LENGTH = 1000, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--scale", default="tiny")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    models: dict[str, Any] = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        prepared = prepared_data(_config(f"data.demo.scale={asked.scale}", f"paths.data_dir={asked.data}")).prepared
        for name, settings in _settings():
            if asked.only and name not in asked.only:
                continue
            models[name] = _measured(settings, prepared.schema, prepared.items, rows=asked.rows)
            print(name, json.dumps(models[name]), flush=True)
    text = json.dumps(
        {
            "conditions": conditions() | {name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")},
            "rows": asked.rows,
            "scale": asked.scale,
            "furthest": {form: max(found[form] for found in models.values()) for form in ("onnx", "pt2")},
            "models": models,
        },
        indent=2,
    )
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n", encoding="utf-8")


def _config(*overrides: str) -> Any:
    composed = compose("train", ["data=demo", *overrides])
    # Callbacks and loggers name the job that is running, and there is none.
    own = {key: value for key, value in composed.items() if key not in ("callbacks", "logger")}
    return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), OmegaConf.create(own)))


def _settings() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every model that a config file describes, with both meanings of its `null`s; equal ones once."""
    seen: list[dict[str, Any]] = []
    words = [f"model={path.stem}" for path in sorted((CONF / "model").glob("*.yaml"))]
    words += ["model.members=4"]
    words += [f"experiment={path.stem}" for path in sorted((CONF / "experiment").glob("*.yaml"))]
    for word in words:
        model = OmegaConf.to_object(compose("train", [word]).model)
        assert isinstance(model, dict)
        for recipe, meaning in (("rows", BY_ROWS), ("users", BY_USERS)):
            filled = {key: meaning.get(key) if value is None else value for key, value in model.items()}
            if filled not in seen:
                seen.append(filled)
                yield f"{word.partition('=')[2] if word[:6] != 'model.' else 'members=4'}, by {recipe}", filled


def _measured(settings: dict[str, Any], schema: Any, items: FeatureTable, *, rows: int) -> dict[str, Any]:
    model, item_IV = _model(settings, schema, items)
    user = UserProgram(model, item_IV, history_length=rows)
    programs: dict[Side, UserProgram | ItemProgram] = {"user": user, "item": ItemProgram(model)}
    found: dict[str, Any] = {"onnx": 0.0, "pt2": 0.0, "onnx_mib": 0.0, "pt2_mib": 0.0, "rows": 2 * rows}
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        for side, program in programs.items():
            graph = traced(program)
            write_pt2(graph, Path(place) / f"{side}.pt2")
            write_onnx(graph, program.inputs, Path(place) / f"{side}.onnx")
        found["seconds"] = round(time.perf_counter() - began, 1)
        for form, read in (("onnx", read_onnx), ("pt2", read_pt2)):
            for side, program in programs.items():
                file = Path(place) / f"{side}.{form}"
                found[f"{form}_mib"] = round(found[f"{form}_mib"] + file.stat().st_size / 2**20, 3)
                program_read = read(file)
                for number, count in enumerate([1, *(_BATCH,) * (rows // _BATCH)]):
                    columns = drawn(
                        program.inputs, count, num_items=items.num_rows, length=1 + number * _LENGTH // 2, seed=number
                    )
                    want = by_model(model, side, program.inputs, columns, item_IV)
                    found[form] = max(found[form], difference(program_read(columns), want))
    return found


def _model(settings: dict[str, Any], schema: Any, items: FeatureTable) -> tuple[Model, Tensor | None]:
    """A model no parameter of which is zero, and the vectors of its items without a context."""
    torch.manual_seed(0)
    model = build_model(schema, settings).eval()
    with torch.no_grad():
        for member in members_of(model):
            for parameter in member.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        item_IV = model.item_vectors(model.pack("item", items))
    return model, None if model.profile is None else item_IV


if __name__ == "__main__":
    main()
