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
from pathlib import Path
from typing import Any

import environments
import floor
import runs
from conditions import conditions
from contest import Contestant, contest
from peer_rows import ROWS, Rival, Row

REFERENCES = environments.REFERENCES
sys.path.insert(0, str(REFERENCES))

from rows import Data  # noqa: E402


def main() -> None:
    asked = _arguments()
    if asked.create:
        if asked.environments is None:
            sys.exit("--create needs --environments DIR: the folder that shall hold the environments")
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
    if row.log and not asked.log.is_dir():
        made = "python train.py data=demo data.demo.scale=full trainer.max_epochs=1 leaves it in data/demo-full-0"
        return {"title": row.title, "not run": f"there is no log at {asked.log}: give --log; {made}"}
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
    if "not run" in found:
        return found
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
