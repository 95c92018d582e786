"""Validation by real retrieval: whole lists out of the whole catalogue, and the errors of predicted rows.

Shape letters: B users or rows of a batch, I items, K length of the ranked lists, H history length, V vector width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchmetrics import MeanMetric

from towerrec.metrics.functional import hits_of
from towerrec.metrics.topk import RankingMetrics
from towerrec.metrics.watch_time import ErrorMetrics
from towerrec.nn.batch_scorer import BatchScorer
from towerrec.nn.losses import Loss
from towerrec.resident import RankingTask, Resident
from towerrec.retrieval.search import top_n
from towerrec.schema import Batch


class Validation(nn.Module):
    """The figures of one pass over held-out users and rows: `start`, then `rank` and `predict`, then `finish`.

    Args:
        ks: Cut-offs of the ranking metrics.
        num_items: Size of the catalogue.
    """

    def __init__(self, ks: Sequence[int], *, num_items: int) -> None:
        super().__init__()
        self.ks = tuple(ks)
        self.ranking = RankingMetrics(self.ks, num_items)
        self.errors, self.raw_errors = ErrorMetrics(), ErrorMetrics()
        self.row_loss = MeanMetric()
        self._log: tuple[BatchScorer, Resident] | None = None
        self._item_IV: Tensor | None = None
        self._profile_IV: Tensor | None = None
        self._ranked_BV: Tensor | None = None

    def start(self, scorer: BatchScorer, resident: Resident) -> None:
        """Forget the last pass and encode the catalogue."""
        for metric in (self.ranking, self.errors, self.raw_errors, self.row_loss):
            metric.reset()
        self._log = scorer, resident
        self._item_IV = scorer.item_vectors(resident.item_context)
        reads = resident.profiles is not None
        self._profile_IV = scorer.item_vectors() if reads and resident.item_context else self._item_IV

    def rank(self, task: RankingTask, user_idx_B: Tensor) -> None:
        """Rank the catalogue for some users."""
        assert self._log is not None and self._item_IV is not None
        scorer, resident = self._log
        latest = resident.latest_history
        history_BH = None
        if scorer.encoder.model.reads_history and latest is not None:
            history_BH = latest(user_idx_B.cpu()).to(user_idx_B.device)
        user_BV = scorer.user_vectors(user_idx_B, history_BH, self._profile_IV)
        lists = top_n(
            user_BV.float(),
            self._item_IV.float(),
            n=min(max(self.ks), self._item_IV.shape[0]),
            user_idx_B=user_idx_B,
            exclude=task.exclude,
            allowed=task.allowed,
        )
        self._ranked_BV = user_BV if self._ranked_BV is None else self._ranked_BV
        hits_BK = hits_of(lists.items, task.relevant, user_idx_B)
        self.ranking.update(lists.items, hits_BK, task.relevant.counts[user_idx_B])

    def predict(self, batch: Batch, loss: Loss) -> None:
        """Predict some rows, where the loss predicts anything."""
        assert self._log is not None
        scorer, resident = self._log
        predictor = loss.predictor
        if predictor is None:
            return
        scored = loss.calibrated(scorer.scored_rows(batch, self._profile_IV))
        self.row_loss.update(predictor(scored, scorer.known), weight=batch.weight.sum())
        predicted_B = predictor.predict(scored.score_B.float())
        self.errors.update(predicted_B, batch.label)
        inverse = resident.inverse
        if inverse is not None:
            self.raw_errors.update(inverse(predicted_B), inverse(batch.label))

    @property
    def ranked_vectors(self) -> tuple[Tensor, Tensor] | None:
        """Vectors of the users ranked first [B, V] and of all items [I, V], for callbacks at the end of a validation.

        None where no users were ranked. Afterwards they are gone.
        """
        if self._ranked_BV is None or self._item_IV is None:
            return None
        return self._ranked_BV, self._item_IV

    def finish(self) -> dict[str, Tensor]:
        """The figures of the pass, by name; what was not measured is left out."""
        self._log = self._item_IV = self._profile_IV = self._ranked_BV = None
        figures: dict[str, Tensor] = {}
        for prefix, metric in (("", self.ranking), ("", self.errors), ("raw_", self.raw_errors)):
            if metric.update_called:
                figures |= {f"{prefix}{name}": value.float() for name, value in metric.compute().items()}
        if self.row_loss.update_called:
            figures["loss"] = self.row_loss.compute()
        return figures
