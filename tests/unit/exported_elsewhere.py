"""Run in a process of its own: exported towers over saved rows, where towerrec cannot be imported.

    python exported_elsewhere.py FOLDER

Prints how far each lies from what was saved with it, in units of the vectors' length where that is above 1.
"""

import json
import sys
from pathlib import Path

for blocked in ("towerrec", "lightning", "polars", "hydra", "onnxscript"):
    sys.modules[blocked] = None  # type: ignore[assignment]

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402

furthest: dict[str, float] = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    names = json.loads((folder / "inputs.json").read_text(encoding="utf-8"))
    program = torch.export.load(folder / "tower.pt2").module()
    session = onnxruntime.InferenceSession(folder / "tower.onnx")
    for saved in folder.glob("*.npz"):
        held = np.load(saved)
        columns = {name: held[f"arr_{place}"] for place, name in enumerate(names)}
        with torch.no_grad():
            by_torch = program({name: torch.from_numpy(column) for name, column in columns.items()}).numpy()
        unit = np.maximum(np.linalg.norm(held["want"], axis=1, keepdims=True), 1.0)
        for form, got in (("pt2", by_torch), ("onnx", session.run(None, columns)[0])):
            key = f"{folder.name} {form}"
            furthest[key] = max(furthest.get(key, 0.0), float((np.abs(got - held["want"]) / unit).max()))
print(json.dumps(furthest))
