import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from planted import schema_of, tables_of

from towerrec.nn.batch_scorer import BatchScorer
from towerrec.nn.losses import BCE, InBatchSoftmax, Loss
from towerrec.nn.negatives import NoNegatives
from towerrec.nn.two_tower import TwoTower
from towerrec.ragged import UserItems
from towerrec.schema import Batch

USERS, ITEMS, ROWS = 2000, 3000, 4096


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def trained(loss: Loss, *, threads: int, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights after three steps with batches that two threads share."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    users, items = tables_of(USERS, ITEMS)
    model = TwoTower(schema_of(USERS, ITEMS), embedding_dim=64, user_hidden=[128, 64], item_hidden=[128, 64])
    nobody = torch.zeros(0, dtype=torch.int64)
    known = UserItems.from_pairs(nobody, nobody, num_users=USERS, num_items=ITEMS)
    scorer = BatchScorer(
        model, users=users, items=items, item_counts=torch.ones(ITEMS), known=known, negatives=NoNegatives()
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    draw = torch.Generator().manual_seed(seed)
    for _ in range(3):
        batch = Batch(
            user_idx=torch.randint(USERS, (ROWS,), generator=draw),
            item_idx=torch.randint(ITEMS, (ROWS,), generator=draw),
            label=(torch.rand(ROWS, generator=draw) < 0.5).float(),
            weight=torch.ones(ROWS),
        )
        optimiser.zero_grad()
        loss(scorer.scored(batch, loss), known).backward()
        optimiser.step()
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("loss", [BCE(), InBatchSoftmax(mask_known=False)], ids=lambda loss: loss.name)
def test_one_thread_and_two_learn_the_same_weights_to_the_last_bit(loss: Loss, threads_as_before: None):
    if not torch.backends.mkl.is_available():
        pytest.skip("this build of torch multiplies matrices without MKL")
    one, two, other = trained(loss, threads=1), trained(loss, threads=2), trained(loss, threads=2, seed=1)
    assert [name for name in one if not torch.equal(one[name], two[name])] == []
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_the_load_of_the_machine_does_not_choose_the_number_of_threads_and_users_choose_how_mkl_adds_up():
    asks = "import os, towerrec; print(os.environ['OMP_DYNAMIC'], os.environ['MKL_CBWR'])"
    said = subprocess.run(
        [sys.executable, "-c", asks],
        env={**os.environ, "OMP_DYNAMIC": "true", "MKL_CBWR": "COMPATIBLE"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split() == ["false", "COMPATIBLE"]
