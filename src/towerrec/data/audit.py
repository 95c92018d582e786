"""The leak audit of a prepared log: what could make held-out figures better than the future will be.

Every check looks at what is stored, or at what the store hands to a model, and not at how it was made. The findings are
kept beside the prepared log and hold as long as none of its files changes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from towerrec import progress
from towerrec.data import audit_inputs, audit_recount, audit_rows
from towerrec.data.artefacts import read_json
from towerrec.data.audit_findings import Example, Finding
from towerrec.data.cache import CHECKED
from towerrec.data.cleaning import Cleaning
from towerrec.data.features import FeatureChoice
from towerrec.data.known import ContinuedStore
from towerrec.data.labels import Label
from towerrec.data.past import Past
from towerrec.data.prepare import Prepared, streams
from towerrec.data.splits import Split
from towerrec.data.tables import Source
from towerrec.files import write_json
from towerrec.schema import MATRIX, fingerprint

# Goes up with any change of what is checked.
AUDIT_VERSION = 1
KEPT = "audit.json"


def audit(
    prepared: Prepared,
    *,
    source: Source,
    split: Split,
    label: Label,
    features: Mapping[str, Any],
    cleaning: Cleaning | None = None,
    past: Past | None = None,
) -> list[Finding]:
    """Look for leaks in a prepared log, or read what an equal audit found before.

    Args:
        prepared: The log.
        source: Where it came from; user and item tables are read again, the rows only for a label that learns.
        split: As it was prepared with.
        label: As it was prepared with.
        features: As it was prepared with.
        cleaning: As it was prepared with; None takes every default.
        past: As it was prepared with.
    """
    place = prepared.directory / KEPT
    key = _key(prepared.directory)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = read_json(place)
        if kept["key"] == key:
            return [Finding(**finding) for finding in kept["findings"]]
    found = _findings(
        prepared, source=source, split=split, label=label, features=features, cleaning=cleaning, past=past
    )
    # A folder that may be read only is audited at each start.
    with contextlib.suppress(OSError):
        write_json(place, {"key": key, "findings": [finding.to_dict() for finding in found]})
    return found


def _findings(
    prepared: Prepared,
    *,
    source: Source,
    split: Split,
    label: Label,
    features: Mapping[str, Any],
    cleaning: Cleaning | None,
    past: Past | None,
) -> list[Finding]:
    # The rows of the log itself: what an earlier run adds to its lists was there before all of them.
    store, rules = prepared.store, cleaning or Cleaning()
    store = replace(store, past=None) if isinstance(store, ContinuedStore) else store
    tables = source.read()
    example = Example(prepared.user_ids, prepared.item_ids, prepared.timezone)
    history = store.history(prepared.positive)
    profiles = store.profiles("train", prepared.positive, positives_only=False)
    # Rows of another matrix stay apart from those they would be averaged with.
    unique = rules.repeated_pairs == "mean" and MATRIX not in tables.interactions.collect_schema().names()
    choice = FeatureChoice.from_plain(features)
    checks: dict[str, Callable[[], Finding]] = {
        audit_rows.FUTURE: lambda: audit_rows.future_rows(store, split, example, timezone=prepared.timezone),
        audit_rows.DUPLICATES: lambda: audit_rows.duplicates(store, example, pairs_are_unique=unique),
        audit_rows.APART: lambda: audit_rows.kept_apart(store, split, example),
        audit_inputs.TARGET: lambda: audit_inputs.target_in_history(store, history, example),
        audit_inputs.PROFILE: lambda: audit_inputs.held_out_in_profiles(
            store, history, profiles, example, positive=prepared.positive
        ),
        audit_recount.STATISTICS: lambda: audit_recount.statistics(
            prepared, tables, choice, on_disk=streams(source), past=past
        ),
        audit_recount.MOMENTS: lambda: audit_recount.moments(prepared),
        audit_recount.LABEL: lambda: audit_recount.label(prepared, tables, label, cleaning=rules, split=split),
    }
    return [check() for _, check in progress.named(checks.items(), "leak audit", len(checks))]


def _key(directory: Path) -> str:
    """Changes with every file of a prepared log."""
    stamps = {
        str(path.relative_to(directory)): [path.stat().st_size, path.stat().st_mtime_ns]
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in (KEPT, CHECKED)
    }
    return fingerprint({"version": AUDIT_VERSION, "files": stamps})
