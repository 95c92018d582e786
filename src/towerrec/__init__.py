"""Two-tower retrieval for short-video recommendation."""

import os

# GCC's OpenMP threads spin while they wait. Beside another busy process on the same cores that made a training epoch
# 73 s instead of 5; waiting asleep costs about a tenth on a quiet machine. Whoever sets the variable decides.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
