"""The words and tables of SIZING.md around the numbers of `sizing.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import sizing
from sizing import CASES, GB, SETTINGS, Case, Machine

HEAD = """# What fits where

Printed by `python benchmarks/sizing.py`; do not edit. Bytes follow from what is stored (tests hold the formulas against
what is built), seconds are those of {machine}, {threads} threads, scaled up. No GPU was measured. A model
here has ids and {features} categorical features on each side, vectors of width {width}, one hidden layer, biases, Adam;
{share:.0%} of the rows are positive. Weights, gradients and Adam's means are 16 bytes a number.
"""

ENDS = """## Where it ends

- Feature tables (an int64 per id and categorical feature) and the users' lists (an int64 per row for what validation
  leaves out, two per positive) lie whole on every device. For a billion users they are what does not fit, however many
  devices share the id tables: fewer features of users and shorter logs help, sharding them is not there yet.
- `trainer=sharded` splits id tables and their optimiser state by rows over all processes, nothing else. Every process
  builds the tables once on its host before it keeps its block, and a checkpoint is put together on the host of the
  first process, which needs {checkpoint} for 100 M users and 10 M items. Checkpoints are ordinary ones: `recommend.py`
  and `evaluate.py` read them without processes, with `device=cpu` where tables fit on no device.
- With sharded tables every process is sent the rows that all others look up, so what it receives grows with their
  number; an exchange of only its own rows (TorchRec, which needs fbgemm) would not.
- A softmax over the whole catalogue is exact, its memory is flat in the number of items, its time is not: above some
  100,000 items sample (`loss=in_batch_softmax negatives=mixed`).
- Exact lists cost users x items scores. Beyond some 10 M users x 1 M items they take many machines or an approximate
  index, and an export to one is not there yet.
- A billion users fit as people without weights and features, read by their last items, with few positives each: the
  last case (10 G rows, 5 % positive, ids of items alone). That also serves users who come later. On a processor each
  step marks which users a batch holds, 9 bytes for every user there is; on a GPU it does not.
"""


def text(constants: dict[str, Any], machine: Machine) -> str:
    """SIZING.md."""
    case = CASES[0]
    about = constants["conditions"]
    parts = [
        HEAD.format(
            machine=about["processor"],
            threads=about["threads"],
            features=case.features,
            width=case.width,
            share=case.positives,
        ),
        "## Bytes\n",
        _table(
            ["", "rows", "users", "items", "store on disk", "order and lists in memory", "weights", "checkpoint"],
            [
                [
                    c.name,
                    _count(c.rows),
                    _count(c.users),
                    _count(c.items),
                    _size(sizing.store_bytes(c)),
                    _size(sizing.order_bytes(c) + sizing.list_bytes(c)),
                    _count(sizing.parameters(c)),
                    _size(sizing.checkpoint_bytes(c)),
                ]
                for c in CASES
            ],
        ),
        f"## Memory of one device while training ({_size(machine.device)} each)\n",
        _table(
            [
                "",
                "feature tables",
                "lists, catalogue / observed",
                "item vectors",
                *(f"weights and Adam over {n}" for n in (1, 8, 64)),
                "fits on",
            ],
            [_device(c, machine) for c in CASES],
        ),
        "## Seconds on the processor that was measured\n",
        _table(
            ["", "prepare", "an epoch", "of it Adam over all weights", "exact lists for all users"],
            [_times(c, constants) for c in CASES],
        ),
        f"Measured: {_constants(constants)}.\n",
        f"## What to turn on (host of {_size(machine.host)}, devices of {_size(machine.device)})\n",
        _table(["", "settings"], [[c.name, _settings(c, machine)] for c in CASES]),
        _table(["setting", "what it does"], [[f"`{name}`", what] for name, what in SETTINGS.items()]),
        ENDS.format(checkpoint=_size(sizing.checkpoint_bytes(CASES[3]))),
    ]
    return "\n".join(parts)


def _device(case: Case, machine: Machine) -> list[str]:
    plan = sizing.plan_for(case, machine)
    weights = [_size(sizing.training_bytes(case, shards=n)) for n in (1, 8, 64)]
    fits = "none" if plan is None else "one" if plan.shards == 1 else f"{plan.shards}, as below"
    lists = f"{_size(sizing.list_bytes(case))} / {_size(sizing.list_bytes(case, observed=True))}"
    tables, items = _size(sizing.table_bytes(case)), _size(sizing.catalogue_bytes(case))
    return [case.name, tables, lists, items, *weights, fits]


def _times(case: Case, constants: dict[str, Any]) -> list[str]:
    epoch = sizing.epoch_seconds(case, constants)
    adam = epoch - case.rows / constants["train_rows_per_s"]
    prepare, lists = sizing.prepare_seconds(case, constants), sizing.lists_seconds(case, constants)
    return [case.name, _time(prepare), _time(epoch), f"{adam / epoch:.0%}", _time(lists)]


def _settings(case: Case, machine: Machine) -> str:
    plan, chosen = sizing.plan_for(case, machine), sizing.settings(case, machine)
    if plan is None or chosen is None:
        return "does not fit yet: see the end"
    devices = [f"trainer.devices={plan.shards}"] if plan.shards > 1 else []
    return " ".join(f"`{setting}`" for setting in [*chosen, *devices]) or "the defaults"


def _constants(constants: dict[str, Any]) -> str:
    return (
        f"{constants['store_bytes_per_row']} bytes per row of a store with two row-level features, "
        f"{constants['prepare_rows_per_s']:,.0f} rows/s prepared from Parquet, "
        f"{constants['train_rows_per_s']:,.0f} rows/s trained with small tables (BCE, batch 8,192), "
        f"{1e9 * constants['adam_s_per_weight']:.1f} s for a step of Adam over 1e9 weights, "
        f"{constants['seconds_per_1e9_scores']} s for 1e9 scores ranked"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines) + "\n"


def _size(num_bytes: float) -> str:
    return f"{num_bytes / GB:,.0f} GB" if num_bytes >= 10 * GB else f"{num_bytes / GB:.2g} GB"


def _count(number: float) -> str:
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.3g}{name}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    for unit, name in ((86400 * 365, "years"), (86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{math.ceil(seconds / unit):,} {name}"
    return f"{seconds:.1f} s"
