"""Everything that is said on the command line or in a config."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
from artefact_readers import ODD, spoilt
from commands import REPOSITORY
from fuzzing import Reader
from hostile_text import ACTING, LISTS, NUMBERS, WORDS
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from towerrec.command_words import quoted_places
from towerrec.config import build, recommend_config, train_config
from towerrec.data.cleaning import Cleaning, clean
from towerrec.data.conditions import condition, passing
from towerrec.data.features import FeatureChoice
from towerrec.data.splits import Where
from towerrec.mistakes import is_users, message
from towerrec.positive import positive_mask

LOG = pl.DataFrame({"user_id": [1, 2, 3], "item_id": [4, 5, 6], "fold": [0, 1, 2], "name": ["a", "b", "c"]})
_ATOMS = (
    "fold",
    "name",
    "item_id",
    "1",
    "0",
    "-1",
    "'a'",
    "NULL",
    "true",
    "1e400",
    "9223372036854775808",
    '"fold"',
    "missing",
)
_JOINS = (
    " < ",
    " = ",
    " + ",
    " / ",
    " % ",
    " and ",
    " or ",
    " || ",
    " is ",
    " in ",
    " like ",
    " between 0 and ",
    "::int + ",
    ", ",
)
_CALLS = (
    "abs({})",
    "not {}",
    "({})",
    "upper({})",
    "substr({}, 1)",
    "cast({} as int)",
    "case when {} then 1 end",
    "[{}]",
    "-{}",
    "coalesce({}, 1)",
    "(select {})",
    "read_csv('{}')",
    "{} over ()",
    "date '{}'",
    "{}[0]",
    "sum({})",
    "strftime({}, '%Y')",
)
_RULES = (
    "> 0",
    ">= 2",
    "> ",
    ">> 1",
    "> nan",
    "> 1e999",
    "== 1.5.2",
    "> 0; drop",
    "__import__('os')",
    "> 0 or 1",
    "≥ 2",
    ">\x00 1",
)


def sql(rng: Random) -> str:
    """A condition, mostly well formed and mostly nonsense."""
    if rng.random() < 0.3:
        return " and ".join(
            f"{rng.choice(('fold', 'item_id', '1'))} > {rng.randint(-1, 9)}" for _ in range(rng.randint(1, 9))
        )
    text = rng.choice(_ATOMS)
    for _ in range(rng.choice((0, 1, 1, 2, 4, 8))):
        text = text + rng.choice(_JOINS) + rng.choice(_ATOMS) if rng.random() < 0.6 else rng.choice(_CALLS).format(text)
    match rng.randrange(30):
        case 0:
            return text * rng.choice((2, 50, 2000))
        case 1:
            return "(" * rng.choice((1, 60, 3000)) + text
        case 2:
            return " and ".join([text] * rng.choice((3, 300, 3000)))
        case 3:
            return rng.choice(ACTING + WORDS)
    return text


def _conditions(_: Path, how: tuple[str, str]) -> None:
    first, second = how
    passing(LOG, condition("split.train", first), key="split.train", text=first)
    if len(second) % 4 == 0:
        Where(train="fold < 1", val=first, test=second).assign(LOG)
        clean(LOG.lazy(), rules=Cleaning(items=second), items=LOG.select("item_id", "fold", "name"))


def _rule(rng: Random) -> str:
    return (
        rng.choice(_RULES + ACTING)
        if rng.random() < 0.5
        else rng.choice((">", "<=", "!=")) + rng.choice(NUMBERS + WORDS)
    )


NO_JOB = ("callbacks.checkpoint=null", "callbacks.last=null")
GROUPS = ("cleaning", "label", "split", "loss", "negatives", "optimizer", "scheduler", "data")


@cache
def composed(name: str) -> DictConfig:
    """The config of a script with its defaults."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        # What asks Hydra for the directory of its job is left out: there is no job here.
        return compose(name, ["data=demo", "logger=none", *NO_JOB] if name == "train" else [])


@cache
def plain() -> dict[str, Any]:
    config = composed("train")
    return {group: OmegaConf.to_container(config[group], resolve=True) for group in (*GROUPS, "features")}


def _node(rng: Random, _: Path) -> tuple[str, Any]:
    group = rng.choice((*GROUPS, "features"))
    node = plain()[group]
    for _i in range(rng.randint(1, 2)):
        changed = spoilt(rng, node)
        node = changed if isinstance(changed, dict) else node
    if rng.random() < 0.1:
        node = {**node, rng.choice(("_args_", "_partial_", "_recursive_", "x", "")): rng.choice(ODD)}
    return group, node


def _build(_: Path, how: tuple[str, Any]) -> None:
    group, node = how
    if group == "features":
        FeatureChoice.from_plain(node)
    else:
        build(node, group)


_VALUES = (
    *NUMBERS, *WORDS[:12], *LISTS, "null", "true", "${seed}", "${seed", "${oc.env:HOME}", "${nowhere}", "${eval}",
    "${a:b}",
    "${oc.decode:[}", "{a:1}", "{_target_:os.getcwd}", "[1,2", "'a", '"a"', "a,b", "range(1,3)", "choice(a,b)",
    "glob(*)",
    "${data.root}", "${paths.${seed}}", "???", "日志", "x" * 500,
)  # fmt: skip


def _words(rng: Random, _: Path) -> tuple[str, list[str]]:
    script = rng.choice(("train", "train", "recommend"))
    keys = _keys(script)
    words = []
    for _i in range(rng.choice((1, 1, 2, 3))):
        key = rng.choice(keys)
        match rng.randrange(12):
            case 0:
                key = key[:-1] + rng.choice("xyz.")
            case 1:
                key = rng.choice(("+", "++", "~", "-", "@", "")) + key
            case 2:
                key = f"{key}.{rng.choice(('a', '0', '_target_'))}"
        value = rng.choice(_VALUES)
        words.append(rng.choice((f"{key}={value}",) * 9 + (key, f"={value}", f"{key}=={value}")))
    return script, words


@cache
def _keys(script: str) -> list[str]:
    def inner(node: Any, where: str) -> list[str]:
        found = [where] if where else []
        for key, value in node.items() if isinstance(node, dict) else ():
            found += inner(value, f"{where}.{key}".lstrip("."))
        return found

    return inner(OmegaConf.to_container(composed(script), resolve=False), "")


_PARSER = OverridesParser.create()


def _command(_: Path, how: tuple[str, list[str]]) -> None:
    """What Hydra does with the words of a command, and then towerrec; an error as a person gets to see it."""
    script, words = how
    try:
        overrides = _PARSER.parse_overrides(quoted_places(words))
        config = copy.deepcopy(composed(script))
        ConfigLoaderImpl._apply_overrides_to_config(overrides, config)
        if script == "train":
            train_config(config)
        else:
            recommend_config(config)
    except Exception as error:
        if not is_users(error):
            raise
        said = message(error)
        if not said:
            raise AssertionError("an error without words") from error
        raise ValueError(said) from error


READERS = (
    Reader(
        "SQL conditions",
        lambda rng, _: (sql(rng), sql(rng)),
        _conditions,
        says=("split.", "cleaning.items", "split=where"),
    ),
    Reader(
        "positive rules",
        lambda rng, _: _rule(rng),
        lambda _, rule: positive_mask(LOG["fold"], rule),
        says=("positive rule",),
    ),
    Reader("config nodes", _node, _build, says=(*GROUPS, "features", "_target_")),
    Reader("commands", _words, _command, says=("",)),
)
