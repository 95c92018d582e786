"""The config in a run directory from elsewhere: what it names is built only where it is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from towerrec.config import _typed as typed
from towerrec.config_of_run import read_config
from towerrec.config_tasks import TrainConfig

BUILDS = {
    "shell": ("label: {_target_: os.system, command: touch pwned}", "label._target_=os.system is no class of"),
    "process in a list": ("loss: {parts: [[{_target_: subprocess.Popen}]]}", r"loss.parts\[0\]\[0\]._target_"),
    "function of ours": ("split: {_target_: towerrec.files.write_json}", "is no class of towerrec"),
    "module behind ours": ("split: {_target_: towerrec.files.shutil.rmtree}", "is no class of towerrec"),
    "class behind ours": ("split: {_target_: towerrec.distributed.subprocess.Popen}", "is no class of towerrec"),
    "number": ("split: {_target_: 3}", "_target_=3 is no class"),
    "list": ("split: {_target_: [os.system]}", "is no class"),
    "from another key": ("a: os.system\nsplit: {_target_: '${a}'}", "is no class"),
    "python tag": ("label: !!python/object/apply:os.system [touch pwned]", "would build an object"),
    "own tag": ("label: !thing {a: 1}", "would build an object"),
    "decoded": ("label: '${oc.decode:\"{_target_: os.system}\"}'", "asks for more than another key"),
    "decoded when resolved twice": ("callbacks: {x: '\\${oc.decode:\"{_target_: os.system}\"}'}", "asks for more than"),
    "escape that is escaped": ("label: '\\\\${oc.decode:\"{_target_: os.system}\"}'", "asks for more than another key"),
    "decoded under another name": ("a: oc\nlabel: '${${a}.decode:x}'", "asks for more than another key"),
}


@pytest.mark.parametrize("case", BUILDS)
def test_a_config_that_would_run_something_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    text, words = BUILDS[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=words) as error:
        read_config(tmp_path / "config.yaml")
    assert "config.yaml" in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


DAMAGED = {
    "empty": "",
    "number": "3",
    "list": "[1, 2]",
    "cut": "a: {b: [1",
    "twice": "a: 1\na: 2",
    "nul": "a: \0",
    "bytes": b"\xff\xfe\xfa",
    "unfolds without end": "a: &a [x]\nb: [*a, *a]",
    "deep": "a: " + "[" * 2_000,
    "interpolation that never ends": "a: '${'",
    "large": "a: " + "x" * 2**20,
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_config_that_is_none_is_named(tmp_path: Path, case: str):
    content, path = DAMAGED[case], tmp_path / "config.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    if case == "empty":
        assert not read_config(path)
        return
    with pytest.raises(ValueError, match=r"config\.yaml"):
        read_config(path)


def test_classes_of_ours_and_what_runs_write_are_read(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text(
        "split: {_target_: towerrec.data.splits.RandomRows, val: 1e-1}\n"
        "callbacks: {bar: {_target_: towerrec.callbacks.progress}, stop: null}\n"
        "trainer: {_target_: lightning.Trainer, default_root_dir: '${hydra:runtime.output_dir}'}\n"
        "data: {root: '${oc.env:WHERE,${paths.data_dir}/x}', price: '\\${5'}\n"
    )
    read = read_config(path)
    assert read.split.val == 0.1 and "oc.env" in path.read_text()


def test_a_package_that_the_user_trusts_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "config.yaml"
    path.write_text("loss: {_target_: collections.OrderedDict}")
    with pytest.raises(ValueError, match="TOWERREC_TRUST=collections"):
        read_config(path)
    monkeypatch.setenv("TOWERREC_TRUST", "mine,collections")
    assert read_config(path).loss._target_ == "collections.OrderedDict"


def test_a_text_that_looks_like_a_reference_stays_text_when_a_run_goes_on(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_text("callbacks: {x: {place: '\\${seed}'}, y: '${seed}'}\nseed: 7\n")
    merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), read_config(path))
    assert isinstance(merged, DictConfig)
    assert typed(merged, TrainConfig).callbacks == {"x": {"place": "${seed}"}, "y": 7}
