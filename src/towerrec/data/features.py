"""Which features a run uses: the declared ones, or those inferred from the columns, minus what is dropped."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import polars as pl

from towerrec.data.columns import missing_column
from towerrec.data.declarations import Declaration, declaration, select
from towerrec.data.inference import GROUPS, infer


@dataclass(frozen=True)
class FeatureChoice:
    """The `features` group of the config.

    Args:
        auto: Infer the features from the columns of the user and item tables; `declared` adds to them or replaces one
            of the same name.
        use: Names and groups to use, or the word `all`.
        drop: Names and groups to leave out.
        missing: `error`, or `drop` where a declared column is not in the data (then the data report says so).
        declared: Name -> what the feature is, see `declarations.Declaration`.
    """

    auto: bool = False
    use: str | list[str] = "all"
    drop: list[str] = field(default_factory=list)
    missing: str = "error"
    declared: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> FeatureChoice:
        """Read the config group.

        Raises:
            ValueError: For an unknown key or a value of the wrong type.
        """
        known = [f.name for f in fields(cls)]
        for key in plain:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(known)}"
                raise ValueError(f"features has no key {key!r}: {hint}")
        made = cls(**{**plain, **{key: [plain[key]] for key in ("drop",) if isinstance(plain.get(key), str)}})
        if made.missing not in ("error", "drop"):
            raise ValueError(f"features.missing must be 'error' or 'drop', got {made.missing!r}")
        if not isinstance(made.auto, bool):
            raise ValueError(f"features.auto must be true or false, got {made.auto!r}")
        if not isinstance(made.declared, Mapping):
            raise ValueError(f"features.declared must map names to features, got {made.declared!r}")
        return made

    def files(self) -> list[str]:
        """Files that the declared features bring."""
        return [
            str(plain["path"]) for plain in self.declared.values() if isinstance(plain, Mapping) and plain.get("path")
        ]


@dataclass(frozen=True)
class Columns:
    """What the data offers to features: the side tables and what else is known of the log."""

    users: pl.DataFrame | None
    items: pl.DataFrame | None
    daily: tuple[str, ...]
    has_time: bool

    def of(self, side: str) -> list[str]:
        frame = self.users if side == "user" else self.items
        return [] if frame is None else frame.columns


def choose(choice: FeatureChoice, columns: Columns) -> tuple[list[Declaration], dict[str, str]]:
    """The features of this run, and those left out because the data lacks something: name -> reason.

    Raises:
        ValueError: If nothing is left, or a column is missing and `features.missing` is `error`.
    """
    found = infer(columns.users, columns.items, has_time=columns.has_time) if choice.auto else []
    declared = {feature.name: feature for feature in found}
    declared |= {name: declaration(name, plain) for name, plain in choice.declared.items() if plain is not None}
    wanted = select(declared.values(), use=choice.use, drop=choice.drop, groups=GROUPS if choice.auto else ())
    kept: list[Declaration] = []
    left_out: dict[str, str] = {}
    for feature in wanted:
        reduced, error = _available(feature, columns)
        if reduced is not None:
            kept.append(reduced)
        elif choice.missing == "drop":
            left_out[feature.name] = str(error)
        else:
            raise ValueError(f"{error}. Remove it with features.drop=[{feature.name}]") from None
    for side in ("user", "item"):
        if not any(feature.side == side for feature in kept):
            raise ValueError(
                f"no {side} feature is left, so the {side} tower has nothing to read: "
                f"use at least one, for instance {side}_id (left out: {left_out or 'none'})"
            )
    return kept, left_out


def _available(feature: Declaration, columns: Columns) -> tuple[Declaration | None, ValueError | None]:
    """The feature as far as the data has it, or why not. A text may lack some of its columns, not all."""
    where = f"features.declared.{feature.name}: the {feature.side} table"
    of_time = feature.kind in ("hour", "weekday", "age_days", "recent") or feature.of == "recent_positives"
    if of_time and not columns.has_time:
        return None, ValueError(f"features.declared.{feature.name}: the log has no timestamps")
    there = list(columns.daily) if feature.kind == "daily" else columns.of(feature.side)
    if feature.kind == "daily" and not there:
        return None, ValueError(f"features.declared.{feature.name}: the data has no daily counters before the split")
    if feature.kind == "text":
        some = tuple(name for name in feature.columns if name in there)
        if not some:
            return None, missing_column(feature.columns[0], there, where)
        return Declaration(**{**feature.__dict__, "columns": some}), None
    for name in feature.sources:
        if name not in there:
            return None, missing_column(name, there, where)
    return feature, None
