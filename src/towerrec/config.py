"""What may be configured: the typed, checked config of each task.

Each task has a dataclass at its top, so that a misspelt key or a wrong type is refused by name. Groups that choose a
class (`data`, `split`, `loss`, ...) carry its `_target_`; the constructor's signature refuses their typos.
"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from towerrec.config_asked import FORMATS, check_asked
from towerrec.config_build import build as build  # here for those who read configs, too
from towerrec.config_continue import check_continue, inherit
from towerrec.config_eval import EvalConfig as EvalConfig
from towerrec.config_eval import FactsConfig, check_eval
from towerrec.config_loader import LoaderConfig as LoaderConfig
from towerrec.config_of_run import read_config
from towerrec.config_prior import PriorConfig as PriorConfig
from towerrec.config_prior import PriorCurveConfig, check_prior
from towerrec.config_tasks import DataTaskConfig, EvaluateConfig, RecommendConfig, TrainConfig
from towerrec.config_types import FREE_KEYS, RUN_GROUPS, at_least_one, closest, one_of
from towerrec.distributed import rank
from towerrec.files import whole_file
from towerrec.progress import KINDS
from towerrec.sweeping import BASIC_LAUNCHER

ConfigT = TypeVar("ConfigT")

# There is one, and loading copies what it holds. Hydra 1.3 copies it whole with each list of a group's choices, three
# quarters of the seconds of `--help`; later releases hold on to the one, too (hydra pull request 2928).
ConfigStore.__deepcopy__ = lambda store, memo: store  # type: ignore[attr-defined]
store = ConfigStore.instance()
store.store(name="train_schema", node=TrainConfig)
store.store(name="recommend_schema", node=RecommendConfig)
store.store(name="evaluate_schema", node=EvaluateConfig)


def train_config(cfg: DictConfig) -> TrainConfig:
    """The typed, checked config of `train.py`; with `run` that of the run which is to go on."""
    run = cfg.get("run")
    config = _typed(cfg, TrainConfig) if run is None else _as_it_began(cfg, Path(str(run)))
    if run is None and config.continue_from is not None:
        _go_on(config, Path(config.continue_from))
    check_continue(config)
    check_eval(config.eval)
    _check_ways(config)
    for name in ("batch_size", "micro_batch", "eval_users", "eval_rows", "buffer_rows"):
        if (size := getattr(config.loader, name)) is not None:
            at_least_one(f"loader.{name}", size)
    if config.loader.history_length < 0:
        raise ValueError(f"loader.history_length must be 0 or more, got {config.loader.history_length}")
    _check_side_by_side(config.trainer)
    return config


def _check_side_by_side(trainer: Mapping[str, Any]) -> None:
    """Lightning starts further processes by the words on the command line, which are those of the whole sweep."""
    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        devices = trainer["devices"]
        number = (
            len(devices) if isinstance(devices, list) else int(devices) if str(devices).lstrip("-").isdigit() else 1
        )
        if HydraConfig.get().launcher._target_ != BASIC_LAUNCHER and (number, trainer["num_nodes"]) != (1, 1):
            raise ValueError(
                f"trainer.devices={devices}: a job that runs beside others trains in one process; set "
                "trainer.devices=1 trainer.num_nodes=1, or leave out hydra/launcher and have one job after another"
            )


def recommend_config(cfg: DictConfig) -> RecommendConfig:
    """The typed, checked config of `recommend.py`."""
    config = _typed(cfg, RecommendConfig)
    if config.run is None:
        raise ValueError("run is missing: give the run directory that train.py printed, run=logs/train/...")
    at_least_one("n", config.n)
    at_least_one("batch_users", config.batch_users)
    if config.memory_mb is not None and not config.memory_mb > 0:
        raise ValueError(f"memory_mb must be above 0, got {config.memory_mb}")
    one_of("precision", config.precision, ("float32", "bfloat16"))
    one_of("progress", config.progress, KINDS)
    if config.format is not None:
        one_of("format", config.format, FORMATS)
    one_of("export_index", config.export_index, ("auto", "exact", "flat", "hnsw", "ivf_pq"))
    if config.export is None and config.export_index != "auto":
        raise ValueError(f"export_index={config.export_index} is part of an export: give export=FOLDER too")
    one_of("checkpoint", config.checkpoint, ("best", "last"))
    check_prior(config.prior)
    check_asked(config)
    return config


def evaluate_config(cfg: DictConfig) -> EvaluateConfig:
    """The typed, checked config of `evaluate.py`; with `run` the data settings are those of that run."""
    config = _typed(cfg, EvaluateConfig)
    given = [k for k in ("run", "recommendations", "baseline", "compare") if getattr(config, k) not in (None, {})]
    if len(given) != 1:
        raise ValueError(
            f"evaluate.py needs exactly one of run=DIR, recommendations=FILE, baseline=NAME and compare=[A,B], "
            f"got {', '.join(given) or 'none of them'}"
        )
    if config.run is not None:
        config = _with_settings_of_run(config, Path(config.run))
    check_eval(config.eval)
    _check_ways(config)
    one_of("checkpoint", config.checkpoint, ("best", "last"))
    check_prior(config.prior)
    one_of("compare_against", config.compare_against, ("first", "all"))
    one_of("compare_grouped", config.compare_grouped, ("sweeps", "all", "none"))
    if config.compare is None and (config.compare_against, config.compare_grouped) != ("first", "sweeps"):
        raise ValueError(f"compare_against and compare_grouped belong to compare=[A,B], got {given[0]}")
    if config.run is None and config.prior != PriorCurveConfig():
        raise ValueError(f"prior changes the lists of a trained model: it needs run=DIR, got {given[0]}")
    return config


def _with_settings_of_run(config: EvaluateConfig, run: Path) -> EvaluateConfig:
    """Take data, label, split and features from the run; what the command line says about them still counts."""
    trained = _config_of_run(run)
    own = dict(trained.split)
    spoken = _spoken()
    for group in RUN_GROUPS:
        now = getattr(config, group)
        setattr(config, group, now if group in spoken else getattr(trained, group))
        for key in (s.removeprefix(f"{group}.") for s in spoken if s.startswith(f"{group}.")):
            _copy_key(now, getattr(config, group), key.split("."), f"{group}.{key}")
    for key in ("candidates", "positive", "ks", "gain", "gain_clip"):
        if f"eval.{key}" not in spoken:
            setattr(config.eval, key, getattr(trained.eval, key))
    for key in (f.name for f in fields(FactsConfig)):
        if f"eval.facts.{key}" not in spoken:
            setattr(config.eval.facts, key, getattr(trained.eval.facts, key))
    if "seed" not in spoken:
        config.seed = trained.seed
    window = config.split.get("window")
    if config.output is None and window is not None and window != own.get("window"):
        # The run's own judgement stays what it is.
        config.output = str(run / f"evaluation-window-{window}")
    return config


def later_window(run: Path, window: int) -> EvaluateConfig:
    """How a run is judged on another of the windows of its split, by everything else as it was trained."""
    trained = _config_of_run(run)
    shared = {key.name: getattr(trained, key.name) for key in fields(DataTaskConfig)}
    shared["split"] = {**trained.split, "window": window}
    return EvaluateConfig(**shared, run=str(run), output=str(run / f"evaluation-window-{window}"))


def _as_it_began(said: DictConfig, run: Path) -> TrainConfig:
    """The settings that a run began with; where things lie and what is shown may be said anew."""
    loaded = OmegaConf.merge(OmegaConf.structured(TrainConfig), read_config(run / ".hydra" / "config.yaml"))
    assert isinstance(loaded, DictConfig)
    for key in (word.partition("=")[0].lstrip("+") for word in HydraConfig.get().overrides.task):
        if key in FREE_KEYS:
            OmegaConf.update(loaded, key, OmegaConf.select(said, key))
    config = _typed(loaded, TrainConfig)
    config.run = str(run)
    return config


def _spoken() -> list[str]:
    """Keys that the command line names."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return [override.split("=", 1)[0].lstrip("+~") for override in overrides]


def _go_on(config: TrainConfig, run: Path) -> None:
    """Take what is not said from the run that training goes on from, and keep it as this run's own settings."""
    if not (run / ".hydra" / "config.yaml").is_file():
        raise ValueError(f"continue_from={run} is no run directory of train.py, which prints it last")
    settled = inherit(config, _config_of_run(run), _spoken())
    config.continue_from = settled["continue_from"] = str(run.resolve())
    kept = output_dir() / ".hydra" / "config.yaml" if HydraConfig.initialized() else None
    if kept is not None and kept.is_file() and rank() == 0:
        saved = OmegaConf.load(kept)
        for key, value in settled.items():
            OmegaConf.update(saved, key, value, merge=key in ("eval", "loader"))
        with whole_file(kept) as written:
            OmegaConf.save(saved, written)


def _config_of_run(run: Path) -> TrainConfig:
    """What a run was trained with, as far as a judgement reads it."""
    path = run / ".hydra" / "config.yaml"
    if not path.is_file():
        raise ValueError(f"run={run} is not a run directory of train.py: {path} is missing")
    loaded = read_config(path)
    for group in ("callbacks", "logger"):  # they name the job that was running
        loaded.pop(group, None)
    saved = OmegaConf.merge(OmegaConf.structured(TrainConfig), loaded)
    assert isinstance(saved, DictConfig)
    return cast(TrainConfig, OmegaConf.to_object(saved))


def _copy_key(source: dict[str, Any], target: dict[str, Any], path: list[str], full: str) -> None:
    for part in path[:-1]:
        source, target = source[part], target.get(part, {})
    if path[-1] not in target:
        raise ValueError(f"{full}: the run was trained without this key, so it cannot be changed here")
    target[path[-1]] = source[path[-1]]


def beside_others() -> bool:
    """Whether this is a job of a sweep that runs beside other jobs."""
    if not HydraConfig.initialized() or HydraConfig.get().mode != RunMode.MULTIRUN:
        return False
    return bool(HydraConfig.get().launcher._target_ != BASIC_LAUNCHER)


def output_dir() -> Path:
    """The directory Hydra made for this job."""
    return Path(HydraConfig.get().runtime.output_dir)


def _typed(cfg: DictConfig, kind: type[ConfigT]) -> ConfigT:
    missing = OmegaConf.missing_keys(cfg)
    if missing:
        raise ValueError(f"config keys {sorted(missing)} have no value: give them on the command line")
    _refuse_strange(cfg, kind, "")
    return cast(ConfigT, OmegaConf.to_object(cfg))  # which resolves what refers to other keys, once


def _refuse_strange(cfg: DictConfig, kind: type[Any], where: str) -> None:
    """`+key=value` adds any key; one that nothing reads is a mistake."""
    known = {f.name: typing.get_type_hints(kind)[f.name] for f in fields(kind)}
    for key in cfg:
        name = f"{where}{key!s}"
        if key not in known:
            raise ValueError(f"{name} is not a key of the config{closest(str(key), list(known))}")
        if is_dataclass(known[str(key)]):
            _refuse_strange(cfg[key], cast(type[Any], known[str(key)]), f"{name}.")


def _check_ways(config: DataTaskConfig) -> None:
    one_of("audit", config.audit, ("fail", "warn", "off"))
    one_of("progress", config.progress, KINDS)
