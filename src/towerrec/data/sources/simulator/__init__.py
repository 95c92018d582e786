"""A simulator of short-video watching that writes releases in the format of KuaiRec 2.0."""

from towerrec.data.sources.simulator.writer import FILES, simulate

__all__ = ["FILES", "simulate"]
