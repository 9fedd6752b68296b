"""What the arrays that rooms hand to each other hold."""

from typing import Any

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Float32 = npt.NDArray[np.float32]
Uint8 = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]  # which of others are meant
Luma = Uint8  # how bright a picture is: rows x columns
Numbers = npt.NDArray[Any]
