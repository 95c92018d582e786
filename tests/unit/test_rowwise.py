"""Adagrad with one number of state per row, against its definition row by row."""

from __future__ import annotations

import math

import pytest
import torch
from planted import Planted, module_of, train_loader, trainer_of, val_loaders
from torch import nn

from towerrec.optim import Adagrad
from towerrec.rowwise import RowwiseAdagrad

TABLE, WEIGHT = "tower.id_vectors", "tower.output.weight"


def made(settings: Adagrad, values: list[list[float]], name: str = TABLE) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    parameter = nn.Parameter(torch.tensor(values))
    return parameter, settings.build([(name, parameter)])


@pytest.mark.parametrize(("decay", "start"), [(0.0, 0.0), (0.1, 0.0), (0.0, 0.5)])
def test_a_row_shrinks_its_steps_by_the_mean_square_of_all_it_received(decay: float, start: float):
    values = [[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]]
    settings = RowwiseAdagrad(lr=0.1, embedding_decay=decay, initial_accumulator=start, eps=1e-8)
    table, optimizer = made(settings, values)
    expected, sums = [row[:] for row in values], [start] * 3
    for gradient in ([[1.0, 2.0], [0.0, 0.0], [4.0, 0.0]], [[-1.0, 0.5], [0.0, 2.0], [0.0, 0.0]]):
        table.grad = torch.tensor(gradient)
        optimizer.step()
        for n, row in enumerate(expected):
            g = [gradient[n][w] + decay * row[w] for w in range(2)]
            sums[n] += sum(x * x for x in g) / 2
            for w in range(2):
                row[w] -= 0.1 * g[w] / (math.sqrt(sums[n]) + 1e-8)
        torch.testing.assert_close(table.detach(), torch.tensor(expected))


def test_the_state_of_a_table_is_a_number_per_row_and_that_of_other_weights_one_per_number():
    for name, shape in ((TABLE, (3,)), (WEIGHT, (3, 2))):
        parameter, optimizer = made(RowwiseAdagrad(), [[1.0, 2.0]] * 3, name)
        parameter.grad = torch.ones(3, 2)
        optimizer.step()
        assert [tuple(value.shape) for value in optimizer.state[parameter].values()] == [shape]


def test_what_is_no_table_is_trained_as_by_adagrad():
    results = []
    for kind in (Adagrad, RowwiseAdagrad):
        weight, optimizer = made(kind(lr=0.1, weight_decay=0.01, initial_accumulator=0.1), [[1.0, 2.0]], WEIGHT)
        for gradient in ([[3.0, -1.0]], [[0.2, 5.0]]):
            weight.grad = torch.tensor(gradient)
            optimizer.step()
        results.append(weight.detach())
    torch.testing.assert_close(results[0], results[1])


def test_a_row_without_a_gradient_stays_as_it_is():
    table, optimizer = made(RowwiseAdagrad(), [[1.0, 2.0], [3.0, 4.0]])
    table.grad = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    optimizer.step()
    assert torch.equal(table[1], torch.tensor([3.0, 4.0]))


def test_it_learns_planted_tastes():
    planted = Planted.make()
    module = module_of(planted, optimizer=RowwiseAdagrad(lr=0.2))
    trainer = trainer_of(max_epochs=8, check_val_every_n_epoch=8)
    trainer.fit(module, train_loader(planted, module), val_loaders(planted))
    assert float(trainer.callback_metrics["val/recall@10"]) >= 0.9
