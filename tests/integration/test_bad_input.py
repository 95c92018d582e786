"""Bad input ends with exit code 1 and one readable message, and damages nothing that was there."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest
import torch
from commands import REPOSITORY, Outcome, command
from conftest import DemoRun, Workplace

ROWS = "".join(f"{user},{item},{(user * item) % 2}\n" for user in range(20) for item in range(15))


def refused(outcome: Outcome, *words: str) -> str:
    """The message of a command that ended as bad input must."""
    assert outcome.code == 1, outcome.out[-500:]
    assert "Traceback" not in outcome.err
    assert outcome.err.count("error: ") == 1, outcome.err
    assert "Error executing job" not in outcome.err
    for word in words:
        assert word in outcome.message, outcome.message
    assert len(set(outcome.message.splitlines())) == len(outcome.message.splitlines())
    return outcome.message


def content(directory: Path) -> dict[str, str]:
    """Checksums of all files of a run, the log of the last command apart."""
    files = (p for p in directory.rglob("*") if p.is_file())
    return {str(p.relative_to(directory)): hashlib.md5(p.read_bytes()).hexdigest() for p in files}


def own_log(tmp_path: Path, *overrides: str, text: str = "user_id,item_id,liked\n" + ROWS) -> Outcome:
    """Train on a log of one's own."""
    log = tmp_path / "log.csv"
    log.write_text(text)
    return command(
        "train.py",
        "data=interactions",
        f"data.interactions={log}",
        "eval.ks=[3]",
        "trainer.max_epochs=1",
        f"paths.data_dir={tmp_path}",
        f"paths.log_dir={tmp_path / 'logs'}",
        *overrides,
    )


# --- config ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("modle=two_tower", ("modle is not a key", "did you mean 'model'?")),
        ("model.embeding_dim=8", ("did you mean 'model.embedding_dim'?",)),
        ("+foo=1", ("foo is not a key of the config",)),
        ("+eval.foo=1", ("eval.foo is not a key of the config",)),
        ("+trainer.max_epoch=3", ("trainer.max_epoch is not known", "did you mean 'max_epochs'?")),
        ("data=demoo", ("data=demoo is not known", "did you mean 'demo'?")),
        ("split=foo", ("split=foo is not known", "two_matrices")),
        ("seed=abc", ("seed=abc", "Integer")),
        ("eval.ks=ten", ("eval.ks=ten: needs a list",)),
        ("eval.gain=logarithmic", ("eval.gain=logarithmic is not known",)),
        ("eval.gain_clip=0", ("eval.gain_clip must be above 0",)),
        ("eval.calibration_bins=0", ("eval.calibration_bins must be at least 1",)),
        ("eval.ks=[0]", ("eval.ks must hold cut-offs of at least 1",)),
        ("eval.ks=[10,100000]", ("eval.ks: 100000 is larger than", "lower it")),
        ("eval.candidates=nowhere.csv", ("eval.candidates=nowhere.csv",)),
        ("eval.baselines=[item_rte]", ("did you mean 'item_rate'?",)),
        ("eval.positive=foo", ("positive rule 'foo' is not understood",)),
        ("eval.positive='> 100'", ("no user has a positive (> 100)", "change eval.positive")),
        ("loader.batch_size=0", ("loader.batch_size must be at least 1, got 0",)),
        ("loader.batch_size=2.5", ("loader.batch_size=2.5",)),
        ("trainer.devices=99", ("trainer.devices=99", "CPU cores")),
        ("trainer.accelerator=quantum", ("quantum",)),
        ("trainer.max_epochs=many", ("trainer.max_epochs must be a whole number or null, got 'many'",)),
        ("trainer.max_epochs=0", ("no checkpoint was written", "at least one epoch")),
        ("optimizer.lr=-1", ("optimizer.lr must be above 0",)),
        ("optimizer.lr=high", ("optimizer.lr must be a number, got 'high'",)),
        ("model.similarity=foo", ("model.similarity must be dot or cosine",)),
        ("model.embedding_dim=big", ("model.embedding_dim must be a whole number, got 'big'",)),
        ("model.user_hidden=64", ("model.user_hidden must be a list",)),
        ("+model.feature_dims.tagz=4", ("did you mean 'tags'?",)),
        ("model.history_dim=32", ("set loader.history_length",)),
        ("split=where", ("split=where needs split.train",)),
        ("split=given", ("split=given", "no column 'split'")),
        ("label.min_watch_ratio=two", ("label.min_watch_ratio must be a number",)),
        ("label.min_watch_ratio=1000", ("no train row has a positive label",)),
        ("features.drop=[tagz]", ("features.drop: 'tagz' is not known", "did you mean 'tags'?")),
        ("data.demo.scale=tinny", ("data.demo.scale must be one of tiny, small, full",)),
        ("eval.ks=[10", ("cannot read 'eval.ks=[10'",)),
        ("model", ("cannot read 'model' as group=option or key=value",)),
    ],
)
def test_a_wrong_word_on_the_command_line_is_named(
    workplace: Workplace, demo_run: DemoRun, override: str, words: tuple[str, ...]
):
    refused(workplace.train("trainer.max_epochs=1", override), *words)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optimizer.lrr=1", ("did you mean 'optimizer.lr'?",)),
        ("model=two_towr", ("did you mean 'two_tower'?",)),
        ("loss=foo", ("loss=foo is not known", "in_batch_softmax")),
        ("label=like", ("did you mean 'liked'?",)),
        ("features=kuairc", ("did you mean 'kuairec'?",)),
        ("experiment=foo", ("experiment=foo is not known", "notebook")),
        ("negatives=foo", ("negatives=foo is not known",)),
        ("scheduler=foo", ("scheduler=foo is not known",)),
        ("callbacks=foo", ("callbacks=foo is not known",)),
        ("logger=foo", ("logger=foo is not known",)),
        ("trainer=foo", ("trainer=foo is not known",)),
        ("eval.split=foo", ("eval.split=foo is not known",)),
        ("trainer.devices=0", ("devices=0",)),
        ("trainer.precision=7", ("Precision 7",)),
        ("optimizer.lr=1e30", ("the loss is nan", "Lower optimizer.lr")),
        ("model.embedding_dim=0", ("model.embedding_dim must be at least 1",)),
        ("model.dropout=2", ("model.dropout must be in [0, 1)",)),
        ("+model.feature_dims.tags=x", ("model.feature_dims must be keys",)),
        ("callbacks.early_stopping.monitor=val/foo", ("val/foo", "val/ndcg@20")),
        ("split.candidates=foo", ("split.candidates must be one of catalogue, observed",)),
        ("features.use=[]", ("no user feature is left",)),
        ("cleaning.exact_duplicates=maybe", ("cleaning.exact_duplicates must be true or false",)),
        ("data.matrices=[medium]", ("data.matrices must name big, small or both",)),
    ],
)
def test_more_wrong_words_on_the_command_line_are_named(
    workplace: Workplace, demo_run: DemoRun, override: str, words: tuple[str, ...]
):
    refused(workplace.train("trainer.max_epochs=1", override), *words)


def test_a_traceback_comes_on_request_and_always_into_the_log_of_the_run(tmp_path: Path):
    told = ["data=demo", "data.demo.scale=tinny", f"paths.data_dir={tmp_path}", f"hydra.run.dir={tmp_path / 'run'}"]
    refused(command("train.py", *told))
    assert "Traceback" in (tmp_path / "run" / "train.log").read_text()
    asked = command("train.py", *told, HYDRA_FULL_ERROR="1")
    assert asked.code == 1
    assert "Traceback" in asked.err and "data.demo.scale must be one of" in asked.err


def test_an_error_of_our_own_is_not_dressed_up_as_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def broken(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("towerrec.tasks.prepared_data", broken)
    outcome = command("train.py", "data=demo", "data.demo.scale=tiny", f"paths.log_dir={tmp_path}")
    assert outcome.code == 1
    assert "Traceback" in outcome.err and "a bug" in outcome.err


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "overrides", "words"),
    [
        ("", (), ("log.csv is empty",)),
        ("user_id,item_id,liked\n", (), ("holds a header but no rows",)),
        ("userid,item_id\n1,2\n", (), ("data.columns.user", "no column 'user_id'", "did you mean 'userid'?")),
        ("user_id,item_id\n" + ROWS, ("data.columns.label=likes",), ("data.columns.label", "no column 'likes'")),
        ("user_id,item_id,liked\n1,2,yes\n3,4,no\n", ("data.columns.label=liked",), ("holds String", "needs numbers")),
        ("user_id,item_id,t\n1,2,soon\n", ("data.columns.timestamp=t",), ("'soon' is not a time",)),
        ("user_id,item_id\n1.5,2\n", (), ("decimal numbers",)),
        ("user_id,item_id,liked\n" + ROWS.replace(",1\n", ",0\n"), ("data.columns.label=liked",), ("no train row",)),
        ("user_id,item_id,liked\n" + ROWS, ("loss=bce",), ("only positives", "negatives=uniform")),
        ("user_id,item_id,liked\n" + ROWS, ("split=time",), ("split=time", "data.columns.timestamp")),
        ("user_id,item_id,liked\n" + ROWS, ("label=liked",), ("label=liked", "no column 'watch_ratio'")),
        ("user_id,item_id,liked\n" + ROWS, ("eval.ks=[50]",), ("eval.ks: 50 is larger than the 15 candidates",)),
        ("user_id,item_id,liked\n" + ROWS, ("data.users=nowhere.csv",), ("data.users=nowhere.csv", "no such file")),
        ("user_id,item_id,liked\n" + ROWS, ("data.timezone=Mars",), ("data.timezone='Mars'",)),
        ("user_id,item_id,liked\n" + ROWS, ("data.separator='||'",), ("data.separator must be one character",)),
    ],
)
def test_a_log_that_cannot_be_used_says_why(
    tmp_path: Path, text: str, overrides: tuple[str, ...], words: tuple[str, ...]
):
    refused(own_log(tmp_path, *overrides, text=text), *words)
    cached = list((tmp_path / "cache").rglob("*")) if (tmp_path / "cache").exists() else []
    if "loss=bce" not in overrides and not any(o.startswith("eval") for o in overrides):
        assert not cached, "a log that was refused left something in the cache"


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (["data=interactions"], ("data.interactions=FILE", "got neither")),
        (["data=interactions", "data.interactions=nowhere.csv"], ("nowhere.csv: there is no such file",)),
        (["data=interactions", "data.train=a.csv"], ("data.test=FILE is missing",)),
        (["data=kuairec"], ("big_matrix.csv was not found", "data.download=true", "data=demo")),
        (["data=kuairec", "data.root=nowhere"], ("data.root nowhere does not exist",)),
        (["data.root=nowhere"], ("data.root nowhere does not exist",)),
        (["data=kuairand"], ("log_standard_*_pure.csv was not found",)),
    ],
)
def test_data_that_is_not_there_says_how_to_get_it(tmp_path: Path, told: list[str], words: tuple[str, ...]):
    refused(command("train.py", *told, f"paths.data_dir={tmp_path}", f"paths.log_dir={tmp_path}"), *words)


def test_a_truncated_zip_is_refused_and_stays_as_it_was(tmp_path: Path):
    whole, cut = tmp_path / "whole.zip", tmp_path / "KuaiRec.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("KuaiRec 2.0/data/big_matrix.csv", "user_id,video_id\n" * 1000)
    cut.write_bytes(whole.read_bytes()[:-30])
    before = cut.read_bytes()
    outcome = command("train.py", "data=kuairec", f"data.root={cut}", f"paths.log_dir={tmp_path / 'logs'}")
    refused(outcome, "is not a whole zip file", "data.download=true")
    assert cut.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {"whole.zip", "KuaiRec.zip", "logs"}


def test_a_damaged_csv_of_the_release_names_the_file_and_the_column(tmp_path: Path):
    data = tmp_path / "data"
    data.mkdir()
    for name in ("big_matrix", "small_matrix"):
        (data / f"{name}.csv").write_text("user_id,video,play_duration\n1,2,3\n")
    (data / "user_features.csv").write_text("user_id\n1\n")
    (data / "item_categories.csv").write_text("video_id,feat\n2,[1]\n")
    outcome = command("train.py", "data=kuairec", f"data.root={tmp_path}", f"paths.data_dir={tmp_path / 'own'}",
                      f"paths.log_dir={tmp_path / 'logs'}")  # fmt: skip
    refused(outcome, "_matrix.csv", "has no column 'video_id'", "did you mean 'video'?")


def test_a_damaged_cache_is_built_anew(tmp_path: Path):
    assert own_log(tmp_path).code == 0
    (complete,) = (p for p in (tmp_path / "cache").iterdir() if p.is_dir())
    victim = max((p for p in complete.rglob("*") if p.suffix == ".npy"), key=lambda p: p.stat().st_size)
    victim.write_bytes(victim.read_bytes()[:-7])
    outcome = own_log(tmp_path)
    assert outcome.code == 0, outcome.err
    # The log was written anew too, so the first build is told apart by its key: only one more may be there.
    run = Path(outcome.last_line.removeprefix("run directory: "))
    assert json.loads((run / "run.json").read_text())["prepared_from_cache"] is False


# --- run directories -------------------------------------------------------------------------------------------------


@pytest.fixture
def broken_run(demo_run: DemoRun, tmp_path: Path) -> Path:
    """A copy of a run, to be damaged."""
    return Path(shutil.copytree(demo_run.directory, tmp_path / "run"))


@pytest.mark.parametrize("script", ["recommend", "evaluate"])
def test_a_run_directory_that_is_none_is_named(workplace: Workplace, tmp_path: Path, script: str):
    ask = workplace.recommend if script == "recommend" else workplace.evaluate
    refused(ask(f"run={tmp_path / 'nowhere'}"), "nowhere", "train.py")
    refused(ask(f"run={tmp_path}"), "is not a", "train.py")


@pytest.mark.parametrize("script", ["recommend", "evaluate"])
def test_a_run_directory_without_a_checkpoint_says_what_it_holds(workplace: Workplace, broken_run: Path, script: str):
    ask = workplace.recommend if script == "recommend" else workplace.evaluate
    (broken_run / "checkpoints" / "best.ckpt").unlink()
    refused(ask(f"run={broken_run}"), "best.ckpt is missing", "last.ckpt", "choose checkpoint=last")
    shutil.rmtree(broken_run / "checkpoints")
    refused(ask(f"run={broken_run}"), "best.ckpt is missing", "train again")


def test_a_damaged_checkpoint_is_named(workplace: Workplace, broken_run: Path):
    path = broken_run / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[:2000])
    refused(workplace.recommend(f"run={broken_run}"), "best.ckpt", "damaged")
    torch.save({"weights": torch.zeros(3)}, path)
    refused(workplace.recommend(f"run={broken_run}"), "is not a checkpoint of towerrec")


def test_a_checkpoint_of_another_schema_is_refused(workplace: Workplace, broken_run: Path, demo_run: DemoRun):
    other = workplace.train("features=ids", "trainer.max_epochs=1")
    source = Path(other.last_line.removeprefix("run directory: ")) / "checkpoints" / "best.ckpt"
    shutil.copy(source, broken_run / "checkpoints" / "best.ckpt")
    for outcome in (workplace.recommend(f"run={broken_run}"), workplace.evaluate(f"run={broken_run}")):
        refused(outcome, "was trained with other features", "the checkpoint does not know")


def test_a_missing_or_damaged_catalogue_is_named(workplace: Workplace, broken_run: Path):
    files = (p for p in sorted((broken_run / "catalogue").rglob("*")) if p.is_file())
    for file in {p.suffix: p for p in files}.values():  # one of each kind
        whole = file.read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        refused(workplace.recommend(f"run={broken_run}", "n=2"), "catalogue")
        file.write_bytes(whole)
    shutil.rmtree(broken_run / "catalogue")
    refused(workplace.recommend(f"run={broken_run}"), "catalogue")


def test_a_run_is_not_judged_on_another_log(workplace: Workplace, demo_run: DemoRun):
    before = content(demo_run.directory)
    refused(workplace.evaluate(f"run={demo_run.directory}", "split=random"), "was trained on other users, items or")
    refused(workplace.evaluate(f"run={demo_run.directory}", "eval.ks=[1000]"), "1000 is larger than the 60 candidates")
    assert content(demo_run.directory) == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], ("exactly one of", "none of them")),
        (["run=a", "baseline=random"], ("exactly one of", "got run, baseline")),
        (["baseline=itemrate", "data=demo", "data.demo.scale=tiny"], ("did you mean 'item_rate'?",)),
        (["compare=[a]"], ("at least two",)),
        (["compare=[a,b]"], ("a holds no judgement", "evaluate.py run=a")),
        (["recommendations=nowhere.csv", "data=demo", "data.demo.scale=tiny", "eval.ks=[5]"], ("no such file",)),
        (["checkpoint=worst", "baseline=random"], ("checkpoint=worst is not known",)),
    ],
)
def test_evaluate_needs_one_clear_question(
    workplace: Workplace, demo_run: DemoRun, given: list[str], words: tuple[str, ...]
):
    refused(workplace.evaluate("eval.ks=[10]", *given), *words)


# --- files of users, items and lists ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("users.csv", b"", ("is empty",)),
        ("users.csv", b"user_id\n", ("holds no rows",)),
        ("users.csv", b"userid\n1\n", ("no column 'user_id'", "did you mean 'userid'?")),
        ("users.csv", b"user_id\n1\nabc\n", ("not of the log's type", "abc")),
        ("users.csv", b"user_id\n\n1\n2,\n", ("cannot be read",)),
        ("users.csv", b"user_id\n987654321\n", ("987654321", "in no table of the run", "user_active_degree")),
        ("users.txt", b"\xff\xfe\x00", ("cannot be read", "utf-8")),
        ("users.jsonl", b'{"user_id": 1\n', ("cannot be read",)),
        ("users.parquet", b"hello", ("cannot be read",)),
        ("users.foo", b"1\n", ("ending '.foo' is not known",)),
    ],
)
def test_a_file_of_users_that_cannot_be_used_says_why(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path, name: str, text: bytes, words: tuple[str, ...]
):
    (tmp_path / name).write_bytes(text)
    output = tmp_path / "lists.parquet"
    output.write_text("of yesterday")
    ask = [f"run={demo_run.directory}", f"users={tmp_path / name}", f"output={output}"]
    refused(workplace.recommend(*ask), name, *words)
    assert output.read_text() == "of yesterday"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("users=nowhere.csv", ("nowhere.csv: there is no such file",)),
        ("users=.", ("is a directory",)),
        ("items=nowhere.csv", ("nowhere.csv: there is no such file",)),
        ("candidates=nowhere.csv", ("nowhere.csv: there is no such file",)),
        ("n=0", ("n must be at least 1",)),
        ("memory_mb=0", ("memory_mb must be above 0",)),
        ("precision=int8", ("precision=int8 is not known", "bfloat16")),
        ("format=xml", ("format=xml is not known",)),
        ("at=tomorrow", ("at=tomorrow is not a moment",)),
        ("device=foo", ("device=foo is not known",)),
        ("output=.", ("could not write",)),
        ("output=/proc/nothing/lists.parquet", ("could not write /proc/nothing/lists.parquet",)),
        ("usrs=a.csv", ("did you mean 'users'?",)),
    ],
)
def test_a_wrong_request_for_lists_is_named(
    workplace: Workplace, demo_run: DemoRun, override: str, words: tuple[str, ...]
):
    before = content(demo_run.directory)
    refused(workplace.recommend(f"run={demo_run.directory}", override), *words)
    assert content(demo_run.directory) == before


def test_new_items_need_ids_of_their_own_and_all_columns(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    file = tmp_path / "items.csv"
    file.write_text("item_id,caption\n999999,new\n")
    refused(workplace.recommend(f"run={demo_run.directory}", f"items={file}"), "lacks the feature columns", "feat")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("cannot be read",)),
        ("user_id,item_id\n1,2\n", ("no column 'rank'",)),
        ("user_id,item_id,rank\n1,987654,1\n", ("987654", "in no row of the log")),
        ("user_id,item_id,rank\n1,2,first\n", ("'rank' must hold numbers",)),
        ("user,item_id,rank\n1,2,1\n", ("no column 'user_id'",)),
    ],
)
def test_a_foreign_list_file_that_cannot_be_judged_says_why(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path, text: str, words: tuple[str, ...]
):
    file = tmp_path / "lists.csv"
    file.write_text(text)
    ask = [f"recommendations={file}", "data=demo", "data.demo.scale=tiny", "eval.ks=[10]"]
    refused(workplace.evaluate(*ask, f"output={tmp_path / 'out'}"), "lists.csv", *words)
    assert not (tmp_path / "out").exists()


# --- disks -----------------------------------------------------------------------------------------------------------


def with_files_up_to(limit: int, script: str, *arguments: str) -> Outcome:
    """A process that cannot write a file beyond `limit` bytes: what a full disk looks like from inside."""

    def restrict() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, script, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=restrict,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_a_full_disk_leaves_the_old_list_file(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    output = tmp_path / "lists.csv"
    output.write_text("of yesterday")
    ask = [f"run={demo_run.directory}", f"output={output}", "format=csv", workplace.paths[1]]
    refused(with_files_up_to(20_000, "recommend.py", *ask), f"could not write {output}", "File too large")
    assert output.read_text() == "of yesterday"
    assert [p.name for p in tmp_path.iterdir()] == ["lists.csv"]


def test_a_full_disk_while_preparing_leaves_no_cache_that_loads(tmp_path: Path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\n" + "".join(f"{row % 997},{row % 89}\n" for row in range(30_000)))
    ask = ["data=interactions", f"data.interactions={log}", "eval.ks=[3]", "trainer.max_epochs=1"]
    place = [f"paths.data_dir={tmp_path}", f"paths.log_dir={tmp_path / 'logs'}"]
    refused(with_files_up_to(60_000, "train.py", *ask, *place), "could not write", "free some space")
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.slow
def test_a_full_disk_while_simulating_leaves_no_log_that_reads(tmp_path: Path):
    place = [f"paths.data_dir={tmp_path}", f"paths.log_dir={tmp_path / 'logs'}"]
    outcome = with_files_up_to(150_000, "train.py", "data=demo", "data.demo.scale=tiny", *place)
    refused(outcome, "could not write the simulated log", "make room there")
    assert list(tmp_path.rglob("*.csv")) == []


@pytest.mark.slow
def test_a_full_disk_while_saving_weights_leaves_no_run_that_looks_finished(workplace: Workplace, demo_run: DemoRun):
    run = workplace.root / "cut"
    told = ["data=demo", "data.demo.scale=tiny", "eval.ks=[10,20]", "trainer.max_epochs=2", "trainer.accelerator=cpu"]
    outcome = with_files_up_to(150_000, "train.py", *told, *workplace.paths, f"hydra.run.dir={run}")
    refused(outcome, "File too large", "free some space")
    assert not (run / "run.json").exists()
    refused(workplace.recommend(f"run={run}"), "is not a finished run")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id,liked\n" + ROWS)
    ask = ["data=interactions", f"data.interactions={log}", "eval.ks=[3]"]
    (tmp_path / "file").write_text("in the way")
    for paths in (
        [f"paths.data_dir={tmp_path}", f"paths.log_dir={tmp_path / 'file' / 'logs'}"],
        [f"paths.cache_dir={tmp_path / 'file' / 'cache'}", f"paths.log_dir={tmp_path / 'logs'}"],
    ):
        refused(command("train.py", *ask, *paths), str(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "in the way"
    assert pl.read_csv(log).height == 300
