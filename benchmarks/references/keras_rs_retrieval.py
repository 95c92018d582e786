"""keras-rs: a Keras 3 model with `SamplingProbabilityCorrection` over the logits of the batch, on TensorFlow.

Shape letters: B rows, F categorical features, V vector width.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import keras_rs
import numpy as np
import tensorflow as tf
import turns
from keras import ops
from rows import Data, arguments, judge
from tf_rows import positives


class Tower(keras.Model):
    """Categories [B, F], the id first, to vectors [B, V]."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.id = keras.layers.Embedding(sizes[0], 64)
        # One table for all features, each with an offset of its own: one lookup instead of F.
        self.offsets = np.cumsum([0, *sizes[1:-1]]).astype("int32")
        self.features = keras.layers.Embedding(sum(sizes[1:]), 8)
        self.width = 8 * (len(sizes) - 1)
        self.hidden, self.out = keras.layers.Dense(128, "relu"), keras.layers.Dense(64)

    def call(self, categories_BF: tf.Tensor) -> tf.Tensor:
        features = ops.reshape(self.features(categories_BF[:, 1:] + self.offsets), [-1, self.width])
        return self.out(self.hidden(ops.concatenate([self.id(categories_BF[:, 0]), features], axis=1)))


class TwoTower(keras.Model):
    """Both towers; their loss is the softmax over the batch."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.user_tower, self.item_tower = Tower(data.user_sizes.tolist()), Tower(data.item_sizes.tolist())
        self.correction = keras_rs.layers.SamplingProbabilityCorrection(epsilon=1e-12)

    def call(self, inputs: tuple[tf.Tensor, ...]) -> tf.Tensor:
        user_BF, item_BF, share_B = inputs
        logits_BB = ops.matmul(self.user_tower(user_BF), ops.transpose(self.item_tower(item_BF)))
        return self.correction(logits_BB, share_B)


class Turns(keras.callbacks.Callback):
    """An epoch of `fit` is a turn; the first one warms up."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if epoch == 1:
            turns.ready(**{"keras-rs": keras_rs.__version__, "keras": keras.__version__, "tensorflow": tf.__version__})
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
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(asked.lr), loss=loss)

    def with_target(*inputs: tf.Tensor) -> tuple[tuple[tf.Tensor, ...], tf.Tensor]:
        return inputs, tf.range(tf.shape(inputs[0])[0])

    dataset = positives(data, batch=asked.batch).map(with_target)
    model.fit(dataset, epochs=1 + asked.rounds, verbose=0, callbacks=[Turns(len(data.positives))])
    vectors = (model.user_tower(data.users.astype("int32")), model.item_tower(data.items.astype("int32")))
    turns.finish(**judge(data, ops.convert_to_numpy(vectors[0]), ops.convert_to_numpy(vectors[1]), label="rank"))


if __name__ == "__main__":
    main()
