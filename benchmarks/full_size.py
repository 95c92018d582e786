"""The whole chain on the full simulated release (12.5 M + 4.7 M rows): seconds and peak memory of every command.

    python benchmarks/full_size.py --work /tmp/full --json benchmarks/results/full_size.json

Each stage is a process of its own, as a user would start it; peak memory is the operating system's for that process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from conditions import conditions

ROOT = Path(__file__).resolve().parents[1]


# The log as training asks for it, and nothing more.
_PREPARE = """
import os, sys
from hydra import compose, initialize_config_dir
from towerrec import config, tasks
with initialize_config_dir(config_dir=os.path.abspath("conf"), version_base="1.3"):
    cfg = config.evaluate_config(compose("evaluate", ["baseline=random", *sys.argv[1:]]))
tasks.prepared_data(cfg).prepared
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "full_size", help="an empty folder")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    common = [f"paths.data_dir={work / 'data'}", f"paths.log_dir={work / 'logs'}"]
    log = ["data=demo", "data.demo.scale=full", *common]
    simulate = (
        "from pathlib import Path; from towerrec.data.sources.simulator import simulate; "
        f"simulate(Path({str(work / 'data' / 'demo-full-0')!r}), scale='full', seed=0)"
    )
    if (work / "data").exists():
        sys.exit(f"{work} holds an earlier run: the first start is only measured in an empty folder")
    stages: dict[str, Any] = {"simulate": _measured(["-c", simulate])[0]}
    stages["prepare, first start"] = _measured(["-c", _PREPARE, *log])[0]
    stages["prepare, second start"] = _measured(["-c", _PREPARE, *log])[0]
    train = ["train.py", *log, f"trainer.max_epochs={arguments.epochs}"]
    stages[f"train, {arguments.epochs} epoch(s), judged on 1,411 users"], output = _measured(train)
    run = next(line.split(":", 1)[1].strip() for line in reversed(output.splitlines()) if "run directory:" in line)
    facts = json.loads((ROOT / run / "run.json").read_text(encoding="utf-8"))
    stages["recommend, 7,176 x 100"], _ = _measured(["recommend.py", f"run={run}", common[1]])
    stages["evaluate"], _ = _measured(["evaluate.py", f"run={run}", common[1]])
    metrics = json.loads((ROOT / run / "metrics.json").read_text(encoding="utf-8"))["test"]
    result = {
        "conditions": conditions() | {"epochs": arguments.epochs},
        "stages": stages,
        "prepare_stages_seconds": facts["report"]["seconds"],
        "training": {key: facts[key] for key in ("seconds", "rows_per_second", "epochs", "parameters")},
        "rows": facts["rows"],
        "test": {name: metrics[name]["mean"] for name in ("ndcg@20", "recall@100")},
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _measured(command: list[str]) -> tuple[dict[str, float], str]:
    """Run a Python command; wall and processor seconds and peak memory of that process, and what it printed."""
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{output[-3000:]}")
    return {
        "seconds": round(time.perf_counter() - started, 1),
        "processor_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_memory_mib": round(usage.ru_maxrss / 1024),
    }, output


if __name__ == "__main__":
    main()
