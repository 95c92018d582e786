"""What the benchmarks ask of train.py are valid commands."""

from __future__ import annotations

import importlib
import sys

import pytest
from commands import REPOSITORY
from test_configs import typed

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
real_rows, ablations, protocols = (importlib.import_module(n) for n in ("real_rows", "ablations", "protocols"))
sys.path.remove(str(REPOSITORY / "benchmarks"))


@pytest.mark.parametrize("task", real_rows.TASKS)
def test_every_task_on_real_rows_composes(task: str):
    for words in real_rows.TASKS[task].command:
        assert typed("train", *words).data["_target_"]


@pytest.mark.parametrize("protocol", protocols.PROTOCOLS)
def test_every_published_protocol_has_its_experiment(protocol: str):
    assert typed("train", f"experiment={protocols.PROTOCOLS[protocol].experiment}").data["_target_"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ablations.TASKS)
def test_every_ablation_changes_its_experiment(task: str):
    ablation = ablations.TASKS[task]
    shipped = typed("train", *ablation.base)
    for name, change in ablation.changes.items():
        changed = typed("train", *ablation.base, *change)
        assert changed != shipped, name
    for part in ablation.parts:
        assert typed("train", *ablation.base, *part)
