"""Training and validation of the two towers under Lightning.

Shape letters: I items, V vector width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from towerrec.nn.batch_scorer import BatchScorer
from towerrec.nn.ensemble import Model, build_model, members_of
from towerrec.nn.gradients import gradient_norm
from towerrec.nn.losses import Loss
from towerrec.nn.negatives import Negatives
from towerrec.nn.peers import Peers
from towerrec.optim import OptimizerSettings, Schedule
from towerrec.resident import Resident
from towerrec.schema import FIRST, Batch, FeatureSchema
from towerrec.validation import Validation

CHECKPOINT_KEY = "towerrec"
CHECKPOINT_VERSION = 1


class RetrievalModule(L.LightningModule):
    """Two towers, a loss, and validation by real retrieval over the whole catalogue.

    Build it, `attach` the log, fit. Validation takes two kinds of batches: user indices (int64 [B]) are ranked,
    `Batch`es are predicted.

    Args:
        schema: `FeatureSchema.to_dict()`.
        model: `name`, `members` and the keywords of `TwoTower`.
        loss: What is minimised.
        negatives: Candidates beyond the rows.
        optimizer: Settings of the optimiser.
        scheduler: Settings of the learning rate's course.
        ks: Cut-offs of the ranking metrics.
        seed: Of dropout and sampling: every epoch starts from (seed, epoch), so a resumed run equals an uninterrupted
            one.
        settings: Plain builtins that are logged as hyper-parameters and kept in the checkpoint.
        micro_batch: Rows that pass a tower at once, see `TableEncoder`; None: the whole batch.

    `known_items` is the cardinality of the item ids whose biases were learnt before, where a run goes on from another
    one; None where nothing was.
    """

    def __init__(
        self,
        *,
        schema: dict[str, Any],
        model: dict[str, Any],
        loss: Loss,
        negatives: Negatives,
        optimizer: OptimizerSettings,
        scheduler: Schedule,
        ks: Sequence[int] = (10, 20, 50, 100),
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        micro_batch: int | None = None,
    ) -> None:
        super().__init__()
        plain = {"schema": schema, "model": model, "settings": dict(settings or {})}
        self.save_hyperparameters(plain, logger=False)
        self.model = build_model(FeatureSchema.from_dict(schema), model)
        self.loss = loss
        if loss.predictor is None:
            for member in members_of(self.model):
                member.freeze_levels()
        self.negatives = negatives
        self.optimizer_settings, self.scheduler_settings = optimizer, scheduler
        self.seed, self.micro_batch = seed, micro_batch
        self.validation = Validation(ks, num_items=self.model.schema.num_items)
        self.known_items: int | None = None
        self._resident: Resident | None = None
        self._scorer: BatchScorer | None = None
        self._teachers: list[BatchScorer] = []

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes dozens of times a step which hook runs: not worth a search for parameters each time.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def attach(self, resident: Resident) -> None:
        """Hand over the log: before `trainer.fit`, `trainer.validate` and `trainer.test`.

        Raises:
            ValueError: The loss cannot learn from these labels or has no use for these negatives, or a table does not
                fit the schema.
        """
        self.negatives.check([objective.compares for objective in self.loss.objectives], self.loss.name)
        self.loss.check(resident.labels, negatives_per_row=self.negatives.per_row)
        self._resident = resident
        self._scorer = self._scorer_of(self.model, resident)
        members = members_of(self.model)
        if len(members) > 1 and self.negatives.cache is not None:
            raise ValueError("negatives=cross_batch keeps the vectors of one model: set model.members=1")
        self._teachers = [self._scorer_of(m, resident) for m in members] if len(members) > 1 else [self._scorer]

    def _scorer_of(self, model: Model, resident: Resident) -> BatchScorer:
        return BatchScorer(
            model,
            users=resident.users,
            items=resident.items,
            item_counts=resident.item_counts,
            known=resident.known,
            negatives=self.negatives,
            views=resident.views,
            skips=resident.skips,
            positive=resident.positive,
            profiles=resident.profiles,
            micro_batch=self.micro_batch,
        )

    @property
    def resident(self) -> Resident:
        assert self._resident is not None, "attach the log before training or validation"
        return self._resident

    @property
    def scorer(self) -> BatchScorer:
        assert self._scorer is not None, "attach the log before training or validation"
        return self._scorer

    # -- training ------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        device = self.trainer.strategy.root_device
        for scorer in {id(s): s for s in (self.scorer, *self._teachers)}.values():
            scorer.to(device)
            scorer.share_with(Peers(self.trainer.global_rank, self.trainer.world_size))
        resident = self.resident
        resident.tasks = {name: task.to(device) for name, task in resident.tasks.items()}
        resident.item_context = {name: column.to(device) for name, column in resident.item_context.items()}

    def on_fit_start(self) -> None:
        settings = self.hparams["settings"]
        if self.logger is not None and settings:
            self.logger.log_hyperparams(settings)

    def on_train_start(self) -> None:
        # Not earlier: before this hook a resumed run does not know yet that it has made steps.
        if self.global_step > 0:
            return
        start = self.loss.initial_bias(self.resident.labels, negatives_per_row=self.negatives.per_row)
        item_bias_I = self.loss.initial_item_bias(self.resident.item_counts)
        for scorer, member in zip(self._teachers, members_of(self.model), strict=True):
            if member.global_bias is not None and self.known_items is None:
                torch.nn.init.constant_(member.global_bias, start)
            if item_bias_I is not None:
                scorer.encoder.start_item_biases(item_bias_I, first=self.known_items or FIRST)

    def on_train_epoch_start(self) -> None:
        # Of every process its own: they draw and drop for different rows.
        torch.manual_seed(self.seed * 1_000_003 + self.current_epoch + self.trainer.global_rank * 0x9E3779B1)
        self._loss_sum = torch.zeros((), device=self.device)
        self.negatives.start_epoch()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = [self.loss(scorer.scored(batch, self.loss), scorer.known) for scorer in self._teachers]
        # The sum: each member learns as if it were alone.
        total: Tensor = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        mean = total.detach() / len(losses)
        self._loss_sum += mean
        if self._logs_this_step:
            self.log("train/loss_step", mean, prog_bar=True, batch_size=len(batch), sync_dist=True)
        if self.trainer.is_last_batch:
            # Once an epoch, and here: at the end of the epoch callbacks have their turn before the module.
            self.log(
                "train/loss",
                self._loss_sum / (batch_idx + 1),
                on_step=False,
                on_epoch=True,
                batch_size=1,
                sync_dist=True,
            )
            self._log_learned()
        return total

    @property
    def _logs_this_step(self) -> bool:
        """Logging every step costs more than the step of a small model."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return (self.global_step + 1) % every == 0

    def _log_learned(self) -> None:
        """Numbers that training has found for itself."""
        learned = dict(self.loss.learned())
        log_scale = members_of(self.model)[0].log_scale
        if log_scale is not None:
            learned["scale"] = log_scale.detach().exp()
        for name, value in learned.items():
            self.log(f"train/{name}", value, on_step=False, on_epoch=True, batch_size=1)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        # Lightning would take a dataclass apart and copy it field by field, even where all of it is there already.
        if isinstance(batch, Batch):
            return batch if batch.user_idx.device == device else batch.to(device, non_blocking=True)
        return batch.to(device, non_blocking=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer_settings.build(self.named_parameters())
        total = self.trainer.estimated_stepping_batches
        scheduler = self.scheduler_settings.build(optimizer, float(total))
        interval = "epoch" if self.scheduler_settings.is_constant else "step"
        return {
            "optimizer": optimizer,
            # The name under which Lightning's LearningRateMonitor logs the rates of the optimiser's groups.
            "lr_scheduler": {"scheduler": scheduler, "interval": interval, "name": "optim/lr"},
        }

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Where nothing is logged a pass over all gradients is for nobody.
        if self._logs_this_step and self.trainer.loggers:
            norm = gradient_norm(self, Peers(self.trainer.global_rank, self.trainer.world_size))
            self.log("optim/grad_norm", norm, batch_size=1)

    # -- validation and test -------------------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        self.validation.start(self.scorer, self.resident)

    def on_test_epoch_start(self) -> None:
        self.validation.start(self.scorer, self.resident)

    def validation_step(self, batch: Tensor | Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Tensor | Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        self._finish("test")

    def _evaluate(self, stage: str, batch: Tensor | Batch) -> None:
        # Also an empty share: other processes wait for this one's part of the figures, and of a sharded table.
        if isinstance(batch, Batch):
            self.validation.predict(batch, self.loss)
        elif stage in self.resident.tasks:
            self.validation.rank(self.resident.tasks[stage], batch)

    @property
    def ranked_vectors(self) -> tuple[Tensor, Tensor] | None:
        """Of a validation that is not over: see `Validation.ranked_vectors`."""
        return self.validation.ranked_vectors

    def _finish(self, stage: str) -> None:
        self.log_dict({f"{stage}/{name}": value for name, value in self.validation.finish().items()})

    # -- within an epoch -----------------------------------------------------------------------------------------

    def running_state(self) -> dict[str, Any]:
        """What the batches of this epoch have left beside weights and optimiser, in tensors and builtins."""
        return {"loss_sum": self._loss_sum, "negatives": self.negatives.running_state()}

    def load_running_state(self, state: Mapping[str, Any]) -> None:
        """Go on within an epoch where `running_state` was asked for; `on_train_epoch_start` comes before."""
        self._loss_sum = state["loss_sum"].to(self.device)
        self.negatives.load_running_state(state["negatives"])

    # -- checkpoint ----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        schema, prediction = self.model.schema, self.loss.prediction()
        checkpoint[CHECKPOINT_KEY] = {
            "version": CHECKPOINT_VERSION,
            "schema": schema.to_dict(),
            "fingerprint": schema.fingerprint,
            "model": self.hparams["model"],
            "loss": self.loss.name,
            "prediction": None if prediction is None else asdict(prediction),
            "settings": self.hparams["settings"],
        }
