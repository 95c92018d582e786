"""The full model beside models that lack one part each."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from hydra_plugins.towerrec_sweepers._resuming import Resuming, combinations, is_single, plain
from towerrec import sweep_jobs
from towerrec.ablation import FULL, Part, feature_parts, setting_parts, words_of
from towerrec.sweep_jobs import Job, Words
from towerrec.sweep_space import Axis, Choices

if TYPE_CHECKING:
    from towerrec.config import TrainConfig

log = logging.getLogger(__name__)

Variants = list[tuple[Part, dict[str, Words]]]


class AblationSweeper(Resuming):
    """The full model, and models with one part left out each, over the repeats (`seed=0,1,2`) that are asked for.

    Args:
        of: What is left out in turn, a word for titles.
        features: `groups` of the features that the model reads, `each` of them, or None.
        without: Further parts: name -> the overrides that leave it out.
        params: Overrides of all jobs.
    """

    def __init__(
        self,
        *,
        of: str,
        features: str | None = None,
        without: DictConfig | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(params)
        self.of, self.features = of, features
        self.without = {} if without is None else plain(without)

    def _sweep(self, axes: dict[str, Axis]) -> None:
        from towerrec import config
        from towerrec.report.groups import REPEATS

        several = [key for key, axis in axes.items() if not is_single(axis) and key not in REPEATS]
        if several:
            raise ValueError(
                f"an ablation compares with one full model, so only repeats ({', '.join(REPEATS)}) may have several "
                f"values, not {', '.join(several)}"
            )
        cfg = config.train_config(self._composed(combinations(axes)[0]))
        variants = self._variants(axes, cfg)
        jobs = self._plan([words for _, repeats in variants for words in repeats.values()])
        log.info(
            f"ablation of {self.of}: the full model and {len(variants) - 1} without a part, {len(jobs)} jobs in "
            f"{self.directory}: {sweep_jobs.summary(jobs)}"
        )
        self._run([job for job in jobs if not job.is_over])
        self._write(variants, jobs, cfg)

    def _variants(self, axes: dict[str, Axis], cfg: TrainConfig) -> Variants:
        """The full model and the parts that it has, each with the overrides of its jobs by repeat."""
        parts = setting_parts(self.without)
        if self.features is not None:
            if self.features not in ("groups", "each"):
                raise ValueError(f"hydra.sweeper.features must be groups, each or null, got {self.features!r}")
            from towerrec import tasks

            prepared = tasks.prepared_data(cfg).prepared
            parts += feature_parts(
                prepared.schema,
                dropped=words_of(cfg.features["drop"]),
                each=self.features == "each",
                declared={s.name: encoder.name for _, encoder in prepared.encoders.encoders for s in encoder.specs()},
            )
        full = self._composed(combinations(axes)[0])
        variants = [(FULL, _by_repeat(axes))]
        for part in parts:
            own = axes | {key: Choices((text,)) for key, text in part.settings.items()}
            if self._composed(combinations(own)[0]) == full:
                log.info(f"{part.name}: is not there, so there is nothing to leave out ({part.about})")
                continue
            variants.append((part, _by_repeat(own)))
        return variants

    def _write(self, variants: Variants, jobs: Sequence[Job], cfg: TrainConfig) -> None:
        from towerrec.report import ablation, ablation_page

        place = {frozenset(job.words): self._place(job) for job in jobs}
        found = [
            ablation.Variant(part.name, part.about, {name: place[frozenset(words)] for name, words in repeats.items()})
            for part, repeats in variants
        ]
        about = ablation.ablation(
            found, correction=cfg.eval.correction, num_resamples=cfg.eval.num_resamples, seed=cfg.seed
        )
        ablation_page.write(about, self.directory, of=self.of)
        log.info(f"{ablation_page.terminal(about)}\nablation: {self.directory / 'ablation.html'}")


def _by_repeat(axes: Mapping[str, Axis]) -> dict[str, Words]:
    """The overrides of every repeat, by what tells it apart (`seed=1`)."""
    places = [place for place, axis in enumerate(axes.values()) if not is_single(axis)]
    return {" ".join(words[place] for place in places): words for words in combinations(axes)}
