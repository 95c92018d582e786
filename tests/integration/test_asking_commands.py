"""Whatever `recommend.py` is asked, `Retriever` answers alike: every key of the one beside the word of the other."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import command
from conftest import DemoRun, Workplace
from polars.testing import assert_frame_equal

from towerrec import Retriever
from towerrec.data.catalogue import load_catalogue


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Commands set the level of all logging."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture(scope="module")
def retriever(demo_run: DemoRun) -> Retriever:
    return Retriever.load(demo_run.directory, device="cpu")


@pytest.fixture(scope="module")
def tables(demo_run: DemoRun, workplace: Workplace, retriever: Retriever) -> dict[str, pl.DataFrame]:
    """What a person may hand over, by name."""
    catalogue = load_catalogue(demo_run.directory / "catalogue")
    users, items = catalogue.user_ids.to_list(), catalogue.item_ids.to_list()
    best = retriever.recommend([users[3]], n=3)["item_id"]
    features = pl.read_csv(workplace.root / "data" / "demo-tiny-0" / "data" / "user_features.csv").head(2)
    new_item = {"item_id": [max(items) + 1], "feat": [[1]], "caption": ["a new video"]}
    new_item |= {name: [None] for name in catalogue.encoders.missing_columns("item", list(new_item))}
    return {
        "few": pl.DataFrame({"user_id": users[3:6]}),
        "moments": pl.DataFrame({"user_id": users[:4], "at": ["2020-07-08T20:00", None, "2020-09-01T03:00", None]}),
        "new_users": features.with_columns(user_id=pl.col("user_id") + 900_000, num_friends=pl.lit(None, pl.Int64)),
        "new_items": pl.DataFrame(new_item),
        "items": pl.DataFrame({"item_id": items[:9]}),
        "pairs": pl.DataFrame({"user_id": [users[3]] * 20 + [users[4]] * 9, "item_id": items[:20] + items[40:49]}),
        "history": pl.DataFrame({"user_id": [users[3], users[3], 987_654], "item_id": best, "label": [1, 0, 1]}),
    }


# Keys of the command and words of the method; `NAME` is a table, given as a file here and in memory there.
FEW = {"users": "few"}
CASES: list[tuple[dict[str, str], dict[str, Any]]] = [
    ({}, {}),
    (FEW | {"exclude_seen": "false"}, FEW | {"exclude_seen": False}),
    ({"users": "[12,15]"}, {"users": [15, 12, 15]}),
    (FEW | {"candidates": "items"}, FEW | {"allow": "items"}),
    (FEW | {"candidates": "pairs"}, FEW | {"allow": "pairs"}),
    (FEW | {"deny": "items"}, FEW | {"deny": "items"}),
    (FEW | {"deny": "pairs", "candidates": "[3,4,41]"}, FEW | {"deny": "pairs", "allow": [3, 4, 41]}),
    (FEW | {"at": "2020-09-01T20:00"}, FEW | {"at": "2020-09-01T20:00"}),
    ({"users": "moments", "at": "2020-08-01T20:00"}, {"users": "moments", "at": "2020-08-01T20:00"}),
    ({"users": "new_users"}, {"users": "new_users"}),
    (FEW | {"history": "history"}, FEW | {"history": "history"}),
    ({"history": "history"}, {"history": "history"}),
    (FEW | {"prior.weight": "0.7", "prior.of": "youth"}, FEW | {"prior": {"weight": 0.7, "of": "youth"}}),
]


@pytest.mark.parametrize(("keys", "words"), CASES, ids=[" ".join(keys) or "plain" for keys, _ in CASES])
def test_the_command_line_and_python_give_the_same_lists(
    workplace: Workplace,
    demo_run: DemoRun,
    retriever: Retriever,
    tables: dict[str, pl.DataFrame],
    tmp_path: Path,
    keys: dict[str, str],
    words: dict[str, Any],
):
    told = [f"{key}={as_file(tables, value, tmp_path)}" for key, value in keys.items()]
    output = tmp_path / "lists.parquet"
    outcome = workplace.recommend(f"run={demo_run.directory}", "n=6", f"output={output}", *told)
    assert outcome.code == 0, outcome.err
    in_memory = {word: tables.get(value, value) if isinstance(value, str) else value for word, value in words.items()}
    assert_frame_equal(pl.read_parquet(output), retriever.recommend(n=6, **in_memory))
    if words.keys() - {"users"}:
        plain = retriever.recommend([12, 15] if in_memory.get("users") is None else in_memory["users"], n=6)
        assert not pl.read_parquet(output).equals(plain), "the key changes nothing"


def as_file(tables: dict[str, pl.DataFrame], value: str, folder: Path) -> str:
    if value not in tables:
        return value
    tables[value].write_parquet(folder / f"{value}.parquet")
    return str(folder / f"{value}.parquet")


def test_new_items_join_both_alike(
    workplace: Workplace, demo_run: DemoRun, retriever: Retriever, tables: dict[str, pl.DataFrame], tmp_path: Path
):
    file, output = as_file(tables, "new_items", tmp_path), tmp_path / "lists.parquet"
    assert workplace.recommend(f"run={demo_run.directory}", "n=300", f"items={file}", f"output={output}").code == 0
    grown = retriever.with_items(tables["new_items"])
    assert_frame_equal(pl.read_parquet(output), grown.recommend(n=300))
    assert tables["new_items"]["item_id"][0] in set(grown.recommend(n=300)["item_id"])


@pytest.mark.parametrize("asked", ["true", "items", "[5,3]"])
def test_similar_items_are_alike(
    workplace: Workplace,
    demo_run: DemoRun,
    retriever: Retriever,
    tables: dict[str, pl.DataFrame],
    tmp_path: Path,
    asked: str,
):
    told = [f"similar={as_file(tables, asked, tmp_path)}", "n=5", "deny=[7]", f"output={tmp_path / 'similar.csv'}"]
    outcome = workplace.recommend(f"run={demo_run.directory}", *told, "format=csv")
    assert outcome.code == 0, outcome.err
    items = {"true": None, "[5,3]": [5, 3]}.get(asked, tables["items"])
    expected = retriever.similar(items, n=5, deny=[7])
    assert_frame_equal(pl.read_csv(tmp_path / "similar.csv"), expected, check_dtypes=False, rel_tol=1e-5)
    assert expected.columns == ["item_id", "similar_item_id", "rank", "score"]
    assert 7 not in set(expected["similar_item_id"])


def test_the_name_of_the_output_decides_its_format(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    for name, read in (("a.csv", pl.read_csv), ("a.jsonl", pl.read_ndjson), ("a.parquet", pl.read_parquet)):
        ask = [f"run={demo_run.directory}", "users=[12]", "n=3", f"output={tmp_path / name}"]
        assert workplace.recommend(*ask).code == 0
        assert read(tmp_path / name).height == 3
        other = "csv" if name == "a.parquet" else "parquet"
        outcome = workplace.recommend(*ask, f"format={other}")
        assert f"but format={other}: leave out format" in outcome.message
    outcome = workplace.recommend(*ask[:-1], f"output={tmp_path / 'a.xlsx'}")
    assert "a.xlsx: lists are written as parquet, csv, jsonl: choose such an ending" in outcome.message


def test_a_command_says_how_many_lists_are_short_and_where_they_are(
    workplace: Workplace, demo_run: DemoRun, tables: dict[str, pl.DataFrame], tmp_path: Path
):
    told = [f"users={as_file(tables, 'few', tmp_path)}", f"candidates={as_file(tables, 'pairs', tmp_path)}"]
    told += [f"output={tmp_path / 'a.parquet'}", "exclude_seen=false"]
    outcome = workplace.recommend(f"run={demo_run.directory}", "n=10", *told)
    assert "2 of 3 users get fewer than 10 items, 1 of them none at all: no more may be listed" in outcome.out
    assert f"19 rows, 3 users, up to 10 items each -> {tmp_path / 'a.parquet'}" in outcome.out


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("users=[1.5]", ("users=[1.5] is neither a file nor a list of ids",)),
        ("users=true", ("users=True is neither a file nor a list",)),
        ("users=[]", ("users=[] is neither",)),
        ("users=[987654]", ("users: 1 of 1 ids", "[987654]", "or their history")),
        ("deny=[987654]", ("deny: 1 of 1 ids", "[987654]")),
        ("deny=nowhere.csv", ("nowhere.csv: there is no such file",)),
        ("similar=[987654]", ("items: 1 of 1 ids", "[987654]")),
        ("history=nowhere.csv", ("nowhere.csv: there is no such file",)),
        ("+similar=true +users=[1]", ("similar=True is the same for everybody: leave out users",)),
        ("similar=true prior.weight=1", ("leave out prior",)),
        ("similar=true exclude_seen=false", ("leave out exclude_seen",)),
    ],
)
def test_a_request_that_cannot_be_met_is_named(
    workplace: Workplace, demo_run: DemoRun, override: str, words: tuple[str, ...]
):
    outcome = workplace.recommend(f"run={demo_run.directory}", *override.replace("+", "").split())
    assert outcome.code == 1 and "Traceback" not in outcome.err
    assert all(word in outcome.message for word in words), outcome.message


def test_an_empty_file_is_an_error_that_says_so(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    for text, words in (("", "is empty"), ("item_id\n", "holds no rows")):
        (tmp_path / "deny.csv").write_text(text)
        outcome = workplace.recommend(f"run={demo_run.directory}", f"deny={tmp_path / 'deny.csv'}")
        assert outcome.code == 1 and words in outcome.message and "deny.csv" in outcome.message


@pytest.mark.slow
def test_an_exported_folder_answers_as_the_run_it_came_from(
    workplace: Workplace, demo_run: DemoRun, retriever: Retriever, tables: dict[str, pl.DataFrame], tmp_path: Path
):
    folder = tmp_path / "exported"
    assert workplace.recommend(f"run={demo_run.directory}", f"export={folder}", "export_index=exact").code == 0
    exported = Retriever.load(folder, device="cpu")
    for _, words in CASES:
        how = {word: tables.get(value, value) if isinstance(value, str) else value for word, value in words.items()}
        expected = retriever.recommend(n=6, **how)
        assert_frame_equal(exported.recommend(n=6, **how), expected, rel_tol=1e-4, abs_tol=1e-5)
    assert_frame_equal(exported.similar(n=3), retriever.similar(n=3), rel_tol=1e-4, abs_tol=1e-5)
    grown = exported.with_items(tables["new_items"])
    expected = retriever.with_items(tables["new_items"]).recommend(n=6)
    assert_frame_equal(grown.recommend(n=6), expected, rel_tol=1e-4, abs_tol=1e-5)
    with pytest.raises(ValueError, match="was exported and holds one model: leave out checkpoint=last"):
        Retriever.load(folder, checkpoint="last")


def test_files_in_the_words_of_a_log_are_understood_by_a_run_of_it(tmp_path: Path):
    log = tmp_path / "log.csv"
    rows = [
        (f"0{user}", item, (user + item) % 3 // 2) for user in range(20) for item in range(15) if (user * 7 + item) % 4
    ]
    written = pl.DataFrame(rows, schema=["kunde", "film", "gut"], orient="row")
    written.write_csv(log)
    names = ["data.columns.user=kunde", "data.columns.item=film", "data.columns.label=gut"]
    told = ["data=interactions", f"data.interactions={log}", *names, "eval.ks=[3]", "eval.num_resamples=50"]
    place = [f"paths.data_dir={tmp_path}", f"paths.log_dir={tmp_path / 'logs'}"]
    trained = command("train.py", *told, *place, "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.devices=1")
    assert trained.code == 0, trained.err
    run = Path(trained.last_line.removeprefix("run directory: "))
    written.head(3).write_csv(tmp_path / "since.csv")
    outcome = command("recommend.py", f"run={run}", f"history={tmp_path / 'since.csv'}", f"deny={log}", "n=15")
    assert outcome.code == 0, outcome.err
    lists = pl.read_parquet(run / "recommendations.parquet")
    ours = written.rename({"kunde": "user_id", "film": "item_id", "gut": "label"})
    assert_frame_equal(lists, Retriever.load(run, device="cpu").recommend(n=15, history=ours.head(3), deny=ours))
    assert lists.join(ours, on=["user_id", "item_id"]).height == 0 and lists.height > 0
