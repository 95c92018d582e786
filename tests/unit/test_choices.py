import pytest

from towerrec.choices import batch_size, split_node


@pytest.mark.parametrize(
    ("num_rows", "expected"),
    [(1, 128), (8_191, 128), (21_000, 256), (110_000, 1024), (262_144, 4096), (12_000_000, 4096)],
)
def test_small_logs_get_small_batches_so_that_an_epoch_has_steps_enough(num_rows: int, expected: int):
    assert batch_size(num_rows) == expected


def test_the_automatic_split_is_that_of_the_files_where_they_bring_one():
    node = {"name": "auto", "val": 0.1, "test": 0.2, "seed": 3, "candidates": "catalogue"}
    assert split_node(node, {"train": "a.csv"}) == {"_target_": "towerrec.data.splits.Given", "candidates": "catalogue"}
    drawn = {key: value for key, value in node.items() if key != "name"}
    assert split_node(node, {"interactions": "a.csv"}) == {"_target_": "towerrec.data.splits.RandomRows", **drawn}
    assert split_node({"_target_": "x"}, {"train": "a.csv"}) == {"_target_": "x"}
