"""Features of the genuine KuaiRec tables that lie beside the checkout."""

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from towerrec.data.labels import WatchRatio
from towerrec.data.prepare import prepare
from towerrec.data.sources.interactions import Interactions
from towerrec.data.splits import RandomRows

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "kuairec-real"
pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason=f"the real KuaiRec rows are not in {REAL}")


def prepared(cache_dir, features, **changes):
    source = Interactions(
        interactions=str(REAL / "watch_ratio_sample.csv"),
        users=str(REAL / "user_features.csv"),
        items=[str(REAL / "item_categories.csv"), str(REAL / "kuairec_caption_category.csv")],
        columns={"user": "user_id", "item": "video_id", "label": "watch_ratio"},
    )
    plain = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "features" / f"{features}.yaml")) | changes
    split = RandomRows(val=0.0, test=0.2)
    return prepare(source=source, split=split, label=WatchRatio(), features=plain, cache_dir=cache_dir)


def test_the_genuine_columns_are_read_for_what_they_are(tmp_path):
    schema = prepared(tmp_path, "auto", drop=[]).schema
    kinds = {spec.name: spec.kind for spec in schema.features}
    assert (schema.num_users, schema.num_items) == (7176, 10728)
    assert [name for name, kind in kinds.items() if kind == "multi"] == ["feat", "item_text"]
    counts = ["follow_user_num", "fans_user_num", "friend_user_num", "register_days"]
    assert [name for name, kind in kinds.items() if kind == "numeric"] == [
        *counts,
        *("user_views", "user_positive_rate"),
        *("item_views", "item_positive_rate", "item_mean_label"),
    ]
    assert all(kinds[f"onehot_feat{i}"] == "categorical" for i in range(18))
    assert all(kinds[f"{level}_level_category_id"] == "categorical" for level in ("first", "second", "third"))


def test_the_notebook_reads_the_tags_and_nine_categories_with_their_gaps(tmp_path):
    ready = prepared(tmp_path, "notebook")
    assert len(ready.schema.side("user")) == 9
    assert [(spec.name, spec.width) for spec in ready.schema.side("item")] == [("tags", 4)]
    tags_IL = ready.items.columns["tags"]
    known = set(ready.encoders.encoders[-1][1].vocabulary.values)
    assert len(known) == 31
    assert ((tags_IL > 0).sum(1).bincount() == torch.tensor([0, 8970, 1562, 185, 11])).all()
    # onehot_feat12 has 77 gaps among the 7,176 users.
    assert (ready.users.columns["onehot_feat12"] == 1).sum() == 77
