import zipfile

import numpy as np
import pytest
import torch
from disk_faults import files_up_to, flip_bit, kills

from towerrec.checkpoint_io import WholeCheckpoints, read_checkpoint, write_checkpoint


def content(fill: float) -> dict:
    return {
        "epoch": 3,
        "state_dict": {"w": torch.full((700,), fill), "b": torch.full((3,), fill)},
        "names": ["名", None],
    }


def same(one: dict, other: dict) -> bool:
    plain = {**one, "state_dict": None} == {**other, "state_dict": None}
    return plain and all(torch.equal(one["state_dict"][n], tensor) for n, tensor in other["state_dict"].items())


def test_a_checkpoint_reads_back(tmp_path):
    write_checkpoint(content(1.5), tmp_path / "deep" / "last.ckpt")
    assert same(read_checkpoint(tmp_path / "deep" / "last.ckpt"), content(1.5))


def test_no_flipped_bit_reads_as_other_weights(tmp_path):
    """Every 7th byte of the file, one bit each. What is not found lies where nothing is read: gaps and dates."""
    path = tmp_path / "last.ckpt"
    write_checkpoint(content(1.5), path)
    size, found = path.stat().st_size, 0
    for at in range(0, size, 7):
        flip_bit(path, at)
        try:
            assert same(read_checkpoint(path), content(1.5)), f"byte {at}"
        except ValueError as error:
            assert str(path) in str(error)
            found += 1
        flip_bit(path, at)
    assert found > 0.7 * size / 7
    assert same(read_checkpoint(path), content(1.5))


def test_damaged_weights_are_named_with_what_can_be_done(tmp_path):
    path = tmp_path / "last.ckpt"
    for name in ("last", "best"):
        write_checkpoint(content(1.5), tmp_path / f"{name}.ckpt")
    flip_bit(path, path.read_bytes().index(np.float32(1.5).tobytes() * 700) + 2000)
    loaded = torch.load(path, weights_only=True)
    assert not same(loaded, content(1.5)), "torch itself does not look"
    with pytest.raises(ValueError, match=r"last\.ckpt cannot.*record \S+ has not the checksum.*beside it \(best\)"):
        read_checkpoint(path)


@pytest.mark.parametrize("kept", [0, 1, 500, -1])
def test_a_checkpoint_that_was_cut_is_named(tmp_path, kept):
    path = tmp_path / "last.ckpt"
    write_checkpoint(content(1.5), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read as a checkpoint, it is damaged or another file"):
        read_checkpoint(path)


def test_packed_records_are_refused_before_they_are_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(ValueError, match=r"compressed, which torch\.save never does"):
        read_checkpoint(tmp_path / "bomb.ckpt")


class Evil:
    def __reduce__(self):
        return print, ("code of the file runs",)


def test_nothing_in_a_checkpoint_is_executed_whatever_lightning_asks_for(tmp_path, capsys):
    torch.save({"w": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"evil\.ckpt cannot be read"):
        WholeCheckpoints().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert "code of the file" not in capsys.readouterr().out


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(content(1.5), path)
    for limit in (0, 500, 3_000):
        with files_up_to(limit), pytest.raises(OSError, match=r"could not write .*last\.ckpt .*free some space"):
            WholeCheckpoints().save_checkpoint(content(2.5), path)
    assert same(read_checkpoint(path), content(1.5))
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_process_killed_at_any_moment_leaves_the_old_checkpoint_or_the_new(tmp_path):
    path = tmp_path / "last.ckpt"
    write_checkpoint(content(1.5), path)
    fills = set()
    for _ in kills(lambda: write_checkpoint(content(2.5), path)):
        fills.add(float(read_checkpoint(path)["state_dict"]["w"].mean()))
        write_checkpoint(content(1.5), path)
        assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]
    assert fills == {1.5, 2.5}


def test_lightning_may_remove_what_is_gone_and_asks_for_no_other_storage(tmp_path):
    write_checkpoint(content(1.5), tmp_path / "old.ckpt")
    for _ in range(2):
        WholeCheckpoints().remove_checkpoint(tmp_path / "old.ckpt")
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match="plain files"):
        WholeCheckpoints().save_checkpoint({}, tmp_path / "x.ckpt", storage_options={"bucket": "x"})
