"""What `recommend.py` may be asked for: users and items named by files, by ids, or all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from towerrec.config_tasks import RecommendConfig

FORMATS = ("parquet", "csv", "jsonl")
# Endings that promise a table of another kind.
_OTHERS = ("tsv", "txt", "json", "xlsx", "xls", "feather", "arrow", "gz", "zip")


def check_asked(config: RecommendConfig) -> None:
    """Refuse what names neither a file nor ids, and what lists of similar items cannot heed.

    Raises:
        ValueError: Naming the key and the rule.
    """
    for name in ("users", "candidates", "deny", "similar"):
        setattr(config, name, file_or_ids(name, getattr(config, name)))
    if config.export is None:  # which has no lists, and says so of a format
        config.format = format_of(config.format, config.output)
    if config.similar is None:
        return
    unheeded = [name for name in ("users", "history") if getattr(config, name) is not None]
    unheeded += [] if config.exclude_seen else ["exclude_seen"]
    unheeded += [] if config.prior.weight == 0 else ["prior"]
    if unheeded:
        raise ValueError(f"similar={config.similar} is the same for everybody: leave out {', '.join(unheeded)}")


def format_of(asked: str | None, output: str | None) -> str:
    """The format of the lists: what was asked for, or what the name of the file promises.

    Raises:
        ValueError: If the two differ, or the ending is that of another kind of table.
    """
    ending = "" if output is None else Path(output).suffix.lower().lstrip(".").replace("ndjson", "jsonl")
    if asked is None and ending in _OTHERS:
        raise ValueError(f"output={output}: lists are written as {', '.join(FORMATS)}: choose such an ending")
    if asked is not None and ending in FORMATS and ending != asked:
        raise ValueError(f"output={output} ends in .{ending}, but format={asked}: leave out format, or change one")
    return asked or (ending if ending in FORMATS else "parquet")


def file_or_ids(name: str, value: Any) -> Any:
    """A file, ids as a list, or `true`, which only `similar` may be.

    Raises:
        ValueError: If it is something else.
    """
    if value is None or isinstance(value, str) or (value is True and name == "similar"):
        return value
    known = isinstance(value, list) and value and not any(isinstance(one, bool) for one in value)
    if not known or any(not isinstance(one, int | str) for one in value):
        raise ValueError(f"{name}={value} is neither a file nor a list of ids such as {name}=[12,15]")
    return [str(one) for one in value] if any(isinstance(one, str) for one in value) else value
