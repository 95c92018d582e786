"""Every combination."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from hydra_plugins.towerrec_sweepers._resuming import Resuming, combinations
from towerrec import sweep_jobs
from towerrec.sweep_space import Axis

log = logging.getLogger(__name__)


class GridSweeper(Resuming):
    """Every combination of the values.

    Args:
        params: Overrides with their values, such as `model.embedding_dim: 16,32`; `sweep=` configs fill them in.
    """

    def __init__(self, *, params: Mapping[str, Any] | None = None) -> None:
        super().__init__(params)

    def _sweep(self, axes: dict[str, Axis]) -> None:
        jobs = self._plan(combinations(axes))
        log.info(f"sweep of {len(jobs)} jobs in {self.directory}: {sweep_jobs.summary(jobs)}")
        self._run([job for job in jobs if not job.is_over])
