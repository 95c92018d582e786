"""The architecture is a test: which module may import which, and how large files may grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "towerrec"
LEAVES = {"schema", "ragged", "positive", "decay", "files", "progress", "cost", "checksums", "npy"}
LEAVES |= {"wording", "unreadable", "reading_back", "parquet_pages"}  # words for what cannot be read

# room -> (rooms of ours it may import, third-party packages it must not import)
ALLOWED: dict[str, tuple[set[str], set[str]]] = {
    "schema": (set(), {"polars", "lightning", "hydra", "omegaconf"}),
    "ragged": (set(), {"polars", "lightning", "hydra", "omegaconf"}),
    "positive": (set(), {"lightning", "hydra", "omegaconf"}),
    "progress": (set(), {"polars", "torch", "lightning", "hydra", "omegaconf"}),
    "decay": ({"schema"}, {"polars", "lightning", "hydra", "omegaconf"}),
    "nn": (LEAVES | {"nn"}, {"polars", "lightning", "hydra", "omegaconf"}),
    "metrics.functional": (LEAVES, {"polars", "lightning", "hydra", "omegaconf"}),
    "metrics": (LEAVES | {"metrics"}, {"polars", "lightning", "hydra", "omegaconf"}),
    "retrieval.search": (LEAVES | {"retrieval"}, {"polars", "lightning", "hydra", "omegaconf"}),
    "retrieval.index": (LEAVES | {"retrieval"}, {"polars", "lightning", "hydra", "omegaconf"}),
    "retrieval": (LEAVES | {"retrieval", "nn", "data.catalogue"}, {"lightning", "hydra", "omegaconf"}),
    "baselines": (LEAVES | {"baselines", "data.store", "retrieval"}, {"lightning", "hydra", "omegaconf"}),
    "report": (LEAVES | {"report", "metrics", "retrieval"}, {"lightning", "hydra", "omegaconf"}),
    "data.datamodule": (LEAVES | {"data"}, {"hydra", "omegaconf"}),
    "data": (LEAVES | {"data"}, {"lightning", "hydra", "omegaconf"}),
    "resident": (LEAVES | {"nn", "retrieval"}, {"polars", "lightning", "hydra", "omegaconf"}),
    "validation": (LEAVES | {"nn", "metrics", "retrieval", "resident"}, {"polars", "lightning", "hydra", "omegaconf"}),
    "module": (LEAVES | {"nn", "optim", "resident", "validation"}, {"polars", "hydra", "omegaconf"}),
    "curves": (LEAVES, {"polars", "hydra", "omegaconf"}),
    # The rest of this room, `tensorboard.results`, needs a whole run, as the modules at the top do that call it.
    "tensorboard.logger": (LEAVES, {"polars", "hydra", "omegaconf"}),
    "tensorboard.histograms": (LEAVES | {"nn", "module"}, {"polars", "hydra", "omegaconf"}),
    "tensorboard.hparams": (LEAVES | {"report"}, {"lightning", "hydra", "omegaconf"}),
    "tensorboard.pictures": (LEAVES | {"report"}, {"lightning", "hydra", "omegaconf"}),
    "tensorboard.projector": (LEAVES, {"lightning", "hydra", "omegaconf"}),
    "callbacks": (LEAVES | {"nn", "metrics", "retrieval", "module"}, {"polars", "hydra", "omegaconf"}),
}


def room_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def rule_for(room: str) -> tuple[set[str], set[str]] | None:
    parts = room.split(".")
    for length in range(len(parts), 0, -1):
        rule = ALLOWED.get(".".join(parts[:length]))
        if rule is not None:
            return rule
    return None


def imports_of(path: Path) -> set[str]:
    """Dotted names of all modules a file imports, however deep inside it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import; write the full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=room_of)
def test_every_import_follows_an_arrow_of_the_house(path: Path):
    rule = rule_for(room_of(path))
    if rule is None:
        return
    rooms, forbidden = rule
    for name in imports_of(path):
        assert name.split(".")[0] not in forbidden, f"{room_of(path)} must not import {name}"
        if name.startswith("towerrec."):
            target = name.removeprefix("towerrec.")
            assert any(target == room or target.startswith(f"{room}.") for room in rooms), (
                f"{room_of(path)} must not import {name}; it may import {sorted(rooms)}"
            )


def test_hydra_lives_in_the_config_around_the_jobs_and_in_the_scripts():
    users = {room_of(p) for p in FILES if any(n.split(".")[0] in ("hydra", "omegaconf") for n in imports_of(p))}
    assert users == {"config", "config_build", "config_of_run", "job_callbacks", "mistakes"}


def test_sweepers_live_where_hydra_looks_for_them_and_bring_nothing_heavy_on_every_start():
    light = {"sweep_jobs", "sweep_space", "sweeping", "files", "ablation"}
    for path in (ROOT / "src" / "hydra_plugins").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("towerrec"):
                names = {alias.name for alias in node.names} if node.module == "towerrec" else {str(node.module)[9:]}
                assert names <= light, f"{path}: import {names - light} where it is needed"


def test_there_is_no_utils_module_and_no_file_beyond_reason():
    assert not list(SOURCE.rglob("*utils*.py"))
    long = {room_of(p): n for p in FILES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long, f"split these files: {long}"


def test_entrypoints_stay_under_ten_statements():
    for name in ("train.py", "recommend.py", "evaluate.py"):
        tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
        assert sum(isinstance(node, ast.stmt) for node in ast.walk(tree)) < 12


def test_nothing_evaluates_text_or_unpickles():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{path}: {node.func.id}"
        assert not any(name.split(".")[0] == "pickle" for name in imports_of(path)), path
