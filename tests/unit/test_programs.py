"""Exported towers compute what the model computes, for any number of rows, wherever they run.

Vectors are compared in units of their length where that is above 1 (`exporting_towers.difference`).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import NUM_ITEMS, schema_of, tables_of
from test_two_tower import perturbed, with_context

from towerrec.choices import BY_ROWS, BY_USERS
from towerrec.exporting_towers import difference
from towerrec.nn.ensemble import Model, build_model, members_of
from towerrec.nn.lookup import Lists, pooled, pooled_padded
from towerrec.nn.programs import ItemProgram, ProgramInput, UserProgram, program_inputs
from towerrec.retrieval.export_towers import read_onnx, read_pt2, traced, write_onnx, write_pt2
from towerrec.schema import FIRST, FeatureSchema, FeatureSpec, Side

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
try:
    from export_rows import by_model, drawn
finally:
    sys.path.remove(str(ROOT / "benchmarks"))

SMALL = {"name": "small", "embedding_dim": 6, "feature_dim": 3, "user_hidden": [5], "item_hidden": [4], "init_std": 0.5}
PROFILE = {"profile": "rows", "use_user_id": False, "similarity": "cosine", "scale": 5.0}
HISTORY = {"history": "transformer", "history_dim": 4, "history_positions": 3}


def schema() -> FeatureSchema:
    """Every kind of feature, and names that are no words of a programming language."""
    planted = with_context(schema_of())
    more = (
        FeatureSpec("兴趣 (tags)", "user", "multi", cardinality=9, width=4),
        FeatureSpec("fans_missing", "user", "numeric"),
        FeatureSpec("history", "user", "categorical", cardinality=5),
        FeatureSpec("weekday", "user", "categorical", cardinality=FIRST + 7, context=True),
    )
    return FeatureSchema((*planted.features, *more), planted.num_users, planted.num_items)


def made(model: dict[str, Any]) -> tuple[Model, torch.Tensor | None]:
    """A model without a parameter at zero, and the vectors of its items without a context."""
    torch.manual_seed(0)
    built = build_model(schema(), {**SMALL, **model})
    for member in members_of(built):
        perturbed(member)
        for module in member.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_()  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    built.eval()
    packed = built.pack("item", tables_of()[1])
    with torch.no_grad():
        return built, None if built.profile is None else built.item_vectors(packed)


def programs(model: Model, item_IV: torch.Tensor | None) -> dict[Side, UserProgram | ItemProgram]:
    return {"user": UserProgram(model, item_IV, history_length=100), "item": ItemProgram(model)}


def rows_of(inputs: tuple[ProgramInput, ...], num_rows: int, length: int = 5) -> dict[str, torch.Tensor]:
    return drawn(inputs, num_rows, num_items=NUM_ITEMS, length=length, seed=num_rows)


@pytest.mark.parametrize(
    ("model", "sides"),
    [({**HISTORY, "norm": "batch"}, ["user"]), (PROFILE, ["user"])],
    ids=["history", "profile"],
)
def test_both_formats_compute_what_the_model_does_for_one_row_and_for_many(
    model: dict[str, Any], sides: list[Side], tmp_path: Path
):
    pytest.importorskip("onnxruntime")
    built, item_IV = made(model)
    for side in sides:
        program = programs(built, item_IV)[side]
        graph = traced(program)
        write_pt2(graph, tmp_path / "tower.pt2")
        write_onnx(graph, program.inputs, tmp_path / "tower.onnx")
        for read, ending in ((read_pt2, "pt2"), (read_onnx, "onnx")):
            asked = read(tmp_path / f"tower.{ending}")
            for num_rows, length in ((1, 1), (1, 7), (300, 1), (300, 9)):
                columns = rows_of(program.inputs, num_rows, length)
                want = by_model(built, side, program.inputs, columns, item_IV)
                assert difference(asked(columns), want) < 1e-5, (side, ending, num_rows, length)


# Every model of conf/model, and between them every option that computes something else.
SHIPPED = {
    "nothing_but_a_profile": {**BY_USERS, "use_features": False},
    "matrix_factorization": {"use_features": False, "user_hidden": [], "item_hidden": []},
    "two_tower_by_rows": {**BY_ROWS, "norm": "layer", "residual": True, "residual_id": False, "activation": "gelu"},
    "two_tower_by_users": {**BY_USERS, "members": 2, "pooling": "sqrt"},
    "two_tower_positives": {**BY_USERS, "profile": "positives", "history": "recency", "history_dim": 4},
    "two_tower_dcn": {"user_cross": 2, "item_cross": 2, "cross_rank": 3, "cross_structure": "parallel"},
    "two_tower_features": {"use_ids": False, "output_activation": True, "user_bias": False, "item_bias": False},
    "two_tower_history": {"history_dim": 6, "history_shared": True},
    "two_tower_attention": {"history": "attention", "history_dim": 4, "history_positions": 3, "global_bias": False},
    "two_tower_transformer": {**HISTORY, "history_layers": 2, "pooling": "sum"},
}


@pytest.mark.slow
def test_every_model_runs_where_this_package_cannot_be_imported(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    for name, model in SHIPPED.items():
        built, item_IV = made({**model, "embedding_dim": 6})
        for side, program in programs(built, item_IV).items():
            folder = tmp_path / f"{name}-{side}"
            folder.mkdir()
            graph = traced(program)
            write_pt2(graph, folder / "tower.pt2")
            write_onnx(graph, program.inputs, folder / "tower.onnx")
            for num_rows in (1, 500):
                columns = rows_of(program.inputs, num_rows)
                want = by_model(built, side, program.inputs, columns, item_IV)
                arrays = [column.numpy() for column in columns.values()]
                np.savez(folder / f"{num_rows}.npz", *arrays, want=want.numpy())
            (folder / "inputs.json").write_text(json.dumps([given.name for given in program.inputs]))
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "unit" / "exported_elsewhere.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "", "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    furthest = json.loads(done.stdout)
    assert len(furthest) == 4 * len(SHIPPED)
    assert max(furthest.values()) < 1e-5, furthest


def test_of_a_history_count_the_last_items_of_the_training_as_they_do_when_lists_are_made():
    program = UserProgram(made({"history_dim": 4})[0], history_length=3)
    columns = rows_of(program.inputs, 2)
    name = next(given.name for given in program.inputs if given.role == "history")
    with torch.no_grad():
        want = program(columns | {name: torch.tensor([[4, 2, -1], [1, -1, 3]])})
        longer = program(columns | {name: torch.tensor([[4, 2, NUM_ITEMS + 5, 0], [1, NUM_ITEMS, 3, 6]])})
    torch.testing.assert_close(longer, want, atol=0.0, rtol=0.0)


def test_a_program_holds_the_weights_of_its_own_tower_and_no_rows_of_the_tables():
    built, _ = made({"history_dim": 6, "history_shared": True})
    for side, program in programs(built, None).items():
        own = {parameter.data_ptr() for parameter in program.parameters()}
        theirs = {parameter.data_ptr() for parameter in built.parameters()}
        assert own < theirs, "a copy of the weights would double the memory"
        names = " ".join(name for name, _ in program.named_parameters())
        assert f"{side}_tower.features" in names
        assert ("item_tower" if side == "user" else "user_tower") not in names
    assert built.user_tower is not None and built.item_tower is not None, "the model itself stays whole"


def test_inputs_have_names_of_their_own_and_say_what_stands_for_a_missing_value():
    built, _ = made({"history_dim": 4})
    inputs = {given.name: given for given in program_inputs(built, "user")}
    assert inputs["history"].spec is not None and inputs["history_items"].role == "history"
    assert inputs["history_items"].shape == ("rows", "history") and inputs["history_items"].absent == -1
    assert [inputs[name].absent for name in ("user_id", "fans", "fans_missing", "兴趣 (tags)", "hour")] == [
        1,
        0,
        1,
        0,
        1,
    ]
    assert inputs["兴趣 (tags)"].shape == ("rows", 4)


@pytest.mark.parametrize("pooling", ["mean", "sum", "sqrt"])
def test_lists_with_their_padding_pool_to_what_they_do_without(pooling: str):
    lists = torch.tensor([[0, 2, 0, 3], [0, 0, 0, 0], [4, 4, 1, 2]])
    table = torch.randn(5, 3)
    torch.testing.assert_close(pooled_padded(table, lists, pooling), pooled(table, Lists.of(lists), pooling))


def test_what_is_traced_says_nothing_of_this_machine(tmp_path: Path):
    built, _ = made({})
    graph = traced(ItemProgram(built))
    write_pt2(graph, tmp_path / "item.pt2")
    held = (tmp_path / "item.pt2").read_bytes()
    assert str(ROOT).encode() not in held and b"towerrec" not in held


def test_a_damaged_program_is_named(tmp_path: Path):
    (tmp_path / "user.pt2").write_bytes(b"PK\x03\x04 no program")
    with pytest.raises(ValueError, match=r"user\.pt2 cannot be read as a torch\.export program"):
        read_pt2(tmp_path / "user.pt2")


EVIL = {
    "an expression that runs": ("model.json", b"Symbol(", b"exec('boom') or Symbol("),
    "a call by attribute": ("model.json", b"Symbol('s", b"().__class__.mro or Symbol('s"),
    "another operator": ("model.json", b"torch.ops.aten.linear.default", b"torch.ops.aten.linear.default;os"),
    "a function of torch": ("model.json", b"torch.ops.aten.relu.default", b"torch.hub.load"),
    "a pickle": ("model_weights_config.json", b'"use_pickle": false', b'"use_pickle": true'),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "item.pt2"
    write_pt2(traced(ItemProgram(made({})[0])), path)
    return path


@pytest.mark.parametrize("kind", EVIL)
def test_a_program_that_would_run_something_else_is_refused_before_it_is_read(kind: str, program: Path, tmp_path: Path):
    name, was, becomes = EVIL[kind]
    with zipfile.ZipFile(program) as whole, zipfile.ZipFile(tmp_path / "item.pt2", "w") as evil:
        for member in whole.namelist():
            content = whole.read(member)
            evil.writestr(member, content.replace(was, becomes, 1) if member.endswith(name) else content)
            assert not member.endswith(name) or was in content
    with pytest.raises(ValueError, match=r"item\.pt2 cannot be read as a torch\.export program \(it holds"):
        read_pt2(tmp_path / "item.pt2")


def test_a_program_with_a_compiled_library_or_a_pickled_input_is_refused(program: Path, tmp_path: Path):
    shutil.copy(program, tmp_path / "item.pt2")
    with zipfile.ZipFile(tmp_path / "item.pt2", "a") as evil:
        evil.writestr("item/data/aotinductor/model/model.so", b"ELF")
    with pytest.raises(ValueError, match=r"it holds 'item/data/aotinductor/model/model\.so'"):
        read_pt2(tmp_path / "item.pt2")
    acts = b"cbuiltins\nexec\n(S'raise SystemExit(7)'\ntR."
    with zipfile.ZipFile(program) as whole, zipfile.ZipFile(tmp_path / "item.pt2", "w") as evil:
        for member in whole.namelist():
            evil.writestr(member, acts if member.endswith("model.pt") else whole.read(member))
    with pytest.raises(ValueError, match=r"item\.pt2 cannot be read"):
        read_pt2(tmp_path / "item.pt2")
