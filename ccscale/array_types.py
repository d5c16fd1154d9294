"""Type aliases of NumPy arrays, by dtype; their axes are described where they are used."""

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
