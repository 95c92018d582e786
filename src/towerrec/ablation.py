"""What an ablation leaves out: one part of the model or of its input at a time, everything else as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # brings torch, which a command without an ablation need not wait for
    from towerrec.schema import FeatureSchema


@dataclass(frozen=True)
class Part:
    """Something that is left out.

    Attributes:
        name: A word for it.
        about: What it is made of, in words.
        settings: The overrides that leave it out: key -> text.
    """

    name: str
    about: str
    settings: Mapping[str, str]


FULL = Part("full model", "everything", {})
"""Nothing is left out: what the others are compared with."""


def words_of(drop: str | Sequence[str]) -> list[str]:
    """`features.drop` as a list: a single word may stand for itself."""
    return [drop] if isinstance(drop, str) else list(drop)


def feature_parts(
    schema: FeatureSchema, *, dropped: Sequence[str], each: bool, declared: Mapping[str, str] | None = None
) -> list[Part]:
    """The groups of features that a model reads, or its features one by one.

    Args:
        schema: What the towers read.
        dropped: What is left out already, and stays so.
        each: Whether every feature is a part of its own; otherwise those of a group (of both sides) are one.
        declared: The feature that an encoded one comes from, where it has another name: a number with gaps is read as
            `duration` and `duration_missing`, and goes with both.
    """
    found: dict[str, dict[str, list[str]]] = {}
    for spec in schema.features:
        own = (declared or {}).get(spec.name, spec.name)
        word = own if each or not spec.group else spec.group
        found.setdefault(word, {}).setdefault(spec.side, []).append(spec.name)
    return [
        Part(word, _about(sides), {"features.drop": f"[{','.join(_quoted(name) for name in (*dropped, word))}]"})
        for word, sides in found.items()
    ]


def setting_parts(without: Mapping[str, Mapping[str, str]]) -> list[Part]:
    """Parts by what is said of them: name -> the overrides that leave it out."""
    return [Part(name, " ".join(f"{k}={v}" for k, v in said.items()), said) for name, said in without.items()]


def _about(sides: Mapping[str, Sequence[str]]) -> str:
    shown = 4
    said = []
    for side, names in sides.items():
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        said.append(f"{side}: {', '.join(names[:shown])}{more}")
    return "; ".join(said)


def _quoted(name: str) -> str:
    """A name as Hydra's grammar takes it inside a list."""
    if re.fullmatch(r"[A-Za-z_][\w-]*", name):
        return name
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
