"""Several processes stop in the same batch for a signal that one of them has heard; launchers say everything twice."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from towerrec import agreeing, stopping
from towerrec.agreeing import Agreement


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """A clock that is set by hand, and a command that listens."""
    now = [100.0]
    for module in (agreeing, stopping):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with stopping.heard():
        yield now


class Peers:
    """Stands for the other processes: what they answer, and how often they are asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer, self.asked = [0.0, 0.0, 0.0], 0
        monkeypatch.setattr(torch.distributed, "all_reduce", self.all_reduce)

    def all_reduce(self, mine: torch.Tensor, op: Any) -> None:
        assert op == torch.distributed.ReduceOp.MAX
        self.asked += 1
        mine.copy_(torch.maximum(mine, torch.tensor(self.answer[: len(mine)])))


def trainer(world_size: int = 2) -> Any:
    return SimpleNamespace(world_size=world_size, strategy=SimpleNamespace(root_device=torch.device("cpu")))


@pytest.mark.parametrize(("seconds", "expected"), [(0.004, 250), (0.3, 3), (5.0, 1)])
def test_they_ask_each_other_about_once_a_second_however_long_a_batch_takes(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, seconds: float, expected: int
):
    peers, agreement, asked_at = Peers(monkeypatch), Agreement(), []
    for batch in range(1001):
        before = peers.asked
        agreement.at_batch(trainer(), batch, late=False)
        asked_at += [batch] * (peers.asked - before)
        clock[0] += seconds
    assert asked_at[:2] == [0, 1]
    assert {later - one for one, later in itertools.pairwise(asked_at[1:])} <= {expected - 1, expected}


def test_the_slowest_process_says_when_they_ask_again(clock: list[float], monkeypatch: pytest.MonkeyPatch):
    peers, agreement = Peers(monkeypatch), Agreement()
    peers.answer = [0.0, 0.0, 0.5]  # another one takes half a second for a batch
    for batch in range(10):
        agreement.at_batch(trainer(), batch, late=False)
        clock[0] += 0.001
    assert peers.asked == 6  # before batches 0, 1, 3, 5, 7 and 9


def test_a_signal_or_a_late_checkpoint_of_any_process_is_that_of_all(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
):
    peers = Peers(monkeypatch)
    assert Agreement().at_batch(trainer(), 0, late=False) == (False, 0)
    assert Agreement().at_batch(trainer(), 0, late=True) == (True, 0)
    peers.answer = [0.0, float(signal.SIGTERM), 0.0]
    assert Agreement().at_batch(trainer(), 0, late=False) == (False, signal.SIGTERM)
    asked = peers.asked
    assert Agreement().at_batch(trainer(world_size=1), 0, late=True) == (True, 0) and peers.asked == asked
    peers.answer = [float(signal.SIGUSR1)]
    assert Agreement().at_end(trainer()) == signal.SIGUSR1


@pytest.mark.parametrize("number", stopping.SIGNALS)
def test_every_signal_that_asks_to_stop_is_heard_at_a_batch(clock: list[float], number: signal.Signals):
    stopping.listen(at_batches=True)
    os.kill(os.getpid(), number)
    assert stopping.asked() == number and stopping.exit_code() == 128 + number
    with pytest.raises(KeyboardInterrupt):  # a second one at once
        os.kill(os.getpid(), number)


def test_what_a_launcher_passes_on_is_no_second_signal_but_a_later_one_is(clock: list[float]):
    stopping.listen(at_batches=True, together=True)
    os.kill(os.getpid(), signal.SIGINT)
    clock[0] += 0.5
    os.kill(os.getpid(), signal.SIGINT)
    clock[0] += 0.6
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_processes_that_stop_together_end_with_the_signal_that_one_has_heard(clock: list[float]):
    stopping.listen(at_batches=True, together=True)
    stopping.leave(signal.SIGTERM)
    stopping.listen(at_batches=False)
    os.kill(os.getpid(), signal.SIGTERM)  # of a launcher that has seen the first of them end
    assert stopping.exit_code() == 143
    clock[0] += stopping.LEAVING + 0.1
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
