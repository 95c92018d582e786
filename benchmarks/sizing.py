"""What fits where, and which setting to turn on: from ten thousand items to a billion users.

    python benchmarks/sizing.py                  # benchmarks/SIZING.md from the constants that were measured
    python benchmarks/sizing.py --measure        # measure them on this machine first (two minutes)

Bytes follow from what is stored, and tests hold the formulas against what towerrec builds. Seconds are those of one
machine's processor scaled up; what grows faster than its arithmetic would show in `benchmarks/growth.py`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONSTANTS = ROOT / "benchmarks" / "results" / "sizing_constants.json"
GUIDE = ROOT / "benchmarks" / "SIZING.md"
RESERVED = 2  # rows of every table beside those of the values: padding and unknown
GB = 1e9


@dataclass(frozen=True)
class Case:
    """A log and a model of the usual kind: ids and features, one hidden layer, biases, Adam.

    Attributes:
        name: What it is called in the guide.
        rows: Training rows.
        users: Rows of the user table.
        items: Rows of the item table.
        width: Of the vectors (`model.embedding_dim`).
        features: Categorical features of each side beside the id.
        cardinality: Values of each of them.
        positives: Share of the rows that are positive.
        contexts: Row-level features (hour, weekday, age of the item).
    """

    name: str
    rows: float
    users: float
    items: float
    width: int = 64
    features: int = 10
    cardinality: int = 100
    positives: float = 0.3
    contexts: int = 3
    feature_dim: int = 8
    hidden: int = 64


@dataclass(frozen=True)
class Machine:
    """What there is: memory of the host and of each device in bytes, and how many devices."""

    host: float = 64 * GB
    device: float = 80 * GB
    devices: int = 8


CASES = (
    Case("KuaiRec", rows=12.5e6, users=7_176, items=10_728),
    Case("100 k items", rows=100e6, users=1e6, items=100e3),
    Case("1 M items", rows=1e9, users=10e6, items=1e6),
    Case("10 M items", rows=10e9, users=100e6, items=10e6),
    Case("a billion users", rows=100e9, users=1e9, items=10e6),
)


def store_bytes(case: Case) -> float:
    """Disk of the packed log: two int32 indices, a float32 label, an int64 moment, a byte per row-level feature."""
    return case.rows * (4 + 4 + 4 + 8 + case.contexts)


def order_bytes(case: Case) -> float:
    """Host memory of an epoch's order, an int64 per row; a streamed log has none."""
    return 8 * case.rows


def list_bytes(case: Case) -> float:
    """Packed lists of every user (int64 offsets and items): positives, and what validation leaves out."""
    return 2 * 8 * (case.users + 1) + 8 * case.rows * (1 + case.positives)


def table_bytes(case: Case) -> float:
    """Encoded users and items on every device: an int64 per id and categorical feature."""
    return 8 * (1 + case.features) * (case.users + case.items)


def id_parameters(case: Case) -> float:
    """Numbers in the id tables: a vector and a bias per user and per item."""
    return (case.users + case.items + 2 * RESERVED) * (case.width + 1)


def other_parameters(case: Case) -> float:
    """Embeddings of features and layers of both towers, and the one bias of all."""
    encoded = case.features * case.feature_dim
    embeddings = case.features * (case.cardinality + RESERVED) * case.feature_dim
    hidden = (encoded + 1) * case.hidden if case.features else 0
    output = (case.hidden + 1) * (case.width + 1) if case.features else 0
    return 2 * (embeddings + hidden + output) + 1


def parameters(case: Case) -> float:
    """All numbers that are learned."""
    return id_parameters(case) + other_parameters(case)


def training_bytes(case: Case, *, state: int = 2, shards: int = 1) -> float:
    """Device memory of weights, gradients and optimiser state in float32, id tables over `shards` devices.

    Args:
        case: The model.
        state: Numbers an optimiser keeps for each weight: 2 for Adam, 1 for Adagrad, 0 for SGD.
        shards: Processes that share the rows out (`trainer=sharded`), 1 without.
    """
    return 4 * (2 + state) * (id_parameters(case) / shards + other_parameters(case))


def checkpoint_bytes(case: Case, *, state: int = 2) -> float:
    """Disk of a checkpoint: weights and optimiser state."""
    return 4 * (1 + state) * parameters(case)


def catalogue_bytes(case: Case) -> float:
    """Item vectors, float32, with the two columns that hold biases: on every device in validation, and the index."""
    return 4 * case.items * (case.width + 2)


def device_bytes(case: Case, *, shards: int = 1) -> float:
    """What must lie on one device: tables, lists, vectors of the catalogue, weights and their state."""
    return table_bytes(case) + list_bytes(case) + catalogue_bytes(case) + training_bytes(case, shards=shards)


def epoch_seconds(case: Case, constants: dict[str, Any], *, batch: int = 8192) -> float:
    """One pass over the rows on the processor that was measured: towers, and Adam over all weights in every step."""
    steps = math.ceil(case.rows / batch)
    return case.rows / constants["train_rows_per_s"] + steps * parameters(case) * constants["adam_s_per_weight"]


def lists_seconds(case: Case, constants: dict[str, Any]) -> float:
    """Exact lists for all users on that processor."""
    return case.users * case.items * constants["seconds_per_1e9_scores"] / 1e9


def prepare_seconds(case: Case, constants: dict[str, Any]) -> float:
    """From a Parquet log to the store on that processor."""
    return case.rows / constants["prepare_rows_per_s"]


def shards_needed(case: Case, machine: Machine) -> int | None:
    """The fewest devices over which training fits, 1 where it fits on one; None where even many are not enough."""
    for shards in (1, 2, 4, 8, 16, 32, 64):
        if device_bytes(case, shards=shards) <= 0.8 * machine.device:
            return shards
    return None


Rule = tuple[str, str, Callable[[Case, Machine], bool]]
RULES: tuple[Rule, ...] = (
    (
        "data.streaming=true",
        "prepares the log in chunks; by itself where memory is short",
        lambda c, m: _host(c) > m.host,
    ),
    (
        "loader.buffer_rows=4000000",
        "reads training rows from disk, a shuffled pool at a time",
        lambda c, m: _host(c) > m.host,
    ),
    ("loss=in_batch_softmax", "instead of a softmax over all items, with logQ", lambda c, _: c.items > 200e3),
    ("negatives=mixed", "candidates beyond the batch, corrected jointly", lambda c, _: c.items > 200e3),
    ("loader.micro_batch=2048", "large batches in pieces, where activations do not fit", lambda c, _: c.rows >= 100e6),
    ("trainer=ddp", "several devices share every batch", lambda c, m: c.rows >= 1e9 and shards_needed(c, m) == 1),
    ("trainer.precision=bf16-mixed", "on GPUs that have it", lambda c, _: c.rows >= 100e6),
    (
        "trainer=sharded",
        "shares out the id tables and their state by rows",
        lambda c, m: (shards_needed(c, m) or 0) > 1,
    ),
    (
        "optimizer=rowwise_adagrad",
        "one number of state per row of a table, where Adam keeps two per weight",
        lambda c, m: shards_needed(c, m) != 1,
    ),
    ("model.use_user_id=false", "no weights per user: he is his items", lambda c, m: shards_needed(c, m) is None),
    ("model=two_tower_history", "reads his last items", lambda c, m: shards_needed(c, m) is None),
)


def _host(case: Case) -> float:
    return 2 * (order_bytes(case) + list_bytes(case))


def settings(case: Case, machine: Machine) -> list[str]:
    """What to turn on."""
    return [setting for setting, _, applies in RULES if applies(case, machine)]


def guide(constants: dict[str, Any], machine: Machine) -> str:
    """The text of SIZING.md."""
    from sizing_text import text

    return text(constants, machine)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="measure the constants on this machine first")
    parser.add_argument("--host-gb", type=float, default=64, help="memory of the host the settings are chosen for")
    parser.add_argument("--device-gb", type=float, default=80, help="memory of one device")
    arguments = parser.parse_args()
    if arguments.measure:
        from sizing_measure import measured

        CONSTANTS.write_text(json.dumps(measured(), indent=2) + "\n", encoding="utf-8")
    constants = json.loads(CONSTANTS.read_text(encoding="utf-8"))
    print(json.dumps(constants, indent=2))
    GUIDE.write_text(guide(constants, Machine(arguments.host_gb * GB, arguments.device_gb * GB)), encoding="utf-8")
    print(GUIDE.relative_to(ROOT))


if __name__ == "__main__":
    main()
