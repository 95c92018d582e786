"""How batches are made, as a config says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class LoaderConfig:
    """Batches.

    Args:
        batch_size: Training rows (or users, see `unit`) per step and device; null: see `choices.batch_size`.
        eval_users: Users ranked at once in validation.
        eval_rows: Rows predicted at once in validation.
        micro_batch: Rows that pass a tower at once, which bounds the memory (`nn.encoder.TableEncoder`); null: all.
        history_length: Recent positives of the user handed to the model (0: none; models that read a history set it).
        unit: What `batch_size` counts: `rows`, or `users` with all their rows; null: as the loss likes it.
        target_share: Under `unit=users`, the share of a user's rows that an epoch asks for (`UserBatchLoader`).
        resident: Keep the rows on the training device; `null` decides by the free memory.
        buffer_rows: Leave the rows on disk, pool so many in memory (`BlockLoader`); `null`: where they do not fit.
    """

    batch_size: int | None = None
    eval_users: int = 1024
    eval_rows: int = 65536
    micro_batch: int | None = None
    history_length: int = 0
    unit: str | None = None
    target_share: float = 0.5
    resident: bool | None = None
    buffer_rows: int | None = None
