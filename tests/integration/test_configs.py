"""Every file under conf/ composes and builds, its values are the constructors' own, every README command is valid."""

from __future__ import annotations

import copy
import functools
import inspect
import re
import runpy
import shlex
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import REPOSITORY, Outcome, command
from conftest import DemoRun, Workplace
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from towerrec import config, config_build
from towerrec.baselines.registry import NAMES, baseline
from towerrec.choices import model_node
from towerrec.config_types import check_types
from towerrec.data.catalogue import load_catalogue
from towerrec.data.features import FeatureChoice
from towerrec.nn.losses import Multinomial
from towerrec.nn.two_tower import TwoTower

CONF = REPOSITORY / "conf"
TASKS = {"train": config.train_config, "recommend": config.recommend_config, "evaluate": config.evaluate_config}


def choices(group: str) -> list[str]:
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def composed(task: str, *overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose(task, list(overrides), return_hydra_config=True)
        for key, value in (
            ("runtime.output_dir", "out"),
            ("job.num", 0),
            ("job.id", "0"),
            ("job.override_dirname", ""),
        ):
            OmegaConf.update(cfg, f"hydra.{key}", value, force_add=True)
        return cfg


@functools.cache
def typed(task: str, *overrides: str) -> Any:
    """The typed config; composing takes a quarter of a second, so equal ones are made once."""
    cfg = composed(task, *overrides)
    # `${hydra:...}` asks for the running job, which is not there in a test.
    for callback in (cfg.get("callbacks") or {}).values():
        if callback is not None and "dirpath" in callback:
            callback.dirpath = "checkpoints"
    for logger in (cfg.get("logger") or {}).values():
        logger.save_dir = "logs"
    plain = OmegaConf.create({k: v for k, v in cfg.items() if k != "hydra"}, flags={"allow_objects": True})
    kind = {"train": config.TrainConfig, "recommend": config.RecommendConfig, "evaluate": config.EvaluateConfig}[task]
    return TASKS[task](OmegaConf.merge(OmegaConf.structured(kind), plain))


EVERYTHING = [
    (p.parent.name, p.stem) for p in sorted(CONF.rglob("*.yaml")) if p.parent != CONF and "hydra" not in p.parts
]


@pytest.mark.parametrize(("group", "choice"), EVERYTHING)
def test_every_choice_composes_into_the_schema(group: str, choice: str):
    task = "evaluate" if group == "baseline" else "train"
    added = "+" if group == "ablate" else ""
    assert isinstance(typed(task, f"{added}{group}={choice}"), config.DataTaskConfig)


@pytest.mark.parametrize("choice", choices("baseline"))
def test_a_baseline_has_a_config_of_its_name_that_shows_its_defaults(choice: str):
    made = config.build(typed("evaluate", f"baseline={choice}").baseline, "baseline")
    assert made == baseline(choice)
    assert set(choices("baseline")) == set(NAMES)


@pytest.mark.parametrize("group", ["label", "split", "cleaning", "optimizer", "scheduler", "negatives", "loss", "data"])
def test_every_choice_of_a_group_builds(group: str, tmp_path: Path):
    needs = {"where": ['split.train="a < 1"', 'split.test="a > 1"'], "interactions": ["data.interactions=a.csv"]}
    for choice in choices(group):
        place = [f"paths.data_dir={tmp_path}"] if group == "data" else []
        node = getattr(typed("train", f"{group}={choice}", *needs.get(choice, []), *place), group)
        if node.get("name") == "auto":  # stands for another choice, once the log is known
            continue
        assert config.build(node, group) is not None, choice


@pytest.mark.parametrize("choice", choices("features"))
def test_every_feature_list_is_understood(choice: str):
    made = FeatureChoice.from_plain(typed("train", f"features={choice}").features)
    assert made.auto or made.declared


@pytest.mark.parametrize("choice", choices("trainer"))
def test_trainer_keys_are_lightnings_own(choice: str):
    import lightning as L

    node = typed("train", f"trainer={choice}").trainer
    known = inspect.signature(L.Trainer.__init__).parameters
    assert node.keys() - {"_target_"} <= known.keys()


def test_the_store_of_schemas_is_not_copied_for_every_group_that_help_lists_and_stays_as_it_is():
    store = ConfigStore.instance()
    held = OmegaConf.to_container(store.repo["train_schema.yaml"].node)
    assert copy.deepcopy(store) is store
    assert composed("train", "seed=7", "eval.ks=[3]").seed == 7
    assert OmegaConf.to_container(store.repo["train_schema.yaml"].node) == held


@pytest.mark.parametrize("group", ["loss", "label", "cleaning", "negatives", "scheduler"])
def test_the_values_of_a_config_are_the_defaults_of_its_class(group: str):
    own = {("label", "click"), ("label", "column")}  # choices that exist for another value
    for choice in choices(group):
        node = getattr(typed("train", f"{group}={choice}"), group)
        if node.get("name") == "auto" or (group, choice) in own:
            continue
        if choice in ("multi", "mixed"):  # made of other choices, which the class cannot have for defaults
            node = {key: value for key, value in node.items() if key not in ("parts", "sources")}
        target = config_build._locate(node["_target_"])
        defaults = {k: p.default for k, p in inspect.signature(target).parameters.items()}
        defaults = {k: v for k, v in defaults.items() if v is not inspect.Parameter.empty}
        assert {k: v for k, v in node.items() if k != "_target_"} == defaults, f"{group}/{choice}"


@pytest.mark.parametrize("choice", choices("model"))
def test_a_model_config_shows_every_key_of_the_model(choice: str):
    node = typed("train", f"model={choice}").model
    keys = set(inspect.signature(TwoTower.__init__).parameters) - {"self", "schema"}
    assert node.keys() - {"name", "members"} == keys and node["members"] == 1
    filled = model_node({key: value for key, value in node.items() if key != "members"}, Multinomial())
    check_types(TwoTower, filled, "model")


def test_an_experiment_may_set_what_stands_in_the_train_config_itself():
    assert typed("train", "experiment=best_watch_ratio").refit is True
    assert typed("train", "experiment=best_watch_ratio", "refit=false").refit is False
    assert typed("train").refit is False


def test_the_dataclasses_and_conf_say_the_same_defaults():
    cfg = typed("train")
    assert cfg.loader == config.LoaderConfig()
    assert cfg.eval == config.EvalConfig()
    shown, own = typed("recommend", "run=x").__dict__, config.RecommendConfig(run="x").__dict__
    assert {**shown, "paths": None} == {**own, "paths": None, "format": "parquet"}, "the format follows the output"


LOSSES = [name for name in choices("loss") if name != "auto"]
# Every model and every loss in each test run, the other pairs in the slow one.
PAIRS = [
    pytest.param(model, loss, marks=[] if model == "two_tower" or loss == "in_batch_softmax" else pytest.mark.slow)
    for model in choices("model")
    for loss in LOSSES
]


@pytest.mark.parametrize(("model", "loss"), PAIRS)
def test_every_model_trains_under_every_loss(workplace: Workplace, demo_run: DemoRun, model: str, loss: str):
    more = ["loader.history_length=5"] if model == "two_tower_history" else []
    more += ["negatives=mixed"] if loss == "bpr" else []
    outcome = workplace.train(
        f"model={model}", f"loss={loss}", "trainer.fast_dev_run=false", "trainer.max_epochs=1",
        "trainer.limit_train_batches=2", "eval.baselines=[]", *more,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize("experiment", choices("experiment"))
def test_every_experiment_names_what_it_needs_when_its_data_is_not_there(experiment: str, tmp_path: Path):
    outcome = command(
        "train.py",
        f"experiment={experiment}",
        f"paths.data_dir={tmp_path}",
        f"paths.log_dir={tmp_path / 'logs'}",
        KUAIREC_REAL=str(tmp_path / "nowhere"),
        KUAIRAND_SIGNED=str(tmp_path / "nowhere"),
    )
    assert outcome.code == 1
    assert "Traceback" not in outcome.err
    assert str(tmp_path) in outcome.message


# --- README ----------------------------------------------------------------------------------------------------------


def readme_commands() -> list[str]:
    """Every `python <script>.py ...` of the README's code blocks, continued lines joined, comments left out."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, flags=re.DOTALL))
    lines = blocks.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if re.match(r"\s*python (train|recommend|evaluate)\.py", line)]


def words_of(line: str) -> tuple[str, list[str], bool]:
    script, *words = shlex.split(line, comments=True)[1:]
    sweep = any(word == "-m" or word.startswith(("sweep=", "+ablate=")) for word in words)
    return script.removesuffix(".py"), [w for w in words if w != "-m"], sweep


def test_the_readme_holds_the_commands_of_all_three_scripts():
    found = {words_of(line)[0] for line in readme_commands()}
    assert found == {"train", "recommend", "evaluate"}


@pytest.mark.parametrize("line", readme_commands())
def test_every_command_of_the_readme_composes(line: str):
    script, words, sweep = words_of(line)
    if words == ["--help"]:
        return
    if sweep:
        words = [word.split(",")[0] for word in words if "interval(" not in word]
    if script == "evaluate" and any(word.startswith("run=") for word in words):
        # Its other settings come from the run.
        assert composed(script, *(word for word in words if not word.startswith("split."))).run
        return
    if script == "train" and any(word.startswith(("run=", "continue_from=")) for word in words):
        cfg = composed(script, *words)
        assert cfg.run or cfg.continue_from  # and so do theirs
        return
    typed(script, *words)


def runs(line: str) -> bool:
    """Commands that need nothing but the repository and one process (several have tests of their own)."""
    files = ("kuairec", "KuaiRec", "=views", "=train.csv", "LOG_FOLDER")
    sweeps = ("sweep=", "ablate=", "sweeper=", "launcher=", "split.window=")
    return not any(word in line for word in (*files, *sweeps, "experiment=", "--help", "trainer="))


@pytest.mark.slow
def test_the_readmes_quickstart_runs(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    tiny = ["data.demo.scale=tiny", "eval.ks=[10,20]", "trainer.max_epochs=1"]
    done = 0
    for line in filter(runs, readme_commands()):
        script, words, sweep = words_of(line)
        if any(word in line for word in (".csv", ".parquet", "export=", "train.py run=")):
            continue  # files of the reader and exports are tested below, runs that go on in test_resume
        words = [re.sub(r"\b(DIR|RUN_A|RUN_B)\b|logs/train/\.\.\.", str(demo_run.directory), word) for word in words]
        small = tiny if script == "train" else [] if script == "recommend" or "compare" in line else tiny[1:2]
        if "baseline=" in line:
            small = tiny[:2]
        out = [f"output={tmp_path / str(done)}"] if script == "evaluate" else []
        if script == "recommend":
            out = [f"output={tmp_path / 'lists.parquet'}"]
        paths = workplace.paths[1:] if script == "recommend" else workplace.paths
        outcome: Outcome = command(f"{script}.py", *(["-m"] if sweep else []), *words, *small, *out, *paths)
        assert outcome.code == 0, f"{line}\n{outcome.err}"
        done += 1
    assert done >= 6


@pytest.fixture(scope="module")
def readers_files(workplace: Workplace, demo_run: DemoRun, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the README calls files of the reader, by the names it gives them."""
    folder, catalogue = tmp_path_factory.mktemp("reader"), load_catalogue(demo_run.directory / "catalogue")
    side = pl.read_csv(workplace.root / "data" / "demo-tiny-0" / "data" / "user_features.csv").head(2)
    video = {"item_id": [9_001], "feat": [[1]], "caption": ["a new video"]}
    video |= {name: [None] for name in catalogue.encoders.missing_columns("item", list(video))}
    tables = {
        "users.csv": pl.DataFrame({"user_id": [3, 4]}),
        "videos.csv": pl.DataFrame({"item_id": [5, 6, 7]}),
        "blocked.csv": pl.DataFrame({"user_id": [12, 12], "item_id": [5, 6]}),
        "moments.csv": pl.DataFrame({"user_id": [3, 4], "at": ["2020-09-01T20:00", "2020-09-05T08:00"]}),
        "new_users.parquet": side.with_columns(user_id=pl.col("user_id") + 99_001, num_friends=pl.lit(None, pl.Int64)),
        "new_videos.parquet": pl.DataFrame(video),
        "since.parquet": pl.DataFrame({"user_id": [3, 99_001], "item_id": [5, 6], "label": [1.0, 0.0]}),
    }
    for name, table in tables.items():
        table.write_parquet(folder / name) if name.endswith("parquet") else table.write_csv(folder / name)
    return {name: folder / name for name in tables}


@pytest.mark.slow
@pytest.mark.parametrize("line", [line for line in readme_commands() if line.startswith("python recommend.py")])
def test_what_the_readme_asks_of_recommend_is_answered_with_files_of_the_reader_too(
    demo_run: DemoRun, workplace: Workplace, readers_files: dict[str, Path], tmp_path: Path, line: str
):
    words = [word for word in words_of(line)[1] if not word.startswith("output=")]
    words = [re.sub(r"\bDIR\b|logs/train/\.\.\.", str(demo_run.directory), word) for word in words]
    for name, path in readers_files.items():
        words = [word.replace(f"={name}", f"={path}") for word in words]
    output = [] if "export=" in line else [f"output={tmp_path / 'lists'}"]
    words = [word.replace("export=", f"export={tmp_path}/") for word in words]
    outcome = command("recommend.py", *words, *output, workplace.paths[1])
    assert outcome.code == 0, f"{line}\n{outcome.err}"


def python_of_the_readme() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("block", python_of_the_readme(), ids=lambda block: block.strip().splitlines()[-1][:40])
def test_the_python_of_the_readme_runs(demo_run: DemoRun, readers_files: dict[str, Path], tmp_path: Path, block: str):
    for name, path in {"DIR": demo_run.directory, **readers_files}.items():
        block = block.replace(f'"{name}"', f'"{path}"')
    (tmp_path / "block.py").write_text(block, encoding="utf-8")
    runpy.run_path(str(tmp_path / "block.py"))
