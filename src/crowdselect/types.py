"""Aliases for arrays and tables in signatures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
"""Vectors of texts."""
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
ObjectArray = NDArray[Any]
Table = Any
"""An Arrow table; pyarrow ships no types."""
