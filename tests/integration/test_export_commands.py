"""`recommend.py export=FOLDER`: a folder that serves without this package, and says when it is not to be trusted."""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from commands import REPOSITORY, command
from conftest import DemoRun, Workplace

from towerrec import exporting, exporting_towers
from towerrec.data.catalogue import load_catalogue
from towerrec.nn.two_tower import TwoTower
from towerrec.retrieval import export_folder, export_towers
from towerrec.retrieval.export_folder import TOWERS, is_export, load_export
from towerrec.retrieval.manifest import stamps
from towerrec.retriever import Retriever
from towerrec.schema import fingerprint

pytest.importorskip("onnxruntime")
pytest.importorskip("faiss")

# Starts the example where nothing but numpy, onnxruntime and faiss can be imported.
ELSEWHERE = """
import runpy, sys
for name in ("towerrec", "torch", "polars", "lightning", "hydra", "pyarrow", "pandas", "onnx"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])  # where a script finds what lies beside it
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def exported(demo_run: DemoRun, workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo run, exported; tests read it, and change copies."""
    folder = tmp_path_factory.mktemp("export") / "数据 of a run"
    outcome = workplace.recommend(f"run={demo_run.directory}", f"export='{folder}'")
    assert outcome.code == 0, outcome.err
    assert "towers as ONNX and torch.export" in outcome.out and "approximate index, flat: recall@10 1.0" in outcome.out
    assert "torch.onnx" not in outcome.out + outcome.err and "[torch" not in outcome.out, "exporters print much"
    return folder


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    return shutil.copytree(exported, tmp_path / "copy")


def served(folder: Path, asked: dict[str, Any]) -> list[Any]:
    script = str(REPOSITORY / "docs" / "serve.py")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, script, str(folder), json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    items: list[Any] = json.loads(done.stdout)
    return items


def test_the_example_serves_users_as_the_run_does_without_this_package_or_torch(exported: Path, demo_run: DemoRun):
    retriever = Retriever.load(demo_run.directory)
    user = retriever.user_ids[3]
    want = retriever.recommend([user], n=10)
    assert served(exported, {"user_id": user}) == want["item_id"].to_list()
    features = {"user_active_degree": "full_active", "onehot_feat3": 2, "fans_user_num": 17, "register_days": None}
    new = pl.DataFrame({"user_id": [-5], **{name: [value] for name, value in features.items()}})
    lacking = retriever.catalogue.encoders.missing_columns("user", new.columns)
    new = new.with_columns(pl.lit(None).alias(name) for name in lacking)
    want = retriever.recommend(new, n=10)
    said = {name: value for name, value in features.items() if value is not None}
    assert served(exported, said) == want["item_id"].to_list()


@pytest.fixture(scope="module")
def own_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ids that are texts, and of every kind of feature one column."""
    folder, draw = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    users, items = [f"用户 {number}" for number in range(40)], [f"=v-{number}<b>" for number in range(50)]
    pl.DataFrame(
        {
            "user_id": draw.choice(users, 1500),
            "item_id": draw.choice(items, 1500),
            "timestamp": 1_700_000_000 + draw.integers(0, 10**6, 1500),
            "label": draw.integers(0, 2, 1500),
        }
    ).write_csv(folder / "log.csv")
    table = {
        "user_id": users,
        "city": draw.choice(["北京", "München"], 40),
        "age": [None if number % 9 == 0 else float(number) for number in range(40)],
        "bio": [f"word{number % 7} 看猫 number {number}" for number in range(40)],
        "likes": [[f"t{number % 3}", f"t{number % 5}"] for number in range(40)],
        "face": draw.normal(size=(40, 3)).tolist(),
    }
    pl.DataFrame(table).write_parquet(folder / "users.parquet")
    return folder


@pytest.mark.slow
def test_every_kind_of_user_is_served_as_by_the_run_with_every_kind_of_feature(
    own_log: Path, workplace: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    log = ["data=interactions", f"data.interactions={own_log / 'log.csv'}", f"data.users={own_log / 'users.parquet'}"]
    model = ["model=two_tower_transformer", "model.profile=rows", "eval.baselines=[]", "features=auto"]
    few = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "eval.ks=[20]", "loader.history_length=5"]
    trained = command("train.py", *workplace.paths, *log, *model, *few)
    assert trained.code == 0, trained.err
    run = trained.last_line.removeprefix("run directory: ")
    outcome = workplace.recommend(f"run={run}", f"export={own_log / 'out'}", "export_index=exact")
    assert outcome.code == 0, outcome.err
    capsys.readouterr()
    retriever = Retriever.load(run)
    users, items = retriever.user_ids.to_list(), retriever.item_ids.to_list()
    features = {
        "city": "北京",
        "age": 17,
        "bio": "Word3, 看猫?",
        "likes": ["t1", "no", "t1", "t0"],
        "face": [1.0, 2.0, 0.5],
    }
    new = pl.DataFrame({"user_id": ["new"], **{name: [value] for name, value in features.items()}})
    rows = {"user_id": ["new"] * 8, "item_id": items[:8], "label": [1] * 7 + [0]}
    asked = [
        ({"user_id": users[4]}, retriever.recommend([users[4]], n=10)),
        (features, retriever.recommend(new, n=10)),
        ({**features, "age": None}, retriever.recommend(new.with_columns(age=pl.lit(None, pl.Float64)), n=10)),
        # The rows of a person come in the order of time, what is asked of the example the latest first.
        (
            {"liked": items[:7][::-1], "shown": items[7:8]},
            retriever.recommend(["new"], history=pl.DataFrame(rows), n=10),
        ),
    ]
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs"))
    for question, want in asked:
        monkeypatch.setattr(sys, "argv", ["serve.py", str(own_log / "out"), json.dumps(question)])
        runpy.run_path(str(REPOSITORY / "docs" / "serve.py"))
        assert json.loads(capsys.readouterr().out) == want["item_id"].to_list(), question
    exported = Retriever.load(own_log / "out")
    for ask in (
        lambda r: r.recommend(new),
        lambda r: r.recommend(["new"], history=pl.DataFrame(rows)),
        lambda r: r.similar(),
    ):
        got, want = ask(exported), ask(retriever)
        assert got.drop("score").equals(want.drop("score"))
        np.testing.assert_allclose(got["score"], want["score"], atol=1e-5)


def test_the_folder_says_what_lies_where(exported: Path):
    about = json.loads((exported / "manifest.json").read_text(encoding="utf-8"))
    assert all((exported / name).exists() for name in about["contents"])
    assert {name.partition("/")[0] for name in about["files"]} <= {
        name.partition("/")[0].replace(".json", end) for name in about["contents"] for end in (".json", ".parquet")
    }
    towers = json.loads((exported / TOWERS).read_text(encoding="utf-8"))
    age = next(given for given in towers["item"]["inputs"] if "days" in given.get("known", {}))
    assert len(np.load(exported / age["known"]["days"])) == about["num_items"] and about["moment_ms"] > 0


def test_the_example_is_thirty_lines_of_code():
    text = (REPOSITORY / "docs" / "serve.py").read_text(encoding="utf-8")
    code = text.split('"""')[2].splitlines()
    assert sum(bool(line.strip()) and not line.strip().startswith("#") for line in code) <= 30


def test_what_is_read_back_scores_as_the_run_it_came_from(exported: Path, demo_run: DemoRun):
    export, retriever = load_export(exported), Retriever.load(demo_run.directory)
    assert export.name == "two_tower" and export.approximate is not None and export.at_ms is None
    items = retriever.scores.items()
    torch.testing.assert_close(export.index.vectors_CD, items[export.index.item_idx_C], atol=0.0, rtol=0.0)
    assert json.loads((exported / "items.json").read_text()) == retriever.item_ids.to_list()
    table = pl.read_parquet(exported / "users.parquet")
    assert table["user_id"].to_list() == retriever.user_ids.to_list() and table["row"].to_list()[:3] == [0, 1, 2]
    packed = export.model.pack("user", export.catalogue.users).gather(torch.tensor([4, 0, 4]))
    want = retriever.scores.users(torch.tensor([4, 0, 4]))
    torch.testing.assert_close(export.model.user_vectors(packed), want, atol=1e-5, rtol=0.0)


@pytest.mark.slow
def test_candidates_moment_new_items_and_no_approximate_index_are_options_of_an_export(
    demo_run: DemoRun, workplace: Workplace, tmp_path: Path
):
    catalogue = load_catalogue(demo_run.directory / "catalogue")
    new: dict[str, Any] = {"item_id": [10**12, 10**12 + 1], "feat": [[1], [2, 3]], "caption": ["new", "newer"]}
    new |= {name: [None, None] for name in catalogue.encoders.missing_columns("item", list(new))}
    pl.DataFrame(new).write_parquet(tmp_path / "new.parquet")
    chosen = [*catalogue.item_ids.to_list()[:7], 10**12]
    outcome = workplace.recommend(
        f"run={demo_run.directory}",
        f"export={tmp_path / 'out'}",
        "export_index=exact",
        f"items={tmp_path / 'new.parquet'}",
        f"candidates={chosen}",
        "at=2020-09-05T20:00",
    )
    assert outcome.code == 0, outcome.err
    export = load_export(tmp_path / "out")
    assert export.approximate is None and export.at_ms == 1599307200000
    assert export.catalogue.item_ids.gather(export.index.item_idx_C.numpy()).to_list() == chosen
    listed = Retriever.load(tmp_path / "out").recommend(n=100, exclude_seen=False)["item_id"]
    assert set(listed) == set(chosen), "lists hold what the index holds, unless a request says otherwise"
    assert len(export.catalogue.item_ids) == len(catalogue.item_ids) + 2 == export.catalogue.items.num_rows


REFUSED = [
    (["users=[1]"], "users=[1] asks for lists, an export has none"),
    (["n=5"], "n=5 asks for lists"),
    (["export_index=tree"], "export_index=tree is not known; choose from auto, exact, flat"),
    (["export=null", "export_index=flat"], "export_index=flat is part of an export"),
    (["export={root}"], "there is something else, which would be lost"),
]


@pytest.mark.parametrize(("said", "message"), REFUSED, ids=[" ".join(said) for said, _ in REFUSED])
def test_what_an_export_cannot_do_is_refused_before_any_work(
    said: list[str], message: str, demo_run: DemoRun, workplace: Workplace, tmp_path: Path
):
    (tmp_path / "precious.txt").write_text("mine")
    given = [word.format(root=tmp_path) for word in said]
    base = [] if any(word.startswith("export=") for word in given) else [f"export={tmp_path / 'out'}"]
    outcome = workplace.recommend(f"run={demo_run.directory}", *base, *given)
    assert outcome.code == 1 and message in outcome.message, outcome.message
    assert [held.name for held in tmp_path.iterdir()] == ["precious.txt"]


def test_without_the_extra_one_message_names_what_is_missing_and_how_to_install_it(
    demo_run: DemoRun, workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(export_towers, "find_spec", lambda name: None)
    outcome = workplace.recommend(f"run={demo_run.directory}", f"export={tmp_path / 'out'}")
    assert outcome.message == 'export=FOLDER needs onnx, onnxscript, onnxruntime: pip install -e ".[export]"'
    assert not list(tmp_path.iterdir())


def test_an_older_export_gives_way_to_a_newer_one_and_a_failed_one_leaves_it_as_it_was(
    copied: Path, demo_run: DemoRun, workplace: Workplace, monkeypatch: pytest.MonkeyPatch
):
    before = stamps(copied)
    command = [f"run={demo_run.directory}", f"export={copied}", "export_index=exact"]

    def failing(*_: Any, **__: Any) -> dict[str, float]:
        raise ValueError("the towers cannot be written")

    monkeypatch.setattr(exporting, "write_towers", failing)
    assert workplace.recommend(*command).message == "the towers cannot be written"
    assert stamps(copied) == before and [held.name for held in copied.parent.iterdir()] == [copied.name]
    monkeypatch.setattr(exporting, "write_towers", lambda *_, **__: {"onnx": 0.0, "pt2": 0.0})
    outcome = workplace.recommend(*command)
    assert outcome.code == 0 and not (copied / "index" / "faiss").exists() and is_export(copied)


def test_towers_that_compute_something_else_than_the_model_are_refused(
    copied: Path, demo_run: DemoRun, monkeypatch: pytest.MonkeyPatch
):
    shutil.rmtree(copied / "towers")
    for name in ("traced", "write_pt2"):
        monkeypatch.setattr(exporting_towers, name, lambda *_: None)
    monkeypatch.setattr(exporting_towers, "write_onnx", lambda *_: 20)
    monkeypatch.setattr(export_folder, "model_of", lambda *_, **__: None)
    monkeypatch.setattr(exporting_towers, "parity", lambda *_, **__: float("nan"))
    retriever = Retriever.load(demo_run.directory)
    model = retriever.scores.model
    assert isinstance(model, TwoTower)
    with pytest.raises(ValueError, match=r"exported towers \(onnx\) differ from the model by nan"):
        exporting_towers.write_towers(copied, model, retriever.catalogue, history_length=0)
    assert not (copied / TOWERS).exists()


@pytest.mark.parametrize(
    "name",
    ["towers/user.onnx", "towers/item.pt2", "catalogue/users/0.npy", "users.json", "index/vectors.npy", "schema.json"],
)
def test_a_changed_or_missing_file_is_named(copied: Path, name: str):
    whole = (copied / name).read_bytes()
    (copied / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match=f"{name} is damaged or of another artefact: its SHA-256"):
        load_export(copied)
    (copied / name).write_bytes(whole[:-1])
    with pytest.raises(ValueError, match=f"{name} is damaged: it has [0-9,]+ bytes"):
        load_export(copied)
    (copied / name).unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        load_export(copied)


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a part says of its features, and its fingerprint with it: an artefact of another run."""
    about = json.loads(path.read_text(encoding="utf-8"))
    change(about["schema"])
    about["schema_fingerprint"] = fingerprint(about["schema"])
    path.write_text(json.dumps(about), encoding="utf-8")


def one_more_tag(schema: dict[str, Any]) -> None:
    next(spec for spec in schema["features"] if spec["name"] == "tags")["cardinality"] += 1


def no_fans(schema: dict[str, Any]) -> None:
    schema["features"] = [spec for spec in schema["features"] if spec["name"] != "fans_user_num"]


def more_users(schema: dict[str, Any]) -> None:
    schema["num_users"] += 50


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (TOWERS, one_more_tag, r"'tags' has cardinality \d+ in .*index/index.json and \d+ in .*towers/towers.json"),
        ("index/index.json", no_fans, r"'fans_user_num' is only in .*towers/towers.json"),
        ("vocabularies/user.json", more_users, r"users and .* items in .*index.json, .* in .*vocabularies/user.json"),
    ],
    ids=["towers", "index", "vocabularies"],
)
def test_parts_of_different_runs_are_refused_with_both_names_and_the_first_difference(
    copied: Path, part: str, change: Callable[[dict[str, Any]], None], message: str
):
    changed(copied / part, change)
    with pytest.raises(ValueError, match="were made with different features .*" + message):
        load_export(copied)


def test_an_artefact_of_an_unknown_format_or_none_at_all_is_refused(copied: Path):
    for name in (TOWERS, "manifest.json"):
        about = json.loads((copied / name).read_text(encoding="utf-8"))
        (copied / name).write_text(json.dumps(about | {"format": 99}), encoding="utf-8")
        with pytest.raises(ValueError, match=rf"{name}: format 99 is not known, this version reads 1; export again"):
            load_export(copied)
    (copied / "manifest.json").write_text("{}")
    assert not is_export(copied)
    with pytest.raises(ValueError, match="is no exported folder"):
        load_export(copied)
