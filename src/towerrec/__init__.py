"""Two-tower retrieval for short-video recommendation."""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towerrec.retriever import Retriever

__all__ = ["Retriever"]

# GCC's OpenMP threads spin while they wait: 300,000 turns by default, which made a training epoch 73 s instead of 5
# beside another busy process (seen once). 10,000 turns bridge the gaps between the kernels of a step and no more:
# rows/s of benchmarks/training_speed.py on two cores, quiet 273 k (0 turns: 195 k, the default: 265 k), beside two busy
# processes 106 k (0 turns: 78 k). Whoever sets the variable decides.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# The same weights by one thread as by two: MKL, which multiplies matrices for torch on CPUs, otherwise adds up the rows
# of a batch in as many parts as it has threads, and jobs of a sweep side by side have fewer than one alone ("strict
# conditional numerical reproducibility", oneMKL's guide). Whoever sets the variable decides.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
# With OMP_DYNAMIC=true the load of the machine would choose the number of threads, and with it the last digits.
os.environ["OMP_DYNAMIC"] = "false"

# Polars keeps freed memory for half a second, in which preparing a log has asked for as much again: a peak of 1.6 GiB
# instead of 1.3. Whoever sets the variable decides.
os.environ.setdefault("_RJEM_MALLOC_CONF", "dirty_decay_ms:50,muzzy_decay_ms:0")


def __getattr__(name: str) -> Any:
    """`Retriever` on first use: torch and Polars take seconds to import, and a script's `--help` needs neither."""
    if name == "Retriever":
        from towerrec.retriever import Retriever

        return Retriever
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
