"""One softmax per user over the catalogue, against its definition and on planted tastes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from planted import NUM_ITEMS, NUM_USERS, Planted, module_of, tables_of, trainer_of, val_loaders
from torch import Tensor

from towerrec.checkpoint import load_model
from towerrec.data.user_batches import UserBatchLoader
from towerrec.module import RetrievalModule
from towerrec.nn.losses import Multinomial, Scored
from towerrec.nn.negatives import Candidates, KnownPairs
from towerrec.nn.profile import Profile
from towerrec.optim import Adam
from towerrec.ragged import UserItems

PLANTED = Planted.make()
NOBODY = KnownPairs(UserItems.empty(num_users=3, num_items=5))
NARROW = {"use_features": False, "use_user_id": False, "embedding_dim": 8, "profile": "rows"}
COSINE = {"similarity": "cosine", "scale": 5.0}


def scored_of(*, profile: bool = True, seed: int = 0) -> Scored:
    """Five rows of three users over five items; the profiles hold none of these rows."""
    draw = torch.Generator().manual_seed(seed)
    user_GV = torch.randn(3, 4, generator=draw, requires_grad=True)
    item_IV = torch.randn(5, 4, generator=draw, requires_grad=True)
    group_B, item_B = torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 3, 2, 4, 1])
    pairs = torch.tensor([[0, 1], [0, 2], [2, 0]]).T
    return Scored(
        user_GV=user_GV,
        user_idx_G=torch.arange(3),
        group_B=group_B,
        item_KV=item_IV[item_B],
        item_idx_B=item_B,
        label_B=torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0]),
        weight_B=torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0]),
        num_rows=5,
        candidates=Candidates(item_IV, torch.arange(5)),
        positive_B=torch.tensor([True, False, True, False, True]),
        profile=Profile(pairs[0], pairs[1], torch.ones(3) > 0, 3, item_IV) if profile else None,
    )


def slow_loss(scored: Scored, *, temperature: float, shown_weight: float) -> Tensor:
    """Row by row: log softmax over the items outside the user's profile."""
    assert scored.candidates is not None and scored.positive_B is not None
    total, weights = torch.zeros(()), 0.0
    for row in range(scored.num_rows):
        group = int(scored.group_B[row])
        scores_I = scored.candidates.vectors_CV @ scored.user_GV[group] / temperature
        left = torch.ones(5, dtype=torch.bool)
        if scored.profile is not None:
            left[scored.profile.item_P[scored.profile.group_P == group]] = False
        log_p_I = torch.log_softmax(scores_I.masked_fill(~left, -torch.inf), 0)
        weight = float(scored.weight_B[row]) * (1.0 if scored.positive_B[row] else shown_weight)
        total, weights = total - weight * log_p_I[scored.item_idx_B[row]], weights + weight
    return total / weights


@pytest.mark.parametrize("profile", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("shown_weight", [1.0, 0.4, 0.0])
def test_the_loss_and_its_gradient_are_those_of_the_definition(profile: bool, temperature: float, shown_weight: float):
    scored = scored_of(profile=profile)
    assert scored.candidates is not None
    inputs = [scored.user_GV, scored.candidates.vectors_CV]
    got = Multinomial(temperature=temperature, shown_weight=shown_weight)(scored, NOBODY)
    want = slow_loss(scored, temperature=temperature, shown_weight=shown_weight)
    torch.testing.assert_close(got, want)
    got_grads = torch.autograd.grad(got, inputs, retain_graph=True)
    for ours, theirs in zip(got_grads, torch.autograd.grad(want, inputs), strict=True):
        torch.testing.assert_close(ours, theirs)


def in_context(scored: Scored) -> Scored:
    """The rows' items in a context of their own, no longer what they are among the candidates."""
    draw = torch.Generator().manual_seed(1)
    return replace(scored, item_KV=torch.randn(5, 4, generator=draw, requires_grad=True), in_context=True)


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_an_item_in_a_context_competes_in_the_place_of_itself(temperature: float):
    scored = in_context(scored_of())
    assert scored.candidates is not None and scored.positive_B is not None and scored.profile is not None
    got = Multinomial(temperature=temperature)(scored, NOBODY)
    total, weights = torch.zeros(()), 0.0
    for row in range(5):
        group, item = int(scored.group_B[row]), int(scored.item_idx_B[row])
        item_IV = scored.candidates.vectors_CV.clone()
        item_IV[item] = scored.item_KV[row]
        masked = scored.profile.item_P[scored.profile.group_P == group]
        scores_I = (item_IV @ scored.user_GV[group] / temperature).index_fill(0, masked, -torch.inf)
        weight = float(scored.weight_B[row]) * (1.0 if scored.positive_B[row] else 0.5)
        total, weights = total - weight * torch.log_softmax(scores_I, 0)[item], weights + weight
    torch.testing.assert_close(got, total / weights)
    inputs = [scored.user_GV, scored.candidates.vectors_CV, scored.item_KV]
    grads = [torch.autograd.grad(value, inputs, retain_graph=True) for value in (got, total / weights)]
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_a_context_that_is_known_gives_no_endless_reward():
    scored = in_context(scored_of(profile=False))
    assert scored.candidates is not None
    for factor in (0.0, 10.0, 1e4):
        far = replace(scored, item_KV=scored.user_GV[scored.group_B] * factor)
        assert 0.0 <= float(Multinomial()(far, NOBODY).detach()) < 10.0
    # An item that is all there is leaves no others, and no gradient that is not finite.
    certain = replace(scored, candidates=Candidates(scored.candidates.vectors_CV * 1e3, torch.arange(5)))
    grads = torch.autograd.grad(Multinomial()(certain, NOBODY), [scored.user_GV, scored.item_KV])
    assert all(grad.isfinite().all() for grad in grads)


def test_a_weight_of_zero_reads_positives_alone():
    scored = scored_of()
    assert Multinomial(shown_weight=0.0).rows == "positives" and Multinomial(shown_weight=0.1).rows == "all"
    keep = [0, 2, 4]
    only = {name: getattr(scored, name)[keep] for name in ("group_B", "item_KV", "item_idx_B", "label_B", "weight_B")}
    positives = Scored(
        user_GV=scored.user_GV,
        user_idx_G=scored.user_idx_G,
        num_rows=3,
        candidates=scored.candidates,
        positive_B=torch.ones(3) > 0,
        profile=scored.profile,
        **only,
    )
    loss = Multinomial(shown_weight=0.0)
    torch.testing.assert_close(loss(scored, NOBODY), loss(positives, NOBODY))


def test_a_learned_temperature_takes_the_gradient_of_the_definition_and_a_fixed_one_none():
    learned, fixed = Multinomial(temperature=0.5, learn_temperature=True), Multinomial(temperature=0.5)
    learned(scored_of(), NOBODY).backward()
    step = 1e-3
    high, low = (slow_loss(scored_of(), temperature=0.5 * factor, shown_weight=0.5) for factor in (1 + step, 1 - step))
    assert float(learned.log_temperature.grad) == pytest.approx(float((high - low).detach()) / (2 * step), rel=1e-2)
    fixed(scored_of(), NOBODY).backward()
    assert fixed.log_temperature.grad is None
    assert float(learned.learned()["temperature"]) == pytest.approx(0.5)


def test_items_start_in_the_order_of_their_popularity_as_if_nothing_were_known_of_users():
    counts_I = torch.tensor([0, 7, 1, 100, 7])
    bias_I = Multinomial(temperature=0.5).initial_item_bias(counts_I)
    assert bias_I.argsort(stable=True).tolist() == [0, 2, 1, 4, 3]
    assert float(bias_I.sum()) == pytest.approx(0.0, abs=1e-6)
    share_I = (bias_I / 0.5).softmax(0)
    torch.testing.assert_close(share_I, (counts_I + 1) / (counts_I + 1).sum())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"temperature": 0.0}, "loss.temperature must be above 0, got 0"),
        ({"shown_weight": 1.5}, r"loss.shown_weight must be in \[0, 1\], got 1.5"),
        ({"shown_weight": -0.1}, r"loss.shown_weight must be in \[0, 1\], got -0.1"),
        ({"mode": "up"}, "loss.mode must be min or max"),
    ],
)
def test_a_setting_out_of_range_is_refused(keywords: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Multinomial(**keywords)


# -- training ---------------------------------------------------------------------------------------------------------


def users_of(module: RetrievalModule, *, share: float = 0.5, batch_size: int = 30, seed: int = 0) -> UserBatchLoader:
    return UserBatchLoader(
        PLANTED.train, batch_size=batch_size, target_share=share, seed=seed, kind=module.loss.rows, positive="> 0"
    )


def fitted(module: RetrievalModule, *, epochs: int, **keywords: Any) -> dict[str, float]:
    trainer = trainer_of(max_epochs=epochs, check_val_every_n_epoch=epochs)
    trainer.fit(module, users_of(module, **keywords), val_loaders(PLANTED))
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize(
    ("loss", "model"),
    [
        # Shown half the catalogue at random, so that to be shown says nothing: the liked alone are asked for.
        (Multinomial(shown_weight=0.0), {**NARROW, **COSINE}),
        (Multinomial(shown_weight=0.0), {**NARROW, **COSINE, "profile": "positives"}),
        (Multinomial(shown_weight=0.0, temperature=0.2), {**NARROW, "similarity": "cosine", "learn_scale": False}),
        (Multinomial(shown_weight=0.0), NARROW),
        (Multinomial(shown_weight=0.0), {**NARROW, "profile": "none", "use_user_id": True}),
        (Multinomial(shown_weight=0.05), {**NARROW, **COSINE}),
    ],
    ids=["rows", "positives", "temperature", "dot", "ids", "shown"],
)
def test_it_learns_planted_tastes(loss: Multinomial, model: dict[str, Any]):
    module = module_of(PLANTED, loss=loss, model=model, optimizer=Adam(lr=0.02))
    assert fitted(module, epochs=60)["val/recall@10"] >= 0.9


@pytest.mark.parametrize(
    "change",
    [
        {"loss": Multinomial(temperature=0.5)},
        {"loss": Multinomial(learn_temperature=True)},
        {"loss": Multinomial(shown_weight=0.9)},
        {"model": {**NARROW, "profile_power": 0.0}},
        {"share": 0.8},
        {"batch_size": 60},
        {"seed": 1},
    ],
    ids=str,
)
def test_every_option_changes_the_parameters(change: dict[str, Any]):
    states = []
    for more in ({}, change):
        own = {key: more[key] for key in ("loss", "model") if key in more}
        module = module_of(PLANTED, **{"loss": Multinomial(), "model": NARROW, **own})
        fitted(module, epochs=1, **{key: value for key, value in more.items() if key not in own})
        states.append(module.model.state_dict())
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_starts_at_the_popularity_of_the_items():
    module = module_of(PLANTED, loss=Multinomial(), model=NARROW, optimizer=Adam(lr=1e-12))
    fitted(module, epochs=1)
    counts_I = torch.bincount(PLANTED.train.item_idx, minlength=NUM_ITEMS)
    biases = module.model.item_tower.id_biases
    assert biases is not None
    expected = Multinomial().initial_item_bias(counts_I)
    torch.testing.assert_close(biases.detach()[2:], expected, atol=1e-6, rtol=1e-5)
    assert (biases.detach()[:2] == 0).all()


def test_a_model_without_item_biases_starts_without_popularity():
    model = {**NARROW, **COSINE, "item_bias": False, "user_bias": False, "global_bias": False}
    module = module_of(PLANTED, loss=Multinomial(), model=model)
    assert fitted(module, epochs=1)["train/loss"] > 0


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path: Path):
    model = {**NARROW, **COSINE, "id_dropout": 0.1}

    def fit(module: RetrievalModule, epochs: int, resume: str | None = None, **keywords: Any) -> None:
        trainer = trainer_of(max_epochs=epochs, **keywords)
        trainer.fit(module, users_of(module), val_loaders(PLANTED), ckpt_path=resume)

    whole, first, second = (module_of(PLANTED, loss=Multinomial(), model=model) for _ in range(3))
    fit(whole, 4)
    saver = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    fit(first, 2, callbacks=[saver], enable_checkpointing=True)
    fit(second, 4, resume=str(tmp_path / "last.ckpt"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_checkpoint_gives_back_a_model_that_reads_profiles(tmp_path: Path):
    module = module_of(PLANTED, loss=Multinomial(), model={**NARROW, **COSINE})
    saver = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    trainer = trainer_of(max_epochs=1, callbacks=[saver], enable_checkpointing=True)
    trainer.fit(module, users_of(module))
    model, meta = load_model(tmp_path / "last.ckpt")
    assert (model.profile_kind, meta.loss, meta.prediction) == ("rows", "multinomial", None)
    users, items = tables_of()
    whole = module.resident.profiles
    assert whole is not None
    vectors = []
    for towers in (model, module.model.eval()):
        item_IV = towers.encode_items(items.columns)
        profile = whole.of(torch.arange(NUM_USERS), item_IV)
        vectors.append(towers.user_vectors(towers.pack("user", users), profile=profile))
    torch.testing.assert_close(vectors[0], vectors[1])
