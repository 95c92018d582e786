"""Embeddings of tables that never change, and scores of pairs: the plain expressions, values and gradients alike."""

from __future__ import annotations

import pytest
import torch
from planted import Planted, module_of, train_loader
from torch import Tensor

from towerrec.nn.lookup import Lists, Readers, add_rows_, pooled, read
from towerrec.nn.losses import BCE, BPR, FullSoftmax, InBatchSoftmax, Loss, Multinomial
from towerrec.nn.negatives import NoNegatives, Uniform
from towerrec.nn.pairs import pair_scores

PLANTED = Planted.make()


def test_the_gradient_of_known_readers_is_the_sum_over_them():
    table = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([3, 0, 3, 1, 3])
    grad = torch.arange(15, dtype=torch.float64).view(5, 3)
    rows = read(table, index, Readers.of(index, 5))
    assert torch.equal(rows, table[index])
    rows.backward(grad)
    want = torch.stack([grad[1], grad[3], torch.zeros(3), grad[0] + grad[2] + grad[4], torch.zeros(3)])
    torch.testing.assert_close(table.grad, want)


def test_rows_are_added_on_one_thread_and_the_others_are_there_again_afterwards():
    threads, index = torch.get_num_threads(), torch.tensor([1, 1, 0])
    torch.set_num_threads(2)
    try:
        table = torch.zeros(3, 2, requires_grad=True)
        read(table, index).backward(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        assert table.grad is not None and table.grad.tolist() == [[5.0, 6.0], [4.0, 6.0], [0.0, 0.0]]
        with pytest.raises((IndexError, RuntimeError)):
            add_rows_(torch.zeros(3, 2), index + 5, torch.ones(3, 2))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def pooled_by_hand(table: Tensor, lists: list[list[int]], pooling: str) -> Tensor:
    power = {"sum": 0.0, "sqrt": 0.5, "mean": 1.0}[pooling]
    rows = [[table[value] for value in values if value != 0] for values in lists]
    return torch.stack([torch.stack(r).sum(0) / len(r) ** power if r else torch.zeros(2).double() for r in rows])


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("pooling", ["sum", "sqrt", "mean"])
def test_lists_pool_their_values_without_padding_wherever_it_stands(pooling: str, constant: bool):
    given = [[1, 2, 2], [0, 0, 0], [0, 3, 1], [4, 0, 0]]
    table = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 2, dtype=torch.float64)
    want = pooled_by_hand(table, given, pooling)
    (want_grad,) = torch.autograd.grad((want * weight).sum(), table)
    got = pooled(table, Lists.of(torch.tensor(given)), pooling, constant=constant)
    (got_grad,) = torch.autograd.grad((got * weight).sum(), table)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(got_grad, want_grad)


def test_picked_lists_are_those_asked_for_and_hidden_ones_are_empty():
    lists = Lists.of(torch.tensor([[1, 2, 0], [0, 0, 0], [3, 0, 4]]))
    picked = lists.gather(torch.tensor([2, 0, 2, 1]))
    assert picked.padded.tolist() == [[3, 4, 0], [1, 2, 0], [3, 4, 0], [0, 0, 0]]
    hidden = picked.hidden(torch.tensor([[True], [False], [False], [False]]))
    assert hidden.padded.tolist() == [[0, 0, 0], [1, 2, 0], [3, 4, 0], [0, 0, 0]]
    assert pooled(torch.ones(5, 1), hidden, "sum").tolist() == [[0.0], [2.0], [2.0], [0.0]]
    assert Lists.of(torch.zeros(2, 3, dtype=torch.int64)).padded.tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("num_rows", [7, 5000, 20_000])  # within one chunk, added chunk by chunk, sorted
@pytest.mark.parametrize("own", [False, True])
def test_scores_of_pairs_are_dot_products_and_so_are_their_gradients(num_rows: int, own: bool):
    draw = torch.Generator().manual_seed(num_rows)
    users = torch.randn(40, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    items = torch.randn(num_rows if own else 30, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    group = torch.randint(40, (num_rows,), generator=draw)
    place = None if own else torch.randint(30, (num_rows,), generator=draw)
    weight = torch.randn(num_rows, generator=draw, dtype=torch.float64)
    want = (users[group] * (items if place is None else items[place])).sum(1)
    got = pair_scores(users, items, group, place)
    torch.testing.assert_close(got, want)
    wanted = torch.autograd.grad((want * weight).sum(), (users, items))
    for gradient, expected in zip(torch.autograd.grad((got * weight).sum(), (users, items)), wanted, strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("num_rows", [7, 5000])  # within one chunk, several chunks
@pytest.mark.parametrize("per_row", [1, 3])
@pytest.mark.parametrize("kept", [0, 1 << 30])  # looked up again for the gradient, kept for it
def test_scores_of_rows_and_their_negatives_are_those_of_pairs_and_so_are_their_gradients(
    num_rows: int, per_row: int, kept: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("towerrec.nn.pairs._KEPT", kept)
    draw = torch.Generator().manual_seed(num_rows + per_row)
    users = torch.randn(40, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    items = torch.randn(30, 6, generator=draw, dtype=torch.float64, requires_grad=True)
    row = torch.randint(40, (num_rows,), generator=draw)
    group = torch.cat([row, row.repeat_interleave(per_row)])
    place = torch.randint(30, (len(group),), generator=draw)
    weight = torch.randn(len(group), generator=draw, dtype=torch.float64)
    want = (users[group] * items[place]).sum(1)
    got = pair_scores(users, items, group, place, num_rows=num_rows)
    torch.testing.assert_close(got, want)
    wanted = torch.autograd.grad((want * weight).sum(), (users, items))
    for gradient, expected in zip(torch.autograd.grad((got * weight).sum(), (users, items)), wanted, strict=True):
        torch.testing.assert_close(gradient, expected)


def test_scores_of_half_precision_vectors_are_summed_in_single_precision():
    vectors = torch.full((1, 3), 1 / 3, dtype=torch.bfloat16)
    score = pair_scores(vectors, vectors, torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    assert score.dtype == torch.float32
    torch.testing.assert_close(score, (vectors.float() ** 2).sum().expand(2))


LOSSES: list[Loss] = [BCE(), InBatchSoftmax(), FullSoftmax(), Multinomial(), BPR()]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_a_batch_that_holds_nearly_everything_encodes_everything_with_the_same_gradients(loss: Loss):
    found = []
    for share in (0.0, 1.1):
        negatives = Uniform(per_row=2) if loss.name == "bpr" else NoNegatives()
        module = module_of(PLANTED, loss=loss, negatives=negatives).double()
        module.scorer.encoder._nearly_all = share
        batch = next(iter(train_loader(PLANTED, module)))
        torch.manual_seed(3)
        value = module.loss(module.scorer.scored(batch, module.loss), module.scorer.known)
        value.backward()
        found.append((value.detach(), {n: p.grad for n, p in module.named_parameters() if p.grad is not None}))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-12, atol=0)
    assert found[0][1].keys() == found[1][1].keys()
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-9, atol=1e-14, msg=name)
