"""The walk over scales, on curves that are known."""

from typing import Any, cast

import pytest
import torch
from planted import Planted, module_of, train_loader, val_loaders

from towerrec import probing
from towerrec.choices import probes_scale
from towerrec.data.datamodule import RetrievalDataModule
from towerrec.module import RetrievalModule
from towerrec.nn.losses import BCE, Multinomial

PLANTED = Planted.make()


class Loaders:
    """The loaders of a planted log, as a trainer asks a datamodule for them."""

    def __init__(self, module: RetrievalModule) -> None:
        self.module, self.trainer = module, None

    def train_dataloader(self) -> Any:
        return train_loader(PLANTED, self.module)

    def val_dataloader(self) -> Any:
        return val_loaders(PLANTED)


@pytest.mark.parametrize(
    ("figures", "expected", "fits"),
    [
        ({3.5: 0.3, 5.0: 0.2, 8.0: 0.9, 12.0: 0.9}, 3.5, [3.5, 5.0]),
        ({3.5: 0.1, 5.0: 0.3, 8.0: 0.2, 12.0: 0.9}, 5.0, [3.5, 5.0, 8.0]),
        ({3.5: 0.1, 5.0: 0.2, 8.0: 0.3, 12.0: 0.2}, 8.0, [3.5, 5.0, 8.0, 12.0]),
        ({3.5: 0.1, 5.0: 0.2, 8.0: 0.3, 12.0: 0.4}, 12.0, [3.5, 5.0, 8.0, 12.0]),
        ({3.5: 0.2, 5.0: 0.2, 8.0: 0.2, 12.0: 0.2}, 5.0, [3.5, 5.0, 8.0]),
    ],
)
def test_the_walk_stops_where_the_figure_falls_and_tries_no_scale_twice(
    monkeypatch: pytest.MonkeyPatch, figures: dict[float, float], expected: float, fits: list[float]
):
    tried: list[float] = []

    def figure(scale: float, data: object, **_: str) -> float:
        tried.append(scale)
        return figures[scale]

    monkeypatch.setattr(probing, "_figure", figure)
    make = cast(Any, lambda scale: scale)
    data = cast(RetrievalDataModule, None)
    assert probing.best_scale(make, data, monitor="val/ndcg@20", accelerator="cpu") == expected
    assert sorted(tried) == fits


def test_a_short_fit_ends_after_whole_epochs_with_the_validation_figure():
    module = module_of(PLANTED, loss=Multinomial(monitor="val/ndcg@10"), model={"similarity": "cosine", "scale": 5.0})
    before = module.model.state_dict()["item_tower.id_vectors"].clone()
    steps = len(train_loader(PLANTED, module))
    epochs = -(-probing._STEPS // steps)
    data = cast(RetrievalDataModule, Loaders(module))
    found = probing._fit_of(module, data, accelerator="cpu")
    assert found.global_step == epochs * steps and 0.0 < float(found.callback_metrics["val/ndcg@10"]) <= 1.0
    assert not torch.equal(before, module.model.state_dict()["item_tower.id_vectors"])


@pytest.mark.parametrize(
    ("model", "loss", "expected"),
    [
        ({"similarity": None, "scale": None}, Multinomial(), True),
        ({"similarity": "cosine", "scale": None}, Multinomial(), True),
        ({"similarity": "cosine", "scale": 5.0}, Multinomial(), False),
        ({"similarity": "dot", "scale": None}, Multinomial(), False),
        ({"similarity": None, "scale": None}, BCE(), False),
        ({"similarity": None, "scale": None}, Multinomial(monitor="val/loss", mode="min"), False),
    ],
)
def test_a_scale_is_sought_only_where_none_was_given_and_one_is_read(model: dict[str, Any], loss: Any, expected: bool):
    assert probes_scale(model, loss) is expected
