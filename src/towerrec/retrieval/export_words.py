"""What the files of an exported folder say in words, so that they can be read with nothing else at hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towerrec.nn.programs import ProgramInput

_CONTENTS = {
    "users.json": "raw ids of the users: the id at place r belongs to row r; users.parquet holds the same with the row",
    "items.json": "raw ids of the items, likewise",
    "index/vectors.npy": "vectors of the items that may be listed, float32; index.json says how they were made",
    "index/items.npy": "row of the item behind each of these vectors",
    "index/faiss/index.faiss": "FAISS index of these vectors: its ids are rows of items, its scores inner products",
    "index/faiss/faiss.json": "its kind and setting, its recall and latency against exact search",
    "towers/user.onnx": "encoded columns of users to vectors, whose inner products with those of items are scores",
    "towers/item.onnx": "encoded columns of items to vectors",
    "towers/user.pt2": "the same as a program of torch.export, which takes the inputs as one dict by their names",
    "towers/item.pt2": "likewise of items",
    "towers/towers.json": "inputs of both: names, types, shapes, what a missing value is, where known ones lie",
    "vocabularies/user.json": "how each input of the user tower is made of raw columns, in words and values",
    "vocabularies/item.json": "likewise of the item tower",
    "schema.json": "the features, and their fingerprint",
    "catalogue": "encoded users and items, what users saw and did, as in a run directory",
}
READING = {
    "rows": "every input has the same number of rows, from 1 on; lists are as long as the longest of them",
    "absent": "stands for a value that is missing, and behind the last value of a list",
    "known": (
        "where the inputs of the folder's own rows lie (places in users.json, items.json): row r is values[r]; with "
        "offsets it is the list values[offsets[r] : offsets[r + 1]], the last first and of a history only the `most` "
        "last; days (since 1970-01-01, -2147483648 where not known) and popularity are what an age and a popularity of "
        "the moment are made of, by the vocabulary"
    ),
}
"""How the inputs of `towers.json` are to be read."""

_MEANING = {
    "history": (
        "rows of the items (places in items.json) that the user liked, most recent first, -1 where empty; of a longer "
        "list only the first `history_length` count, and none that joined after the training"
    ),
    "profile": (
        "rows of the items (places in items.json) that he liked or was shown, each once, in any order, -1 where empty"
    ),
    "profile_positive": "which of these he liked",
}


def contents(folder: Path) -> dict[str, str]:
    """What lies where, in words: of the names in `_CONTENTS` those that the folder has."""
    return {name: what for name, what in _CONTENTS.items() if (folder / name).exists()}


def described_inputs(inputs: tuple[ProgramInput, ...], known: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Inputs as plain builtins, in order.

    Args:
        inputs: Of a program.
        known: By name, where the folder holds the input of its own users or items.
    """
    return [
        {
            "name": given.name,
            "feature": None if given.spec is None else given.spec.name,
            "role": given.role,
            "dtype": given.dtype,
            "shape": list(given.shape),
            "absent": given.absent,
            "meaning": _meaning(given),
            **({"known": dict(known[given.name])} if given.name in known else {}),
        }
        for given in inputs
    ]


def rules_of_items(inputs: tuple[ProgramInput, ...]) -> dict[str, dict[str, Any]]:
    """Rules of the inputs that are no features but lists of items, as `data.vocabulary_files` has those of features."""
    return {
        given.name: {"kind": given.role, "columns": [given.name], "how": _MEANING[given.role]}
        for given in inputs
        if given.spec is None
    }


def _meaning(given: ProgramInput) -> str:
    if given.spec is None:
        return _MEANING[given.role]
    if given.absent and given.spec.kind == "numeric":
        return "1 where the number of the same name is missing, otherwise 0"
    if given.spec.kind in ("categorical", "multi"):
        what = "index" if given.spec.kind == "categorical" else "indices"
        of = "of the moment" if given.spec.context else "of the row"
        return f"{what} {of}, 0 to {given.spec.cardinality - 1}, by the vocabulary; 0 is padding, 1 unknown"
    return f"{'number, standardised' if given.spec.kind == 'numeric' else 'vector'}, by the vocabulary; 0 is missing"
