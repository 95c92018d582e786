"""What `recommend.py` may be asked for: users and items named by files, by ids, or all of them."""

from __future__ import annotations

from typing import Any

from towerrec.config_tasks import RecommendConfig


def check_asked(config: RecommendConfig) -> None:
    """Refuse what names neither a file nor ids, and what lists of similar items cannot heed.

    Raises:
        ValueError: Naming the key and the rule.
    """
    for name in ("users", "candidates", "deny", "similar"):
        setattr(config, name, file_or_ids(name, getattr(config, name)))
    if config.similar is None:
        return
    unheeded = [name for name in ("users", "history") if getattr(config, name) is not None]
    unheeded += [] if config.exclude_seen else ["exclude_seen"]
    unheeded += [] if config.prior.weight == 0 else ["prior"]
    if unheeded:
        raise ValueError(f"similar={config.similar} is the same for everybody: leave out {', '.join(unheeded)}")


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
