"""A history is encoded on CUDA as on the CPU, up to rounding, gradients included."""

import pytest
import torch

from towerrec.nn.history_encoders import ENCODERS, user_history

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("name", ENCODERS)
def test_vectors_and_gradients_of_a_history_are_those_of_the_cpu(name: str):
    history_RH = torch.randint(-1, 40, (33, 13), generator=torch.Generator().manual_seed(0))
    history_RH[4] = -1
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        history = user_history(
            40, encoder=name, width=8, heads=2, layers=2, positions=6, shared=False, dropout=0.0, layer_dropout=0.0,
            init_std=0.5,
        ).to(device)  # fmt: skip
        vector_RW = history(history_RH.to(device))
        vector_RW.square().sum().backward()
        found.append({n: p.grad.cpu() for n, p in history.named_parameters()} | {"": vector_RW.detach().cpu()})
    for part, want in found[0].items():
        torch.testing.assert_close(found[1][part], want, rtol=1e-3, atol=1e-4, msg=part)
