"""Several models that are one. Shape letters: U users, I items, V width of the vectors."""

from typing import Any

import pytest
import torch
from planted import Planted, module_of, schema_of, train_loader, trainer_of

from towerrec.module import RetrievalModule
from towerrec.nn.ensemble import Ensemble, build_model, members_of
from towerrec.nn.losses import BCE, FullSoftmax, InBatchSoftmax, Multinomial
from towerrec.nn.negatives import CrossBatch
from towerrec.nn.two_tower import TwoTower

PLANTED = Planted.make()
USERS = torch.arange(7)


def vectors_of(module: RetrievalModule) -> tuple[torch.Tensor, torch.Tensor]:
    module.eval()
    with torch.no_grad():
        items = module.scorer.item_vectors()
        return module.scorer.user_vectors(USERS, None, items), items


def fitted(module: RetrievalModule, *, max_epochs: int = 2) -> RetrievalModule:
    trainer_of(max_epochs=max_epochs).fit(module, train_loader(PLANTED, module))
    return module


@pytest.mark.parametrize("model", [{}, {"similarity": "cosine", "profile": "rows"}, {"user_bias": False}])
def test_the_score_of_an_ensemble_is_the_mean_of_its_members(model: dict[str, Any]):
    module = module_of(PLANTED, loss=Multinomial(), model={"members": 3, **model})
    assert isinstance(module.model, Ensemble)
    user_UV, item_IV = vectors_of(module)
    want = torch.zeros(len(USERS), len(item_IV))
    for teacher in module._teachers:
        own_IV = teacher.item_vectors()
        want += (teacher.user_vectors(USERS, None, own_IV) @ own_IV.T).detach() / 3
    torch.testing.assert_close(user_UV @ item_IV.T, want, atol=1e-5, rtol=1e-5)


def test_members_start_apart_and_one_member_is_the_plain_model():
    model = build_model(schema_of(), {"name": "x", "members": 2, "embedding_dim": 4})
    first, second = members_of(model)
    assert not torch.equal(first.item_tower.id_vectors, second.item_tower.id_vectors)  # type: ignore[arg-type]
    assert isinstance(build_model(schema_of(), {"name": "x", "members": 1}), TwoTower)


def test_a_member_learns_as_if_it_were_alone():
    """Without dropout the members do not know of each other: the first one ends where a single model ends."""
    alone = fitted(module_of(PLANTED, loss=FullSoftmax(), model={"members": 1, "context_dropout": 0.0}))
    together = module_of(PLANTED, loss=FullSoftmax(), model={"members": 2, "context_dropout": 0.0})
    first = members_of(together.model)[0]
    start = module_of(PLANTED, loss=FullSoftmax(), model={"members": 1, "context_dropout": 0.0})
    first.load_state_dict(start.model.state_dict())
    fitted(together)
    for name, value in alone.model.state_dict().items():
        torch.testing.assert_close(first.state_dict()[name], value, atol=1e-5, rtol=1e-4)


def test_the_mean_of_members_predicts_better_than_its_members_do():
    """Jensen: the loss of the mean score is at most the mean of the losses."""
    module = fitted(module_of(PLANTED, loss=BCE(), model={"members": 4}))
    module.eval()
    batch = next(iter(train_loader(PLANTED, module)))
    with torch.no_grad():
        whole = module.loss(module.scorer.scored_rows(batch), module.scorer.known)
        parts = [module.loss(teacher.scored_rows(batch), teacher.known) for teacher in module._teachers]
    assert whole < torch.stack(parts).mean()


def test_a_number_of_members_below_one_and_a_queue_of_one_model_are_refused():
    with pytest.raises(ValueError, match=r"model\.members must be at least 1, got 0"):
        build_model(schema_of(), {"name": "x", "members": 0})
    with pytest.raises(ValueError, match=r"set model\.members=1"):
        module_of(PLANTED, loss=InBatchSoftmax(), negatives=CrossBatch(), model={"members": 2})
