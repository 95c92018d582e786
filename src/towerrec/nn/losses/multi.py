"""Several objectives of one score.

Shape letters: B rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from towerrec.nn.losses.base import Compares, LabelFacts, Loss, Prediction, Scored
from towerrec.nn.negatives import KnownPairs


class Multi(Loss):
    """The weighted sum of several losses of the same score, for instance BCE on exposures and a softmax on positives.

    A batch holds the rows that any part reads; a part that reads positives takes those of the batch. So one dot
    product ranks for all parts.

    A softmax wants scores that differ by many units, a calibrated probability wants others: with `calibrate` the parts
    that predict labels (`bce`, `mse`, `huber`, `quantile`, `poisson`) read `scale * score + shift` with a scale above
    0 and a shift of their own, both learned. As the scale is positive, the order of the items stays that of the score.
    Parts that only order read the score itself, over their temperature where they have one.

    Args:
        parts: Under names of your choice `{weight, loss}`; null leaves one out.
        predict: The part whose predictions count as those of the model; None: the only one that predicts labels.
        calibrate: Whether parts that predict have a scale and a shift of their own.
        monitor: Validation figure to watch.
        mode: `max` or `min`.

    Raises:
        ValueError: Fewer than two parts, a part that is not `{weight, loss}`, a weight that is not above 0, or a
            `predict` that is no part or predicts no label.
    """

    name = "multi"
    compares: Compares = "parts"

    def __init__(
        self,
        *,
        parts: Mapping[str, Any],
        predict: str | None = None,
        calibrate: bool = True,
        monitor: str = "val/ndcg@20",
        mode: str = "max",
    ) -> None:
        super().__init__(monitor=monitor, mode=mode)
        given = {name: part for name, part in parts.items() if part is not None}
        if len(given) < 2:
            raise ValueError(f"loss=multi needs two parts or more, got {', '.join(given) or 'none'}")
        for name, part in given.items():
            _check_part(name, part)
        self.weights = [float(part["weight"]) for part in given.values()]
        self.losses = nn.ModuleDict({name: part["loss"] for name, part in given.items()})
        self.rows = "all" if any(part.rows == "all" for part in self.objectives) else "positives"
        self._predictor = self._choose(predict)
        calibrated = [name for name, loss in self.losses.items() if calibrate and loss.compares == "rows"]
        self.log_scale = nn.ParameterDict({name: torch.zeros(()) for name in calibrated})
        self.shift = nn.ParameterDict({name: torch.zeros(()) for name in calibrated})

    @property
    def objectives(self) -> tuple[Loss, ...]:
        return tuple(self.losses.values())  # type: ignore[arg-type]

    @property
    def predictor(self) -> Loss | None:
        return None if self._predictor is None else self.losses[self._predictor]  # type: ignore[return-value]

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        total = scored.user_GV.new_zeros((), dtype=torch.promote_types(scored.user_GV.dtype, torch.float32))
        for (name, loss), weight, part in zip(self.losses.items(), self.weights, scored.parts, strict=True):
            total = total + weight * loss(self._read(name, part), known)
        return total

    def check(self, labels: LabelFacts, *, negatives_per_row: int) -> None:
        for part in self.objectives:
            part.check(labels, negatives_per_row=negatives_per_row)

    def initial_bias(self, labels: LabelFacts, *, negatives_per_row: int) -> float:
        if self.predictor is None:
            return 0.0
        return self.predictor.initial_bias(labels, negatives_per_row=negatives_per_row)

    def calibrated(self, scored: Scored) -> Scored:
        return scored if self._predictor is None else self._read(self._predictor, scored)

    def learned(self) -> dict[str, Tensor]:
        ours = {f"{name}_scale": scale.detach().exp() for name, scale in self.log_scale.items()}
        ours |= {f"{name}_shift": shift.detach() for name, shift in self.shift.items()}
        for name, part in zip(self.losses, self.objectives, strict=True):
            ours |= {f"{name}_{key}": value for key, value in part.learned().items()}
        return ours

    def prediction(self) -> Prediction | None:
        if self.predictor is None or self._predictor is None:
            return None
        if self._predictor not in self.log_scale:
            return Prediction(self.predictor.name)
        scale, shift = self.log_scale[self._predictor].exp(), self.shift[self._predictor]
        return Prediction(self.predictor.name, float(scale.detach()), float(shift.detach()))

    def predict(self, score_B: Tensor) -> Tensor:
        return super().predict(score_B) if self.predictor is None else self.predictor.predict(score_B)

    def _read(self, name: str, scored: Scored) -> Scored:
        """The batch as a part reads it."""
        if name not in self.log_scale:
            return scored
        return replace(scored, scale=self.log_scale[name].exp(), shift=self.shift[name])

    def _choose(self, predict: str | None) -> str | None:
        able = [name for name, loss in self.losses.items() if loss.compares == "rows"]
        if predict is None and len(able) > 1:
            raise ValueError(f"loss.predict must say which part predicts the label, one of {', '.join(able)}")
        if predict is not None and predict not in able:
            raise ValueError(
                f"loss.predict must name a part that predicts a label ({able or 'none does'}): {predict!r}"
            )
        return predict or next(iter(able), None)


def _check_part(name: str, part: Any) -> None:
    if not isinstance(part, Mapping) or set(part) != {"weight", "loss"} or not isinstance(part["loss"], Loss):
        raise ValueError(f"loss.parts.{name} must hold a weight and a loss, got {part!r}")
    if isinstance(part["loss"], Multi):
        raise ValueError(f"loss.parts.{name}: a part cannot be loss=multi again")
    weight = part["weight"]
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight > 0.0:
        raise ValueError(f"loss.parts.{name}.weight must be a number above 0, got {weight!r}; null leaves the part out")
