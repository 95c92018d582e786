"""Leaks into what was learnt: vocabularies, statistics, popularity and labels, counted anew from training rows alone.

The recount is handed nothing of the held-out rows but their first moment, which bounds the daily counters; what is
stored must equal it. Shape letters: R rows, N rows of a table.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.artefacts import EncodedTables
from towerrec.data.audit_findings import Finding, failed, nothing, passed
from towerrec.data.build import collected, days_before, wanted_columns
from towerrec.data.cleaning import Cleaning, clean
from towerrec.data.column_encoders import ColumnEncoder
from towerrec.data.encode import Log, LogFacts, TrainFacts, encode_tables, first_unseen_day, recent_rows
from towerrec.data.encoders import ContextEncoder
from towerrec.data.features import Columns, FeatureChoice, choose
from towerrec.data.labels import Label
from towerrec.data.past import Past
from towerrec.data.prepare import Prepared
from towerrec.data.splits import TRAIN, Split
from towerrec.data.store import InteractionStore
from towerrec.data.streamed_facts import StoreFacts
from towerrec.data.tables import Tables
from towerrec.schema import NO_TIMESTAMP, SPLITS

STATISTICS, MOMENTS, LABEL = "statistics from held-out rows", "features of a later moment", "label from held-out rows"
_REMEDY = "delete the cached log and prepare it anew; if that does not help, leave the feature out (features.drop)"
# Sums of the same numbers in another order differ in the last bits.
_TOLERANCE = 1e-5


def statistics(
    prepared: Prepared, tables: Tables, choice: FeatureChoice, *, on_disk: bool, past: Past | None = None
) -> Finding:
    """Vocabularies, means, deviations, bucket edges and counted features equal those of the training rows alone."""
    recounted = recount(prepared, tables, choice, on_disk=on_disk, past=past)
    wrong = [*_other_encoders(prepared, recounted), *_other_columns(prepared, recounted)]
    if recounted.as_of_ms != prepared.as_of_ms:
        wrong.append(("as_of_ms", 1, f"{prepared.as_of_ms}, training rows end at {recounted.as_of_ms}"))
    if wrong:
        rows = sum(number for _, number, _ in wrong)
        said = "; ".join(f"{name}: {text}" for name, _, text in wrong[:3])
        others = dict.fromkeys(name for name, _, _ in wrong[3:])
        more = f"; and {', '.join(others)}" if others else ""
        return failed(STATISTICS, rows, f"not what training rows give: {said}{more}", _REMEDY)
    number = len(prepared.schema.features)
    return passed(STATISTICS, f"{number} features counted anew from the training rows alone are those stored")


def recount(
    prepared: Prepared, tables: Tables, choice: FeatureChoice, *, on_disk: bool, past: Past | None = None
) -> EncodedTables:
    """The encoded tables as the training rows alone give them (and the run that they grew from)."""
    users, items = collected(tables.users), collected(tables.items)
    store = prepared.store
    has_time = any(bool((block != NO_TIMESTAMP).any()) for block in store.blocks("timestamp_ms"))
    facts: TrainFacts
    if on_disk:
        before, declared = None, choose(choice, Columns(users, items, (), has_time))[0]
        facts = StoreFacts(store, positive=prepared.positive)
    else:
        before = first_unseen_day(_log(store, *SPLITS), prepared.timezone)
        daily = days_before(tables.item_daily, before)
        columns = Columns(users, items, daily, has_time)
        declared = choose(choice, columns)[0]
        declared = declared if past is None else past.declared(declared, choice, columns)
        log = _log(store, "train")
        recent = recent_rows(declared, log, positive=prepared.positive, num_items=store.num_items)
        facts = LogFacts(log, positive=prepared.positive, recent=recent)
    return encode_tables(
        declared,
        facts,
        tables,
        users=users,
        items=items,
        user_ids=prepared.user_ids,
        item_ids=prepared.item_ids,
        before=before,
        past=past,
    )


def moments(prepared: Prepared) -> Finding:
    """Row-level features are those of the row's own moment: hour, weekday, age, and popularity just before it."""
    names = list(prepared.store.context)
    if not names:
        return nothing(MOMENTS, "no feature belongs to the moment of a row")
    wrong = dict.fromkeys(names, 0)
    for made, columns in _contexts(prepared):
        for name in names:
            wrong[name] += int((columns[name] != made[name]).sum())
    number = sum(wrong.values())
    if number:
        said = ", ".join(f"{name} in {count:,} rows" for name, count in wrong.items() if count)
        return failed(MOMENTS, number, f"not what the moment of the row and earlier rows give: {said}", _REMEDY)
    return passed(MOMENTS, f"{', '.join(names)}: in every row those of its own moment")


def label(prepared: Prepared, tables: Tables, made: Label, *, cleaning: Cleaning, split: Split) -> Finding:
    """What a label learnt (thresholds by duration, say) equals what the training rows alone teach it."""
    stored = prepared.meta.get("label_fitted", {}).get("fitted", {})
    if not stored:
        return nothing(LABEL, f"label={made.name} learns nothing from rows")
    if "continued" in prepared.meta:
        return nothing(LABEL, f"label={made.name} is that of the run which training goes on from")
    wanted = wanted_columns(tables.interactions.collect_schema().names(), split=split, label=made)
    items = collected(tables.items) if cleaning.items is not None else None
    frame, _ = clean(tables.interactions, rules=cleaning, columns=wanted, required=made.columns, items=items)
    train = frame.filter(split.assign(frame) == TRAIN).select(made.columns)
    anew = copy.copy(made).fit(train).fitted()
    if not _alike(stored, anew):
        text = f"label={made.name} was fitted on other rows than the {train.height:,} training rows"
        return failed(LABEL, train.height, text, "delete the cached log and prepare it anew")
    return passed(LABEL, f"label={made.name} fitted anew on the {train.height:,} training rows alone is the one stored")


def _log(store: InteractionStore, *sides: str) -> Log:
    """The rows of some sides, one after the other."""
    first, last = store.offsets[sides[0]][0], store.offsets[sides[-1]][1]
    split = np.concatenate([np.full(store.num_rows(side), SPLITS.index(side) + 1, dtype=np.uint8) for side in sides])

    def column(name: str) -> NDArray[Any]:
        return np.load(store.directory / f"{name}.npy", mmap_mode="r")[first:last]

    return Log(column("user_idx"), column("item_idx"), column("label"), column("timestamp_ms"), split)


def _contexts(prepared: Prepared) -> Iterator[tuple[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]]]:
    """Row-level features made anew and as stored, some rows at a time."""
    store, encoders = prepared.store, prepared.encoders
    popular = _popularity(prepared)
    at = 0
    for side in SPLITS:
        columns = [
            store.blocks(name, side) for name in ("timestamp_ms", "item_idx", *(f"context_{n}" for n in store.context))
        ]
        for times, item, *stored in zip(*columns, strict=True):
            rows = slice(at, at + len(times))
            made = encoders.user_context(np.asarray(times)) | encoders.item_context(
                np.asarray(times),
                {name: days[item] for name, days in prepared.item_days.items()},
                {name: values[rows] for name, values in popular.items()},
            )
            at += len(times)
            yield made, dict(zip(store.context, stored, strict=True))


def _popularity(prepared: Prepared) -> dict[str, NDArray[np.float32]]:
    """Popularity of each row's item just before it by `recent` feature, from training positives alone, [R]."""
    features = [encoder for encoder in prepared.encoders.context if encoder.kind == "recent"]
    if not features:
        return {}
    return recent_rows(
        features, _log(prepared.store, *SPLITS), positive=prepared.positive, num_items=len(prepared.item_ids)
    )


def _other_encoders(stored: EncodedTables, anew: EncodedTables) -> Iterator[tuple[str, int, str]]:
    """Encoders that learnt something else: name, 1, in words."""
    pairs = {encoder.name: encoder for encoder in _encoders(anew)}
    for encoder in _encoders(stored):
        other = pairs.get(encoder.name)
        if other is None or type(other) is not type(encoder):
            yield encoder.name, 1, "the training rows give no such feature"
            continue
        for field in fields(encoder):
            ours, theirs = getattr(encoder, field.name), getattr(other, field.name)
            if not _alike(ours, theirs):
                yield encoder.name, 1, f"{field.name} is {_short(ours)}, training rows give {_short(theirs)}"


def _encoders(tables: EncodedTables) -> list[ColumnEncoder | ContextEncoder]:
    return [*(encoder for _, encoder in tables.encoders.encoders), *tables.encoders.context]


def _other_columns(stored: EncodedTables, anew: EncodedTables) -> Iterator[tuple[str, int, str]]:
    """Columns of the tables that differ: name, rows, in words."""
    sides = ((stored.users, anew.users, stored.user_ids), (stored.items, anew.items, stored.item_ids))
    for ours, theirs, ids in sides:
        for name, column in ours.columns.items():
            other = theirs.columns.get(name)
            if other is None or other.shape != column.shape:
                continue  # told of its encoder
            yield from _differing(name, column.numpy(), other.numpy(), ids)
    for name, values in stored.item_recent.items():
        yield from _differing(name, values, anew.item_recent[name], stored.item_ids)


def _differing(name: str, ours: NDArray[Any], theirs: NDArray[Any], ids: pl.Series) -> Iterator[tuple[str, int, str]]:
    close = np.isclose(ours, theirs, rtol=_TOLERANCE, atol=_TOLERANCE) if ours.dtype.kind == "f" else ours == theirs
    rows = np.flatnonzero(~close.reshape(len(close), -1).all(axis=1))
    if len(rows):
        text = (
            f"{len(rows):,} rows of the {str(ids.name).removesuffix('_id')} table differ, such as {ids[int(rows[0])]}"
        )
        yield name, len(rows), text


def _alike(ours: Any, theirs: Any) -> bool:
    """Equal plain values, numbers within what the order of a sum changes."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(_alike(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list | tuple) and isinstance(theirs, list | tuple):
        if len(ours) != len(theirs):
            return False
        if ours and all(isinstance(value, float) for value in (*ours, *theirs)):
            return bool(np.allclose(ours, theirs, rtol=_TOLERANCE, atol=_TOLERANCE))
        return all(_alike(a, b) for a, b in zip(ours, theirs, strict=True))
    if isinstance(ours, float) and isinstance(theirs, float):
        return bool(np.isclose(ours, theirs, rtol=_TOLERANCE, atol=_TOLERANCE))
    return bool(ours == theirs)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
