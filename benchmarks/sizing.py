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
        feature_dim: Width of a feature's embedding.
        hidden: Width of the hidden layer.
        user_ids: Whether every user has weights of his own (`model.use_user_id`).
        history: Width of the history's embeddings, with a table of their own; 0 for none.
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
    user_ids: bool = True
    history: int = 0


@dataclass(frozen=True)
class Machine:
    """What there is: memory of the host and of each device in bytes."""

    host: float = 64 * GB
    device: float = 80 * GB


@dataclass(frozen=True)
class Plan:
    """How a model is trained: over how many devices its id tables are shared out, which candidates validation has, and
    whether tables keep one number of state per row."""

    shards: int = 1
    observed: bool = False
    rowwise: bool = False


CASES = (
    Case("KuaiRec", rows=12.5e6, users=7_176, items=10_728),
    Case("100 k items", rows=100e6, users=1e6, items=100e3),
    Case("1 M items", rows=1e9, users=10e6, items=1e6),
    Case("10 M items", rows=10e9, users=100e6, items=10e6),
    Case("a billion users", rows=100e9, users=1e9, items=10e6),
    Case(
        "a billion users, by their history",
        rows=10e9,
        users=1e9,
        items=10e6,
        features=0,
        positives=0.05,
        user_ids=False,
        history=32,
    ),
)


def store_bytes(case: Case) -> float:
    """Disk of the packed log: two int32 indices, a float32 label, an int64 moment, a byte per row-level feature."""
    return case.rows * (4 + 4 + 4 + 8 + case.contexts)


def order_bytes(case: Case) -> float:
    """Host memory of an epoch's order, an int64 per row; a streamed log has none."""
    return 8 * case.rows


def list_bytes(case: Case, *, observed: bool = False) -> float:
    """Packed lists of every user (int64 offsets and items): positives with their keys, and what validation leaves out.

    Args:
        case: The log.
        observed: `eval.candidates=observed`, which leaves nothing out.
    """
    positives = 8 * (case.users + 1) + 16 * case.rows * case.positives
    return positives if observed else positives + 8 * (case.users + 1) + 8 * case.rows


def table_bytes(case: Case) -> float:
    """Encoded users and items on every device: an int64 per id and categorical feature."""
    return 8 * ((case.user_ids + case.features) * case.users + (1 + case.features) * case.items)


def id_parameters(case: Case) -> float:
    """Numbers in the id tables: a vector and a bias per user and per item."""
    users = (case.users + RESERVED) * case.user_ids
    return (users + case.items + RESERVED) * (case.width + 1)


def other_parameters(case: Case) -> float:
    """Embeddings of features and layers of both towers, those of the history, and the one bias of all."""
    embeddings = 2 * case.features * (case.cardinality + RESERVED) * case.feature_dim
    of_items = case.features * case.feature_dim
    history = (case.items + 1) * case.history
    return embeddings + _layers(case, of_items + case.history) + _layers(case, of_items) + history + 1


def _layers(case: Case, inputs: int) -> int:
    """One hidden layer and the output of a tower; without inputs beside the id there are none."""
    return (inputs + 1) * case.hidden + (case.hidden + 1) * (case.width + 1) if inputs else 0


def parameters(case: Case) -> float:
    """All numbers that are learned."""
    return id_parameters(case) + other_parameters(case)


def training_bytes(case: Case, *, state: float = 2, shards: int = 1) -> float:
    """Device memory of weights, gradients and optimiser state in float32, id tables over `shards` devices.

    Args:
        case: The model.
        state: Numbers an optimiser keeps for each weight: 2 for Adam, 1 for Adagrad, 0 for SGD, next to 0 by rows.
        shards: Processes that share the rows out (`trainer=sharded`), 1 without.
    """
    return 4 * (2 + state) * (id_parameters(case) / shards + other_parameters(case))


def checkpoint_bytes(case: Case, *, state: int = 2) -> float:
    """Disk of a checkpoint: weights and optimiser state."""
    return 4 * (1 + state) * parameters(case)


def catalogue_bytes(case: Case) -> float:
    """Item vectors, float32, with the two columns that hold biases: on every device in validation, and the index."""
    return 4 * case.items * (case.width + 2)


def device_bytes(case: Case, plan: Plan) -> float:
    """What must lie on one device: tables, lists, vectors of the catalogue, weights and their state."""
    state = 1 / case.width if plan.rowwise else 2
    weights = training_bytes(case, state=state, shards=plan.shards)
    return table_bytes(case) + list_bytes(case, observed=plan.observed) + catalogue_bytes(case) + weights


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


def plan_for(case: Case, machine: Machine) -> Plan | None:
    """The plan with the fewest devices of that kind, lists of the whole catalogue first; None where none fits."""
    for observed in (False, True):
        for shards in (1, 2, 4, 8, 16, 32, 64):
            for rowwise in (False, True):
                plan = Plan(shards, observed, rowwise)
                if device_bytes(case, plan) <= 0.8 * machine.device:
                    return plan
    return None


SETTINGS = {
    "data.streaming=true": "prepares the log in chunks; by itself where memory is short",
    "loader.buffer_rows=4000000": "reads training rows from disk, a shuffled pool at a time; by itself as above",
    "loader.micro_batch=2048": "large batches in pieces, where what towers keep for their gradients does not fit",
    "loss=in_batch_softmax": "a sample instead of a softmax over all items, with logQ",
    "negatives=mixed": "candidates beyond the batch, corrected jointly",
    "trainer=ddp": "several devices share every batch",
    "trainer=sharded": "and the rows of large id tables with their optimiser state",
    "trainer.precision=bf16-mixed": "matrix products in 16 bits, on GPUs that have them",
    "optimizer=rowwise_adagrad": "one number of state per row of a table, where Adam keeps two per weight",
    "model=two_tower_history": "a user is his last items",
    "model.use_user_id=false": "and has no weights of his own",
    "eval.candidates=observed": "ranks what users were shown: no lists of what to leave out",
}


def settings(case: Case, machine: Machine) -> list[str] | None:
    """What to turn on, None where nothing helps."""
    plan = plan_for(case, machine)
    if plan is None:
        return None
    short = 2 * (order_bytes(case) + list_bytes(case)) > machine.host
    applies = {
        "data.streaming=true": short,
        "loader.buffer_rows=4000000": short,
        "loss=in_batch_softmax": case.items > 200e3,
        "negatives=mixed": case.items > 200e3,
        "trainer=ddp": case.rows >= 1e9 and plan.shards == 1,
        "trainer=sharded": plan.shards > 1,
        "trainer.precision=bf16-mixed": case.rows >= 100e6,
        "optimizer=rowwise_adagrad": plan.rowwise,
        "model=two_tower_history": case.history > 0,
        "model.use_user_id=false": not case.user_ids,
        "eval.candidates=observed": plan.observed,
    }
    return [setting for setting in SETTINGS if applies.get(setting, False)]


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
