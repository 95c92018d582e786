"""Another number of epochs for a run: `python train.py run=DIR trainer.max_epochs=N`, stopped or finished.

It ends as a run that was started with N would: weights, early stopping and the best figure go on where they were. That
holds as long as nothing that was learnt so far depended on the number; a learning rate that falls until the last epoch
did, and is refused.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # comes with Hydra

from towerrec.config_of_run import read_config, with_value
from towerrec.files import write_text
from towerrec.sweep_jobs import overrides, state

WORD = "trainer.max_epochs="

_CONSTANT = "towerrec.optim.Constant"
_SWAPS = "StochasticWeightAveraging"


def asked(words: Sequence[str]) -> int | None:
    """The number of epochs that a command asks for, None where it says nothing of it.

    Raises:
        ValueError: It is no whole number above 0.
    """
    said = [word.removeprefix(WORD) for word in words if word.startswith(WORD)]
    if not said:
        return None
    if not said[-1].isdecimal() or int(said[-1]) == 0:
        raise ValueError(f"{WORD}{said[-1]}: with run=DIR it has to be a whole number above 0")
    return int(said[-1])


def allow(root: Path, epochs: int) -> None:
    """Check that a run can go on to that many epochs as if it had been started with them.

    Raises:
        ValueError: It cannot; it says why, and what can be done.
    """
    from towerrec.last_checkpoint import newest  # of torch: only this question needs it
    from towerrec.restoring import RESUME_KEY

    config = read_config(root / ".hydra" / "config.yaml")
    reason = _depends_on_number(config, pruned=state(root) == "pruned")
    found = newest(root / "checkpoints") if reason is None else None
    place = {"epoch": 0, "batch": 0, "should_stop": False} if found is None else found[RESUME_KEY]
    if reason is None and place["should_stop"]:
        reason = (
            f"callbacks.early_stopping ended its training after {place['epoch']} epochs, as it would have ended one "
            "with more (callbacks.early_stopping.patience says when)"
        )
    over = place["epoch"] + (place["batch"] > 0)
    if reason is None and epochs < max(over, 1):
        reason = f"it is in epoch {over} already" if place["batch"] else f"it has {over} epochs already"
    if reason is not None:
        another = anew(root, f"{WORD}{epochs}")
        raise ValueError(f"{WORD}{epochs}: run={root} cannot go on so: {reason}. Start another run: {another}")


def lengthen(root: Path, epochs: int) -> bool:
    """Have a run end after that many epochs, and open it again if it was finished; returns whether anything changed."""
    path = root / ".hydra" / "config.yaml"
    if read_config(path).trainer.max_epochs == epochs:
        return False
    write_text(path, with_value(path, "trainer.max_epochs", epochs))
    said = root / ".hydra" / "overrides.yaml"
    if said.is_file():
        write_text(said, yaml.safe_dump(_words(root, f"{WORD}{epochs}"), allow_unicode=True))
    # The figures first: without them it has no end, whenever this process is stopped.
    for name in ("metrics.json", "run.json"):
        (root / name).unlink(missing_ok=True)
    return True


def _depends_on_number(config: Any, *, pruned: bool) -> str | None:
    """What of a run would have been otherwise with another number of epochs."""
    if pruned:
        return "its study gave it up"
    if config.refit:
        return "refit=true trains once more for the epochs that validation chose among those it had"
    if config.scheduler._target_ != _CONSTANT:
        return "its learning rate has followed the number of epochs that it was started with (scheduler)"
    if any(_SWAPS in str(node._target_) for node in config.callbacks.values() if node is not None):
        return f"{_SWAPS} counts from the last epoch"
    return None


def anew(root: Path, *others: str) -> str:
    """The command that a run was started with, and words that are said otherwise."""
    return f"python train.py {shlex.join(_words(root, *others))}"


def _words(root: Path, *others: str) -> list[str]:
    keys = {word.partition("=")[0] for word in others}
    return [*(word for word in overrides(root) if word.partition("=")[0] not in keys), *others]
