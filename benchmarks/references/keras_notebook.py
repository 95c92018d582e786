"""The Keras notebook: numbers of the user, tag flags of the video, dense layers of 256 and 128 each, dot product, MSE.

As the notebook has it: columns in memory, `model.fit`, Adam 1e-3; `--batch 32` is its own setting. A round is an epoch,
or the part of one that `--part` says, and the next one goes on with the rows behind it.

Shape letters: R rows, U users, I items, F numbers, T tags.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
import turns
from rows import Data, arguments, judge


def tower(width: int, name: str) -> keras.Sequential:
    """Two dense layers."""
    layers = [keras.Input((width,)), keras.layers.Dense(256, "relu"), keras.layers.Dense(128, "relu")]
    return keras.Sequential(layers, name=name)


def main() -> None:
    asked = arguments(__doc__).parse_args()
    keras.utils.set_random_seed(0)
    data = Data.load(asked.data)
    users_UF, items_IT = data.users[:, 1:].astype(np.float32), data.tags
    user_tower, item_tower = tower(users_UF.shape[1], "user"), tower(items_IT.shape[1], "item")
    inputs = [keras.Input((users_UF.shape[1],)), keras.Input((items_IT.shape[1],))]
    score = keras.layers.Dot(axes=1)([user_tower(inputs[0]), item_tower(inputs[1])])
    model = keras.Model(inputs, score)
    model.compile(optimizer=keras.optimizers.Adam(asked.lr), loss="mse")
    order = np.random.default_rng(0).permutation(len(data.user))
    num_rows = round(asked.part * len(order))

    def fit(rows_R: np.ndarray) -> None:
        columns = [users_UF[data.user[rows_R]], items_IT[data.item[rows_R]]]
        model.fit(columns, data.label[rows_R], batch_size=asked.batch, shuffle=True, verbose=0)

    def piece(turn: int) -> np.ndarray:
        return np.take(order, np.arange(turn * num_rows, (turn + 1) * num_rows), mode="wrap")

    fit(piece(0))
    turns.ready(keras=keras.__version__, tensorflow=tf.__version__)
    for turn in range(asked.rounds):
        chosen = piece(1 + turn)
        since = turns.wait()
        fit(chosen)
        turns.report(since, rows=num_rows)
    vectors = (user_tower.predict(users_UF, verbose=0), item_tower.predict(items_IT, verbose=0))
    turns.finish(**judge(data, *vectors, label="ratio"))


if __name__ == "__main__":
    main()
