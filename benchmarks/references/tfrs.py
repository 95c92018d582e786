"""tensorflow-recommenders: a `tfrs.Model` with the `Retrieval` task, as its tutorials have it, over tf.data.

With candidate sampling probabilities (logQ), without the removal of accidental hits, which costs more.
Needs tf-keras (Keras 2).

Shape letters: B rows, F categorical features, V vector width.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras
import turns
from rows import Data, arguments, judge
from tf_rows import positives


class Tower(keras.Model):
    """Categories [B, F], the id first, to vectors [B, V]."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.id = keras.layers.Embedding(sizes[0], 64)
        # One table for all features, each with an offset of its own: one lookup instead of F.
        self.offsets = tf.constant(np.cumsum([0, *sizes[1:-1]]), tf.int32)
        self.features = keras.layers.Embedding(sum(sizes[1:]), 8)
        self.width = 8 * (len(sizes) - 1)
        self.hidden, self.out = keras.layers.Dense(128, "relu"), keras.layers.Dense(64)

    def call(self, categories_BF: tf.Tensor) -> tf.Tensor:
        features = tf.reshape(self.features(categories_BF[:, 1:] + self.offsets), [-1, self.width])
        return self.out(self.hidden(tf.concat([self.id(categories_BF[:, 0]), features], axis=1)))


class TwoTower(tfrs.Model):
    """Both towers under one retrieval task."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.user_tower, self.item_tower = Tower(data.user_sizes.tolist()), Tower(data.item_sizes.tolist())
        self.task = tfrs.tasks.Retrieval()

    def compute_loss(self, inputs: tuple[tf.Tensor, ...], training: bool = False) -> tf.Tensor:
        user_BF, item_BF, share_B = inputs
        return self.task(
            self.user_tower(user_BF),
            self.item_tower(item_BF),
            candidate_sampling_probability=share_B,
            compute_metrics=False,
        )


class Turns(keras.callbacks.Callback):
    """An epoch of `fit` is a turn; the first one warms up."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch == 1:
            turns.ready(**{"tensorflow-recommenders": tfrs.__version__, "tensorflow": tf.__version__})
        if epoch > 0:
            self.since = turns.wait()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch > 0:
            turns.report(self.since, rows=self.rows)


def main() -> None:
    asked = arguments(__doc__).parse_args()
    keras.utils.set_random_seed(0)
    data = Data.load(asked.data)
    model = TwoTower(data)
    # The legacy optimiser is the faster one on a CPU.
    model.compile(optimizer=keras.optimizers.legacy.Adam(asked.lr))
    dataset = positives(data, batch=asked.batch)
    model.fit(dataset, epochs=1 + asked.rounds, verbose=0, callbacks=[Turns(len(data.positives))])
    vectors = (model.user_tower(tf.constant(data.users, tf.int32)), model.item_tower(tf.constant(data.items, tf.int32)))
    turns.finish(**judge(data, vectors[0].numpy(), vectors[1].numpy(), label="rank"))


if __name__ == "__main__":
    main()
