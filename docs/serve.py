"""Serve a user from an exported folder: numpy, onnxruntime and faiss are all it needs.

python recommend.py run=DIR export=FOLDER
python docs/serve.py FOLDER '{"user_id": 17}'                                     # a user of the log
python docs/serve.py FOLDER '{"user_active_degree": "high_active", "hour": 20}'   # a new one, by features
python docs/serve.py FOLDER '{"liked": [7, 3], "shown": [5]}'                     # by what he did, the latest first

Prints his ten best items, without those he has seen. What is not said stays as a missing value is encoded.
manifest.json says what lies where, towers/towers.json what the tower reads and where the inputs of known users are,
vocabularies/user.json by which rules columns become inputs; encode.py follows these rules.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from encode import encoded

FOLDER, ASKED = Path(sys.argv[1]), json.loads(sys.argv[2])
FILES = ("manifest", "users", "items", "vocabularies/user", "towers/towers")
about, users, items, vocabulary, towers = (json.loads((FOLDER / f"{name}.json").read_text("utf-8")) for name in FILES)
row = users.index(ASKED["user_id"]) if ASKED.get("user_id") in users else None
liked, shown = ([items.index(item) for item in ASKED.get(word, []) if item in items] for word in ("liked", "shown"))
done = {"history": liked, "profile": liked + shown, "profile_positive": [1] * len(liked) + [0] * len(shown)}


def stored(place):  # of the user's row: a value, or a list, the last first
    ends = np.load(FOLDER / place["offsets"])[row : row + 2] if "offsets" in place else (row, row + 1)
    return np.load(FOLDER / place["values"], mmap_mode="r")[slice(*ends)][::-1][: place.get("most")]


batch = {}
for given in towers["user"]["inputs"]:
    said = done.get(given["role"]) or encoded(vocabulary["inputs"][given["name"]], ASKED)
    value = np.ravel(said if row is None or "known" not in given else stored(given["known"]))
    shape = [size if isinstance(size, int) else max(len(value), 1) for size in given["shape"][1:]]
    batch[given["name"]] = np.full([1, *shape], given["absent"], given["dtype"])
    batch[given["name"]].ravel()[: len(value)] = value
vector = onnxruntime.InferenceSession(FOLDER / "towers/user.onnx").run(None, batch)[0]
seen = {*liked, *shown, *([] if row is None else stored(about["seen"]).tolist())}
if about["approximate"] is None:  # export_index=exact
    best = np.load(FOLDER / "index/items.npy")[np.argsort(-(np.load(FOLDER / "index/vectors.npy") @ vector[0]))]
else:
    import faiss

    best = faiss.read_index(str(FOLDER / "index/faiss/index.faiss")).search(vector, 10 + len(seen))[1][0]
print(json.dumps([items[place] for place in best if place >= 0 and place not in seen][:10], ensure_ascii=False))
