"""Training speed of towerrec beside other libraries and beside loops written by hand, in turn, in one run.

    python benchmarks/training_vs_peers.py --environments DIR --create
    python benchmarks/training_vs_peers.py --environments DIR --json benchmarks/results/training_vs_peers.json
    python benchmarks/training_vs_peers.py --environments DIR --rows notebook --log FOLDER --json ...

Every contestant is a process of its own: it loads, warms up and waits; then each trains for one round (an epoch, or a
stated part of one) while all others wait, several times over. The ratio is that of the median rates. Start-up is never
counted. Beside the rates stands the quality on the same test rows after the same number of epochs: a speed-up that
costs quality is none. Each batch also has its floor (floor.py): what the machine could do at the rates of its memory
and of its matrix products, measured in the same run.

The model of `bce` and `softmax` is the same everywhere: id vectors of 64 and 24 categories of 8 a piece, concatenated,
one hidden layer of 128, output 64, Adam 1e-3. `bpr` are id vectors of 64. `notebook` has features only, dense 256 and
128 (towerrec embeds its categories and tags, Keras and the hand loop read them as numbers, as the notebook does).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
import floor
import runs
from conditions import conditions
from contest import Contestant, contest

REFERENCES = environments.REFERENCES
sys.path.insert(0, str(REFERENCES))

from rows import Data  # noqa: E402

FEATURES = "id,onehot,category,user_active_degree,is_live_streamer,is_video_author"
TWO_TOWER = [
    "model=two_tower",
    "model.embedding_dim=64",
    "model.residual_id=false",
    "+model.feature_dims.user_id=64",
    "+model.feature_dims.item_id=64",
    "model.use_user_id=true",
    "model.user_hidden=[128]",
    "model.item_hidden=[128]",
    "model.user_bias=false",
    "model.item_bias=false",
    "model.profile=none",
    "model.similarity=dot",
]
ADAM = ["optimizer.lr=0.001", "optimizer.embedding_lr=null", "optimizer.weight_decay=0", "optimizer.embedding_decay=0"]
WARM = ["experiment=best_warm", "refit=false", "scheduler=constant", "loader.unit=rows", "split.val=null", *ADAM]


@dataclass(frozen=True)
class Rival:
    """A reference in one row of the table: its script, its options, and how many times its rate is to be reached.

    `goal` above 1: towerrec is to be so many times as fast; below: to need at most 1 / goal of its time. Where a round
    is only `part` of an epoch, the quality is not compared: it has seen less.
    """

    name: str
    script: str
    options: tuple[str, ...]
    environment: str = environments.OWN
    goal: float | None = None
    part: float = 1.0
    batch: int | None = None


HAND = 1 / 1.3


def _hand(loss: str, *, part: float = 1.0) -> tuple[Rival, ...]:
    """Both hand loops: towers for every row of the batch (`part` of an epoch), and once for every distinct one."""
    script, options = "hand_loop.py", ("--loss", loss)
    return (
        Rival("hand loop", script, (*options, "--towers", "rows"), goal=HAND, part=part),
        Rival("hand loop, distinct rows", script, (*options, "--towers", "distinct"), goal=HAND),
    )


def _idiomatic(loss: str, *, rows: float | None, batches: float | None, part: float) -> tuple[Rival, ...]:
    script, options = "idiomatic_lightning.py", ("--loss", loss, "--fetch")
    return (
        Rival("Lightning + DataLoader, row by row", script, (*options, "rows"), goal=rows, part=part),
        Rival("Lightning + DataLoader, whole batches", script, (*options, "batches"), goal=batches),
    )


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        title: In words.
        overrides: Of `train.py`.
        label: What the score is, see `references/rows.py`.
        guard: The figure that must not be worse, and by how much it may be (noise of one seed).
        batches: Sizes at which all are compared.
        rivals: The references.
        rounds: Turns of each.
        only_positives: Whether it learns from the positives alone.
        ids_only: Whether there is nothing but ids, and each row meets a negative.
        log: Whether it reads the simulated log.
    """

    title: str
    overrides: list[str]
    label: str
    guard: tuple[str, float]
    batches: tuple[int, ...]
    rivals: tuple[Rival, ...]
    rounds: int = 3
    only_positives: bool = False
    ids_only: bool = False
    log: bool = False


ROWS = {
    "bce": Row(
        "two_tower, ids + 24 categorical features, real small labels, binary cross-entropy on all rows",
        [*WARM, "features=kuairec", f"features.use=[{FEATURES}]", *TWO_TOWER, "loss=bce"],
        "logit",
        ("bce", 0.002),
        (4096, 16384, 65536),
        (*_idiomatic("bce", rows=15.0, batches=4.0, part=0.06), *_hand("bce", part=0.25)),
        rounds=2,
    ),
    "softmax": Row(
        "the same, in-batch softmax over the positives",
        [
            *WARM,
            "features=kuairec",
            f"features.use=[{FEATURES}]",
            *TWO_TOWER,
            "model.global_bias=false",
            "loss=in_batch_softmax",
        ],
        "rank",
        ("ndcg@20", 0.005),
        (4096, 1024),
        (
            *_idiomatic("softmax", rows=3.0, batches=None, part=1.0),
            Rival("tensorflow-recommenders", "tfrs.py", (), "tensorflow", goal=2.0),
            Rival("keras-rs", "keras_rs_retrieval.py", (), "tensorflow", goal=2.0),
            *_hand("softmax"),
        ),
        only_positives=True,
    ),
    "bpr": Row(
        "matrix_factorization, ids only, BPR with one uniform negative",
        [
            *WARM,
            "data.users=null",  # the log alone, as RecBole reads it: no rows for ids that never occur
            "data.items=null",
            "model=matrix_factorization",
            "model.embedding_dim=64",
            "model.init_std=0.02",  # as Xavier's for these tables: RecBole's start
            "loss=bpr",
            "negatives=uniform",
            "negatives.per_row=1",
        ],
        "rank",
        ("ndcg@20", 0.005),
        (4096,),
        (Rival("RecBole BPR", "recbole_bpr.py", (), "recbole", goal=2.0), *_hand("bpr")[:1]),
        rounds=15,
        only_positives=True,
        ids_only=True,
    ),
    "notebook": Row(
        "the notebook's model on the first million rows of the simulated log, MSE",
        ["experiment=notebook"],
        "ratio",
        ("rmse", 0.002),
        (8192,),
        (
            Rival("Keras, batch 32", "keras_notebook.py", (), "tensorflow", goal=50.0, batch=32),
            Rival("Keras, our batch", "keras_notebook.py", (), "tensorflow", goal=4.0),
            *_hand("mse"),
        ),
        rounds=4,  # and one to warm up: the notebook's five epochs
        log=True,
    ),
}


def main() -> None:
    asked = _arguments()
    if asked.create:
        for name in ("tensorflow", "recbole"):
            environments.create(name, asked.environments)
        return
    absent = runs.missing((runs.REAL,))
    if absent:
        sys.exit(absent)
    os.environ |= {
        "KUAIREC_REAL": str(runs.REAL),
        "SMALL_LABELS": str(runs.write_small_labels(asked.work)),
        "PYTHONPATH": os.pathsep.join([str(REFERENCES), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
    result: dict[str, Any] = {"conditions": conditions() | {"threads": _threads()}, "rows": {}}
    if asked.json is not None and asked.json.is_file():
        result["rows"] = json.loads(asked.json.read_text(encoding="utf-8"))["rows"]
    for name in asked.rows:
        found = compare(ROWS[name], asked)
        result["rows"][name] = found
        if asked.json is not None:
            asked.json.parent.mkdir(parents=True, exist_ok=True)
            asked.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(json.dumps({name: _brief(found)}, indent=1), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--batches", nargs="+", type=int, help="other batches than those of the table")
    parser.add_argument("--rounds", type=int, help="other than those of the table")
    parser.add_argument("--only", nargs="+", help="only rivals whose name holds one of these words")
    parser.add_argument("--environments", type=Path, metavar="DIR", help="holds env-tensorflow and env-recbole")
    parser.add_argument("--create", action="store_true", help="make these environments, and stop")
    parser.add_argument("--log", type=Path, default=runs.ROOT / "data" / "demo-full-0", help="the log of `notebook`")
    parser.add_argument("--work", type=Path, default=runs.ROOT / "data" / "real_rows", help="labels and caches")
    parser.add_argument("--json", type=Path, help="rows that are not run now stay in it")
    return parser.parse_args()


def compare(row: Row, asked: argparse.Namespace) -> dict[str, Any]:
    """One row of the table at every batch."""
    overrides = [*row.overrides, f"paths.data_dir={asked.work.resolve()}"]
    if row.log:
        overrides.append(f"data.root={asked.log.resolve()}")
    rounds = row.rounds if asked.rounds is None else asked.rounds
    found: dict[str, Any] = {"title": row.title, "batches": {}}
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "rows.npz"
        own = ["towerrec_turns.py", "--export", str(file), "--label", row.label, *overrides]
        subprocess.run([sys.executable, str(REFERENCES / own[0]), *own[1:]], check=True, stdout=subprocess.DEVNULL)
        data = Data.load(file)
        for batch in asked.batches or row.batches:
            rivals = [r for r in row.rivals if asked.only is None or any(word in r.name for word in asked.only)]
            contestants = [
                Contestant(
                    "towerrec", (sys.executable, str(REFERENCES / own[0]), *own[1:], f"loader.batch_size={batch}")
                ),
                *(_contestant(rival, file, batch, asked.environments) for rival in rivals),
            ]
            figures = contest(contestants, rounds=rounds, work=Path(name))
            ours = figures.pop("towerrec")
            least = _floor(row, data, batch)
            if "rows_per_s" in ours:
                least["reached"] = round(ours["rows_per_s"] / least["rows_per_s"], 3)
            found["batches"][str(batch)] = {
                "towerrec": ours,
                "floor": least,
                "references": {r.name: _beside(ours, figures[r.name], r, row.guard) for r in rivals},
            }
    return found


def _floor(row: Row, data: Data, batch: int) -> dict[str, Any]:
    """What the machine could reach on this row of the table."""
    chosen = data.positives if row.only_positives else slice(None)
    sizes = (data.user_sizes.tolist(), data.item_sizes.tolist())
    towers, width = (floor.two_tower(sizes[0]), floor.two_tower(sizes[1])), 64
    if row.label == "ratio":
        towers, width = (floor.dense(data.users.shape[1] - 1), floor.dense(data.tags.shape[1])), 128
    elif row.ids_only:
        towers = (floor.ids(sizes[0][0]), floor.ids(sizes[1][0]))
    return floor.floor(
        data.user[chosen],
        data.item[chosen],
        batch=batch,
        towers=towers,
        width=width,
        softmax=row.only_positives and not row.ids_only,
        vectors_a_row=3 if row.ids_only else 2,
        on=floor.machine(),
    )


def _contestant(rival: Rival, file: Path, batch: int, directory: Path | None) -> Contestant:
    python = environments.python(rival.environment, directory)
    if python is None:
        return Contestant(rival.name, None, environments.why_not(rival.environment, directory))
    options = ["--data", str(file), "--batch", str(rival.batch or batch), "--part", str(rival.part), *rival.options]
    return Contestant(rival.name, (str(python), str(REFERENCES / rival.script), *options))


def _beside(ours: dict[str, Any], theirs: dict[str, Any], rival: Rival, guard: tuple[str, float]) -> dict[str, Any]:
    """A reference with the ratio of the medians, the goal, and whether speed and quality are kept."""
    if "not run" in theirs or "not run" in ours:
        return theirs
    ratio = ours["rows_per_s"] / theirs["rows_per_s"]
    figure, slack = guard
    sign = 1 if figure.startswith("ndcg") else -1
    kept = sign * (ours["quality"][figure] - theirs["quality"][figure]) >= -slack if rival.part == 1 else None
    beside = {"ratio": round(ratio, 2), "quality kept": kept}
    if rival.goal is not None:
        beside |= {"goal": round(rival.goal, 2), "reached": ratio >= rival.goal}
    return beside | theirs


def _threads() -> str:
    return os.environ.get("OMP_NUM_THREADS", f"all {os.cpu_count()} cores")


def _brief(found: dict[str, Any]) -> dict[str, Any]:
    """What one reads first."""
    return {
        batch: {"towerrec": _line(f["towerrec"]), "floor": f"{f['floor']['rows_per_s']:,} rows/s"}
        | {name: _line(r) for name, r in f["references"].items()}
        for batch, f in found["batches"].items()
    }


def _line(figures: dict[str, Any]) -> str:
    if "not run" in figures:
        return f"not run: {figures['not run']}"
    said = f"{figures['rows_per_s']:,} rows/s, {figures['quality']}"
    if "ratio" not in figures:
        return said
    goal = (
        "" if "goal" not in figures else f" (goal {figures['goal']}, {'reached' if figures['reached'] else 'missed'})"
    )
    return f"{said}: x {figures['ratio']}{goal}"


if __name__ == "__main__":
    main()
