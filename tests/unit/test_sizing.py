"""The formulas of the sizing guide against what is built: a store, a model, its optimiser, lists, checkpoints."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from towerrec import config
from towerrec.data.store import InteractionStore
from towerrec.nn.negatives import KnownPairs
from towerrec.nn.two_tower import TwoTower
from towerrec.optim import SGD, Adagrad, Adam, OptimizerSettings
from towerrec.ragged import UserItems
from towerrec.retrieval.index import ItemIndex
from towerrec.schema import FIRST, FeatureSchema, FeatureSpec, FeatureTable

ROOT = Path(__file__).parents[2]


def script(name: str) -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


sizing, sizing_text = script("sizing"), script("sizing_text")
SMALL = sizing.Case("small", rows=3000, users=70, items=40, width=16, features=2, cardinality=9, positives=1.0)


def model_of(case) -> TwoTower:
    specs = [
        FeatureSpec(
            name,
            side,
            "categorical",
            cardinality=FIRST + (case.cardinality if name != f"{side}_id" else getattr(case, f"{side}s")),
        )
        for side in ("user", "item")
        for name in (f"{side}_id", *(f"{side}_{i}" for i in range(case.features)))
    ]
    schema = FeatureSchema(tuple(specs), case.users, case.items)
    return TwoTower(
        schema,
        embedding_dim=case.width,
        feature_dim=case.feature_dim,
        user_hidden=[case.hidden],
        item_hidden=[case.hidden],
        use_user_id=case.user_ids,
        history_dim=case.history,
    )


def table_of(case, side: str) -> FeatureTable:
    number = getattr(case, f"{side}s")
    columns = {f"{side}_{i}": torch.zeros(number, dtype=torch.int64) for i in range(case.features)}
    return FeatureTable({f"{side}_id": torch.arange(number) + FIRST, **columns}, number)


@pytest.mark.parametrize("contexts", [0, 3])
def test_bytes_of_a_store(tmp_path: Path, contexts: int):
    case = replace(SMALL, contexts=contexts)
    rows, draw = case.rows, np.random.default_rng(0)
    InteractionStore.write(
        tmp_path / "store",
        split=np.ones(rows, dtype=np.uint8),
        columns={
            "user_idx": draw.integers(case.users, size=rows),
            "item_idx": draw.integers(case.items, size=rows),
            "label": np.ones(rows),
            "timestamp_ms": np.arange(rows),
        },
        context={f"c{i}": ("user", np.zeros(rows, dtype=np.uint8)) for i in range(contexts)},
        num_users=case.users,
        num_items=case.items,
    )
    size = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    assert sizing.store_bytes(case) == pytest.approx(size, abs=2000)  # heads of the files


HISTORY = replace(SMALL, features=0, user_ids=False, history=6)


@pytest.mark.parametrize(
    "case", [SMALL, replace(SMALL, features=0), replace(SMALL, width=8, hidden=5), HISTORY, replace(SMALL, history=4)]
)
def test_numbers_of_a_model(case):
    assert sizing.parameters(case) == sum(p.numel() for p in model_of(case).parameters())


@pytest.mark.parametrize(("optimizer", "state"), [(Adam(), 2), (Adagrad(), 1), (SGD(), 0)])
def test_bytes_of_weights_gradients_and_state(optimizer: OptimizerSettings, state: int):
    model = model_of(SMALL)
    made = optimizer.build(model.named_parameters())
    users, items = table_of(SMALL, "user"), table_of(SMALL, "item")
    model(users.gather(torch.arange(8)), items.gather(torch.arange(8))).sum().backward()
    made.step()
    held = list(model.parameters()) + [p.grad for p in model.parameters() if p.grad is not None]
    held += [v for s in made.state.values() for v in s.values() if isinstance(v, torch.Tensor) and v.ndim > 0]
    scalars = 8  # the bias of all has a state of one number
    assert sum(v.numel() * v.element_size() for v in held) == pytest.approx(
        sizing.training_bytes(SMALL, state=state), abs=scalars
    )


def test_bytes_of_a_checkpoint(tmp_path: Path):
    case = replace(SMALL, users=9000, items=4000)
    model = model_of(case)
    made = Adam().build(model.named_parameters())
    model(
        table_of(case, "user").gather(torch.arange(8)), table_of(case, "item").gather(torch.arange(8))
    ).sum().backward()
    made.step()
    torch.save({"state_dict": model.state_dict(), "optimizer_states": [made.state_dict()]}, tmp_path / "a.ckpt")
    assert sizing.checkpoint_bytes(case) == pytest.approx((tmp_path / "a.ckpt").stat().st_size, rel=0.02)


def test_a_share_of_the_id_tables_is_what_a_process_of_several_holds():
    rest = 16 * sizing.other_parameters(SMALL)
    assert sizing.training_bytes(SMALL, shards=4) - rest == (sizing.training_bytes(SMALL) - rest) / 4


def test_bytes_of_tables_lists_and_item_vectors():
    model = model_of(SMALL)
    packed = [model.pack("user", table_of(SMALL, "user")), model.pack("item", table_of(SMALL, "item"))]
    columns = [t for p in packed for t in (p.id_N, *p.index.values())]
    assert sizing.table_bytes(SMALL) == sum(t.numel() * t.element_size() for t in columns)
    distinct = torch.arange(SMALL.users * SMALL.items)[:2000]
    lists = UserItems.from_pairs(
        distinct // SMALL.items, distinct % SMALL.items, num_users=SMALL.users, num_items=SMALL.items
    )
    left_out = lists.offsets.numel() * 8 + lists.items.numel() * 8
    positives = left_out + KnownPairs(lists).key_P.numel() * 8  # every row is positive
    assert sizing.list_bytes(replace(SMALL, rows=2000)) == positives + left_out
    assert sizing.list_bytes(replace(SMALL, rows=2000), observed=True) == positives
    index = ItemIndex.of(model.eval().encode_items(table_of(SMALL, "item").columns))
    assert sizing.catalogue_bytes(SMALL) == index.vectors_CD.numel() * 4


def test_the_guide_is_what_the_script_prints_and_its_settings_exist():
    constants = json.loads(sizing.CONSTANTS.read_text(encoding="utf-8"))
    assert sizing.GUIDE.read_text(encoding="utf-8") == sizing_text.text(constants, sizing.Machine())
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for setting in sizing.SETTINGS:
            data = ["data=interactions", "data.interactions=a.csv"] if setting.startswith("data.") else []
            assert compose("train", [*data, setting]).loader.keys() == config.LoaderConfig().__dict__.keys()


def test_what_is_turned_on_follows_the_size_and_the_machine():
    machine = sizing.Machine(host=64e9, device=80e9)
    small, large = sizing.CASES[0], sizing.CASES[2]
    assert sizing.settings(small, machine) == []
    assert "data.streaming=true" in sizing.settings(replace(small, rows=6e9, positives=0.05), machine)
    assert "loss=in_batch_softmax" in sizing.settings(large, machine)
    wide = replace(small, items=150e6, users=10e6)
    assert "trainer=sharded" in sizing.settings(wide, machine)
    assert "trainer=sharded" not in sizing.settings(wide, sizing.Machine(host=64e9, device=20000e9))
    assert sizing.settings(sizing.CASES[-2], machine) is None
    assert "model.use_user_id=false" in sizing.settings(sizing.CASES[-1], machine)


def test_a_plan_is_the_simplest_that_fits():
    case = sizing.CASES[3]
    device = sizing.device_bytes(case, sizing.Plan(8)) / 0.8
    assert sizing.plan_for(case, sizing.Machine(device=device)) == sizing.Plan(8)
    assert sizing.plan_for(case, sizing.Machine(device=1e13)) == sizing.Plan()
    assert sizing.plan_for(case, sizing.Machine(device=1e9)) is None
