"""The same lists and figures on CUDA as on the CPU."""

import pytest
import torch

from towerrec.metrics.functional import hits_of, ranking_metrics
from towerrec.metrics.topk import RankingMetrics
from towerrec.ragged import UserItems
from towerrec.retrieval.search import top_n

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def test_cuda_gives_the_lists_and_the_metrics_of_the_cpu():
    generator = torch.Generator().manual_seed(0)
    # Whole numbers: the products are exact on both devices, and ties are everywhere.
    user_BD = torch.randint(-3, 4, (300, 8), generator=generator).float()
    item_ID = torch.randint(-3, 4, (2000, 8), generator=generator).float()
    pairs = (
        torch.randint(0, 300, (20_000,), generator=generator),
        torch.randint(0, 2000, (20_000,), generator=generator),
    )
    seen = UserItems.from_pairs(*(p[:15_000] for p in pairs), num_users=300, num_items=2000)
    relevant = UserItems.from_pairs(*(p[15_000:] for p in pairs), num_users=300, num_items=2000)
    results = []
    for device in ("cpu", "cuda"):
        lists = top_n(user_BD.to(device), item_ID.to(device), n=50, exclude=seen.to(device))
        users = torch.arange(300, device=device)
        hits = hits_of(lists.items, relevant.to(device), users)
        metric = RankingMetrics([10, 50], 2000).to(device)
        metric.update(lists.items, hits, relevant.to(device).counts)
        per_user = ranking_metrics(hits, relevant.to(device).counts, [10, 50])
        results.append((lists.to("cpu"), {k: v.cpu() for k, v in metric.compute().items()}, per_user))
    (cpu_lists, cpu_metrics, _), (cuda_lists, cuda_metrics, per_user) = results
    assert torch.equal(cpu_lists.items, cuda_lists.items)
    assert torch.equal(cpu_lists.scores, cuda_lists.scores)
    torch.testing.assert_close(cuda_metrics, cpu_metrics)
    torch.testing.assert_close(per_user["ndcg@10"].nanmean().cpu(), cpu_metrics["ndcg@10"])
