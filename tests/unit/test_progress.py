import io
import time

import pytest

from towerrec import progress


class Terminal(io.StringIO):
    """What is written to a terminal."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    progress.choose("auto")


def shown_on(monkeypatch, stream, work=None):
    """What some work leaves on stderr."""
    monkeypatch.setattr("sys.stderr", stream)

    def steps():
        for name, _ in progress.named([("first", 0), ("second", 1)], "counting", 2):
            progress.share(0.5)
            assert name in ("first", "second")

    (work or steps)()
    return stream.getvalue()


def test_bars_are_on_a_terminal_and_nowhere_else(monkeypatch):
    text = shown_on(monkeypatch, Terminal())
    assert "counting: first" in text or "counting: second" in text
    assert "%" in text
    assert shown_on(monkeypatch, io.StringIO()) == ""


@pytest.mark.parametrize(("kind", "stream", "shows"), [("bar", io.StringIO, True), ("off", Terminal, False)])
def test_the_key_says_otherwise(monkeypatch, kind, stream, shows):
    progress.choose(kind)
    assert (shown_on(monkeypatch, stream()) != "") == shows


def test_tqdms_own_switch_is_honoured(monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert not progress.shown() and shown_on(monkeypatch, Terminal()) == ""


def test_one_process_of_several_has_a_voice(monkeypatch):
    progress.choose("bar", speaks=False)
    assert shown_on(monkeypatch, Terminal()) == ""


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="progress must be one of auto, bar, off, got 'loud'"):
        progress.choose("loud")


def test_a_bar_leaves_nothing_when_its_work_is_done_or_fails(monkeypatch):
    def fails():
        with pytest.raises(RuntimeError), progress.bar("failing", 2):
            raise RuntimeError

    text = shown_on(monkeypatch, Terminal(), fails)
    assert text.endswith("\r") and not text.endswith("\n")
    # The bar that failed is no longer there for others to move.
    progress.share(0.5)
    progress.step("nothing")


def test_a_step_moves_by_its_share_and_never_back(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    with progress.bar("work", 4) as bar:
        bar.step("one")
        bar.share(0.5)
        assert bar._bar.n == 0.5
        bar.share(0.25)
        assert bar._bar.n == 0.5
        bar.step("two")
        assert bar._bar.n == 1
        bar.step("two")  # goes on
        bar.share(1.0)
        assert bar._bar.n == 2


def test_a_hidden_bar_costs_next_to_nothing(monkeypatch):
    monkeypatch.setattr("sys.stderr", io.StringIO())
    started = time.process_time()
    with progress.bar("work", 1) as bar:
        bar.step("many")
        for place in range(100_000):
            progress.share(place / 100_000)
    assert time.process_time() - started < 1.0
