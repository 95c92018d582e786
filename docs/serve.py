"""Serve a user from an exported folder: numpy, onnxruntime and faiss are all it needs.

python recommend.py run=DIR export=FOLDER
python docs/serve.py FOLDER '{"user_id": 17}'                                     # a user of the log
python docs/serve.py FOLDER '{"user_active_degree": "high_active", "hour": 20}'   # a new one, by features

Prints his ten best items, without those he has seen, by the approximate index (export_index=exact writes none). What is
not said stays as a missing value is encoded; how every column is encoded stands in vocabularies/user.json, and what the
towers read in towers/towers.json.
"""

import json
import sys
from pathlib import Path

import faiss
import numpy as np
import onnxruntime

FOLDER, ASKED = Path(sys.argv[1]), json.loads(sys.argv[2])
FILES = ("manifest", "users", "items", "vocabularies/user", "towers/towers")
about, users, items, vocabulary, towers = (json.loads((FOLDER / f"{name}.json").read_text("utf-8")) for name in FILES)
row = users.index(ASKED["user_id"]) if ASKED.get("user_id") in users else None


def stored(place):  # of the user's row: a value, or a list, the last first
    ends = np.load(FOLDER / place["offsets"])[row : row + 2] if "offsets" in place else (row, row + 1)
    return np.load(FOLDER / place["values"], mmap_mode="r")[slice(*ends)][::-1][: place.get("most")]


def encoded(rule, value):
    if "values" in rule:
        return [2 + rule["values"].index(v) for v in np.ravel(value).tolist() if v in rule["values"]]
    x = np.sign(value) * np.log1p(np.abs(value)) if rule["transform"] == "log1p" else np.asarray(value)
    return 0 * x if rule["kind"] == "missing" else np.clip((x - rule["mean"]) / rule["deviation"], -10, 10)


batch = {}
for given in towers["user"]["inputs"]:
    rule = vocabulary["inputs"][given["name"]]
    said = ASKED.get(rule["columns"][0], [])
    value = stored(given["known"]) if "known" in given and row is not None else encoded(rule, said)
    shape = [size if isinstance(size, int) else max(np.size(value), 1) for size in given["shape"][1:]]
    batch[given["name"]] = np.full([1, *shape], given["absent"], given["dtype"])
    batch[given["name"]].ravel()[: np.size(value)] = np.ravel(value)
vectors = onnxruntime.InferenceSession(FOLDER / "towers/user.onnx").run(None, batch)[0]
seen = [] if row is None else stored(about["seen"]).tolist()
_, rows = faiss.read_index(str(FOLDER / "index/faiss/index.faiss")).search(vectors, 10 + len(seen))
print(json.dumps([items[place] for place in rows[0] if place >= 0 and place not in seen][:10]))
