"""Batches of positives for the TensorFlow references: indices are shuffled and batched, features gathered per batch.

Shape letters: B rows, F categorical features.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from rows import Data


def positives(data: Data, *, batch: int) -> tf.data.Dataset:
    """Batches of (user categories [B, F], item categories [B, F], the item's share of the positives [B])."""
    counts = np.bincount(data.item[data.positives], minlength=len(data.items))
    share = tf.constant(np.maximum(counts / counts.sum(), 1e-12), tf.float32)
    users, items = tf.constant(data.users, tf.int32), tf.constant(data.items, tf.int32)
    pairs = np.stack([data.user[data.positives], data.item[data.positives]], axis=1).astype(np.int32)

    def gathered(pair_B2: tf.Tensor) -> tuple[tf.Tensor, ...]:
        user, item = pair_B2[:, 0], pair_B2[:, 1]
        return tf.gather(users, user), tf.gather(items, item), tf.gather(share, item)

    dataset = tf.data.Dataset.from_tensor_slices(pairs).shuffle(len(pairs), reshuffle_each_iteration=True)
    return dataset.batch(batch).map(gathered, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
