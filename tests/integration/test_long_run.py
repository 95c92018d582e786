"""A long run holds no more at its end than after its first epochs, and a leak is seen."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_memory_files_and_threads_stay_as_they_are_and_a_leak_of_a_mebibyte_an_epoch_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("scipy", reason="intervals of slopes need scipy")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import long_run

    tiny = long_run.SCENARIOS["50 epochs, 30 users"]
    more = ["trainer.max_epochs=26", "+callbacks.memory.leak_kib=1024", "+callbacks.memory.leak_after=15"]
    moments = long_run.watched(tiny, tmp_path, more=more)
    before = long_run.judged(moments[:15], warm_up=5, limit_kib=tiny.limit_kib)
    after = long_run.judged(moments[15:], warm_up=0, limit_kib=tiny.limit_kib)
    assert before["flat"], before
    assert not after["flat"] and 900 < after["slope_kib"] < 1200, after
