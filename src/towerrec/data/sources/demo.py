"""The built-in log: simulated once, written in KuaiRec's own files, then read like KuaiRec."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from towerrec import progress
from towerrec.data.columns import missing_column
from towerrec.data.locks import alone
from towerrec.data.sources.kuairec import KuaiRec
from towerrec.data.sources.simulator import FILES, simulate
from towerrec.data.sources.simulator.scales import ScaleName
from towerrec.data.tables import Tables


class Demo:
    """A simulated log in the official layout.

    Args:
        demo: `scale` (`tiny`: seconds; `small`: the quickstart; `full`: KuaiRec's own size) and `seed`.
        matrices: Which logs to read: `big`, `small` or both.
        data_dir: The log is kept in `demo-<scale>-<seed>` below it.
    """

    name = "demo"

    def __init__(
        self,
        *,
        demo: Mapping[str, Any] | None = None,
        matrices: list[str] | None = None,
        data_dir: str = "data",
    ) -> None:
        given = {"scale": "small", "seed": 0} | dict(demo or {})
        for key in given:
            if key not in ("scale", "seed"):
                raise missing_column(key, ("scale", "seed"), "data.demo")
        if given["scale"] not in get_args(ScaleName):
            raise ValueError(f"data.demo.scale must be one of {', '.join(get_args(ScaleName))}, got {given['scale']!r}")
        if isinstance(given["seed"], bool) or not isinstance(given["seed"], int) or given["seed"] < 0:
            raise ValueError(f"data.demo.seed must be a whole number, 0 or more, got {given['seed']!r}")
        self.scale, self.seed = cast(ScaleName, given["scale"]), int(given["seed"])
        self.folder = Path(data_dir).expanduser() / f"demo-{self.scale}-{self.seed}"
        self._files = KuaiRec(root=str(self.folder), matrices=matrices)

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "matrices": self._files.matrices, "scale": self.scale, "seed": self.seed}

    def files(self) -> list[Path]:
        """The csv files, simulated first where they are not there yet."""
        if not (self.folder / "data").is_dir():
            with alone(self.folder):
                if not (self.folder / "data").is_dir():
                    self._simulate()
        return self._files.files()

    def read(self) -> Tables:
        """The tables, as `KuaiRec` reads them."""
        self.files()
        return replace(self._files.read(), name=self.name)

    def _simulate(self) -> None:
        """The files appear all at once, so an interrupted simulation leaves nothing that reads as data."""
        print(f"data=demo: simulating the {self.scale} log (seed {self.seed}) in {self.folder}, once", flush=True)
        with progress.bar("simulating", len(FILES)) as bar:

            def show(file: str, share: float) -> None:
                bar.step(file)
                bar.share(share)

            try:
                simulate(self.folder, scale=self.scale, seed=self.seed, progress=show)
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else error
                raise OSError(
                    f"could not write the simulated log to {self.folder} ({reason}): make room there or choose another "
                    "place with paths.data_dir=DIR"
                ) from error
