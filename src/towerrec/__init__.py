"""Two-tower retrieval for short-video recommendation."""

import os

# GCC's OpenMP threads spin while they wait. Beside another busy process on the same cores that made a training epoch
# 73 s instead of 5 (seen once); waiting asleep costs about a quarter of the rows/s on a quiet one (three runs each in
# turn, medians 184,819 and 137,586). Whoever sets the variable decides: GOMP_SPINCOUNT=300000 is the library's own.
os.environ.setdefault("GOMP_SPINCOUNT", "0")
