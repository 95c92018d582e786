"""Training with id tables that no device holds whole: `trainer=sharded`.

Lightning's DDP does the rest of the model; it is told to leave the sharded tables alone (`nn.sharded`). Checkpoints
hold whole tables, written by the first process: they load like any other, with any number of processes or none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from towerrec.module import RetrievalModule
from towerrec.nn.ensemble import members_of
from towerrec.nn.sharded import RowShard
from towerrec.nn.towers import Tower

log = logging.getLogger(__name__)


class ShardedTables(DDPStrategy):
    """DDP whose processes share out the rows of the id tables: vectors and biases of users and of items.

    Args:
        min_rows: Tables with at least so many rows are sharded; smaller ones every process keeps whole.

    Raises:
        ValueError: When training begins, with one process, without a table of that size, or with settings that need
            whole tables; the message names the setting and what to choose instead.
    """

    strategy_name = "sharded"

    def __init__(self, *, min_rows: int = 1_000_000) -> None:
        super().__init__()
        if min_rows < 1:
            raise ValueError(f"trainer.strategy.min_rows must be at least 1, got {min_rows}")
        self.min_rows = min_rows
        self._shards: dict[str, RowShard] = {}
        self._host_group: dist.ProcessGroup | None = None

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        """A checkpoint holds whole tables: blocks are cut from it once there are blocks."""
        return True

    def model_to_device(self) -> None:
        """Cut the tables on the host, so that no device ever holds one whole."""
        module = self.lightning_module
        assert isinstance(module, RetrievalModule)
        towers = self._large(module)
        if not self._shards:
            check_shardable(module, towers, self, min_rows=self.min_rows)
            self._cut(module, towers)
        super().model_to_device()

    def configure_ddp(self) -> None:
        """Wrap what is not sharded; where every weight is, there is nothing to wrap."""
        assert self.lightning_module is not None
        whole = (p for n, p in self.lightning_module.named_parameters() if n not in self._shards)
        if any(p.requires_grad for p in whole):
            super().configure_ddp()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Weights with whole tables; on other processes than the first the tables are empty."""
        state = super().lightning_module_state_dict()
        return state | {name: self._whole(shard, state[name]) for name, shard in self._shards.items()}

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """State with whole tables, as `lightning_module_state_dict`."""
        packed: dict[str, Any] = super().optimizer_state(optimizer)
        states = dict(packed["state"])
        for place, shard in self._shards_by_place(optimizer).items():
            if place in states:  # before the first step there is none
                own = states[place].items()
                states[place] = {k: self._whole(shard, v) if _is_block(v, shard) else v for k, v in own}
        return {**packed, "state": states}

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        state = dict(checkpoint["state_dict"])
        state |= {name: shard.cut(state[name]) for name, shard in self._shards.items() if name in state}
        super().load_model_state_dict({**checkpoint, "state_dict": state}, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        packed = [self._cut_state(o, s) for o, s in zip(self.optimizers, checkpoint["optimizer_states"], strict=True)]
        super().load_optimizer_state_dict({**checkpoint, "optimizer_states": packed})

    def _large(self, module: RetrievalModule) -> dict[str, Tower]:
        found = {}
        for name, tower in _towers(module):
            if tower.id_spec is not None and tower.id_spec.cardinality >= self.min_rows:
                found[name] = tower
        return found

    def _cut(self, module: RetrievalModule, towers: Mapping[str, Tower]) -> None:
        # A group of its own: look-ups never get between the collectives of DDP.
        mesh = DeviceMesh.from_group(dist.new_group(), self.root_device.type)
        self._host_group = dist.new_group(backend="gloo")
        for name, tower in towers.items():
            assert tower.id_spec is not None
            shard = RowShard(mesh, tower.id_spec.cardinality)
            tower.keep(shard)
            self._shards |= {f"{name}.{table}": shard for table, _ in _tables(tower)}
        # Neither to be sent from the first process nor averaged.
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, list(self._shards))
        rows = ", ".join(f"{name} {shard.end - shard.first:,}" for name, shard in self._shards.items())
        log.info(f"sharded over {self.world_size} processes, rows in this one: {rows}")

    def _whole(self, shard: RowShard, block: Tensor) -> Tensor:
        assert self._host_group is not None
        return shard.gathered(block, self._host_group)

    def _shards_by_place(self, optimizer: Optimizer) -> dict[int, RowShard]:
        """The sharded parameters by the number that they have in an optimiser's state."""
        assert self.lightning_module is not None
        names = {id(parameter): name for name, parameter in self.lightning_module.named_parameters()}
        every = (parameter for group in optimizer.param_groups for parameter in group["params"])
        placed = {place: names.get(id(parameter), "") for place, parameter in enumerate(every)}
        return {place: self._shards[name] for place, name in placed.items() if name in self._shards}

    def _cut_state(self, optimizer: Optimizer, packed: Mapping[str, Any]) -> dict[str, Any]:
        shards = self._shards_by_place(optimizer)
        states = {}
        for place, state in packed["state"].items():
            shard = shards.get(place)
            states[place] = state if shard is None else {k: _cut_if_whole(v, shard) for k, v in state.items()}
        return {**packed, "state": states}


def check_shardable(
    module: RetrievalModule, towers: Mapping[str, Tower], strategy: ShardedTables, *, min_rows: int
) -> None:
    """Refuse what needs whole tables, or what would leave processes waiting for each other.

    Raises:
        ValueError: Naming the setting, the rule and the remedy.
    """
    if strategy.world_size < 2:
        raise ValueError("trainer=sharded shares tables out over processes: set trainer.devices=2 or more")
    if not towers:
        largest = max((t.id_spec.cardinality for _, t in _towers(module) if t.id_spec is not None), default=0)
        raise ValueError(
            f"trainer=sharded: no id table has trainer.strategy.min_rows={min_rows} rows, the largest has {largest}: "
            "choose trainer=ddp, where every process keeps whole tables, or a smaller number"
        )
    for wrong, text in _obstacles(module, towers, module.trainer):
        if wrong:
            raise ValueError(f"trainer=sharded: {text}")


def _obstacles(module: RetrievalModule, towers: Mapping[str, Tower], trainer: L.Trainer) -> Iterator[tuple[bool, str]]:
    of_items = any(name.endswith("item_tower") for name in towers)
    loss, model = module.loss, members_of(module.model)[0]
    catalogue = any(part.compares == "catalogue" for part in loss.objectives)
    by_norm = trainer.gradient_clip_val is not None and trainer.gradient_clip_algorithm != "value"
    yield (
        of_items and catalogue,
        f"loss={loss.name} reads the vectors of all items in every step, so their table is better whole: raise "
        "trainer.strategy.min_rows above the number of items, or choose loss=in_batch_softmax with negatives",
    )
    yield (
        of_items and model.profile is not None,
        f"model.profile={model.profile_kind} reads the vectors of all items in every step: raise "
        "trainer.strategy.min_rows above the number of items, or set model.profile=none",
    )
    yield (
        of_items and model.reads_history,
        "the history reads the vectors of items from a whole table: raise trainer.strategy.min_rows above the number "
        "of items, or set model.history_dim=0",
    )
    yield (
        module.micro_batch is not None,
        "loader.micro_batch cuts batches of different processes into different numbers of pieces: set it to null and "
        "take a smaller loader.batch_size",
    )
    yield (
        by_norm,
        "the norm of the gradient is spread over processes: set trainer.gradient_clip_algorithm=value, or "
        "trainer.gradient_clip_val=null",
    )
    yield (
        trainer.precision == "16-mixed",
        "16-mixed skips steps whose gradient overflows, and processes would disagree: choose "
        "trainer.precision=bf16-mixed",
    )


def _towers(module: RetrievalModule) -> Iterator[tuple[str, Tower]]:
    for name, tower in module.named_modules():
        if isinstance(tower, Tower):
            yield name, tower


def _tables(tower: Tower) -> list[tuple[str, nn.Parameter]]:
    named = (("id_vectors", tower.id_vectors), ("id_biases", tower.id_biases))
    return [(name, table) for name, table in named if table is not None]


def _is_block(value: Any, shard: RowShard) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == shard.end - shard.first


def _cut_if_whole(value: Any, shard: RowShard) -> Any:
    whole = isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == shard.num_rows
    return shard.cut(value) if whole else value
