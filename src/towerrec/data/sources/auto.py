"""`data=auto`: KuaiRec where it is found, the built-in demo log where nothing was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towerrec.data.sources import kuairec_files as files
from towerrec.data.sources.demo import Demo
from towerrec.data.sources.kuairec import KuaiRec
from towerrec.data.tables import Tables


class Auto:
    """KuaiRec under `root`, or under `data_dir`, or fetched; else the demo, said in one line.

    Arguments as in `KuaiRec` and `Demo`. A `root` that was given and holds nothing is an error when it is read.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        download: bool = False,
        url: str = files.URL,
        size: int = files.SIZE,
        md5: str = files.MD5,
        matrices: list[str] | None = None,
        demo: Mapping[str, Any] | None = None,
        data_dir: str = "data",
    ) -> None:
        real = KuaiRec(root=root, download=download, url=url, size=size, md5=md5, matrices=matrices, data_dir=data_dir)
        simulated = Demo(demo=demo, matrices=matrices, data_dir=data_dir)
        self.chosen: KuaiRec | Demo = real
        if root is None and not download and real.find() is None:
            self.chosen = simulated
            print(
                f"data=auto: no KuaiRec under {data_dir}/, so this runs on the built-in simulated log (data=demo, "
                f"scale {simulated.scale}); for the real one: data=kuairec data.download=true (432 MB, size and md5 "
                "checked)",
                flush=True,
            )
        self.name = self.chosen.name

    def settings(self) -> dict[str, Any]:
        """Those of the source that was chosen."""
        return self.chosen.settings()

    def files(self) -> list[Path]:
        """Those of the source that was chosen."""
        return self.chosen.files()

    def read(self) -> Tables:
        """The tables of the source that was chosen."""
        return self.chosen.read()
