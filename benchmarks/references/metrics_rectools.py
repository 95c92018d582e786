"""RecTools: NumPy ranks, `calc_metrics` judges a table of lists against a table of interactions."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import pandas as pd
from metrics_case import KS, Case, Figures, arguments, take_turns
from rectools import Columns
from rectools.metrics import MAP, MRR, NDCG, Precision, Recall, calc_metrics


def main() -> None:
    asked = arguments()
    case = Case.load(asked.case)
    user, item = case.relevant_UI.nonzero()
    interactions = pd.DataFrame({Columns.User: user, Columns.Item: item})
    metrics = {
        f"{name}@{k}": metric(k=k)
        for k in KS
        for name, metric in {"precision": Precision, "recall": Recall, "ndcg": NDCG, "map": MAP, "mrr": MRR}.items()
    }

    def judge() -> Figures:
        lists = case.top()
        users, n = lists.shape
        table = pd.DataFrame(
            {
                Columns.User: np.repeat(np.arange(users), n),
                Columns.Item: lists.ravel(),
                Columns.Rank: np.tile(np.arange(1, n + 1), users),
            }
        )
        return {name: float(value) for name, value in calc_metrics(metrics, table, interactions).items()}

    take_turns(judge, asked, len(case.score_UI), rectools=version("rectools"), pandas=pd.__version__)


if __name__ == "__main__":
    main()
