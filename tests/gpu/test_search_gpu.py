"""The same lists and figures on CUDA as on the CPU."""

import pytest
import torch

from towerrec.metrics.functional import hits_of, ranking_metrics
from towerrec.metrics.topk import RankingMetrics
from towerrec.ragged import UserItems
from towerrec.retrieval.rescoring import RoundedVectors, whole_sums
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


@pytest.mark.parametrize("high", [3, 1000])  # up to 3 ties are everywhere; 1000 is far beyond the 8 bits of bfloat16
def test_rough_scores_on_cuda_give_the_lists_of_float32_on_the_cpu(high: int):
    generator = torch.Generator().manual_seed(0)
    user_BD = torch.randint(-high, high + 1, (300, 4), generator=generator).float()
    item_ID = torch.randint(-high, high + 1, (20_000, 4), generator=generator).float()
    user, item = torch.randint(0, 300, (30_000,), generator=generator), torch.randint(0, 20_000, (30_000,))
    seen = UserItems.from_pairs(user, item, num_users=300, num_items=20_000)
    for allowed in (None, torch.arange(20_000) % 3 > 0):
        wanted = top_n(user_BD, item_ID, n=100, exclude=seen, allowed=allowed)
        got = top_n(
            user_BD.cuda(),
            item_ID.cuda(),
            n=100,
            exclude=seen.to("cuda"),
            allowed=None if allowed is None else allowed.cuda(),
            precision="bfloat16",
            memory_mb=3,
        )
        assert torch.equal(got.items.cpu(), wanted.items)
        assert torch.equal(got.scores.cpu(), wanted.scores)


def test_no_rough_score_of_cuda_is_further_off_than_the_bound_says():
    generator = torch.Generator().manual_seed(0)
    user_BD = torch.randn(512, 128, generator=generator).cuda()
    item_ID = torch.randn(8192, 128, generator=generator).cuda()
    rounded = RoundedVectors(user_BD, item_ID)
    with whole_sums():
        rough_BI = (rounded.rounded_user_BD @ rounded.rounded_item_CD.T).double()
    off_BI = (rough_BI - user_BD.double() @ item_ID.double().T).abs()
    assert (off_BI <= rounded.slack_B[:, None] + rough_BI.abs() * 2.0**-8).all()
