"""A column of vectors to one matrix."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from crowdselect.errors import InputError
from crowdselect.pool.index import Index, to_numpy

if TYPE_CHECKING:
    import pyarrow as pa


def vectors(values: "pa.Array", index: Index, *, what: str) -> NDArray[np.float32]:
    """Put lists of numbers under each other.

    Args:
        values: Shape (N,), a list per instruction.
        index: The instructions.
        what: File and column, for messages.

    Returns:
        Shape (N, D).

    Raises:
        InputError: A list is missing, of another length, or has a missing or infinite number.
    """
    import pyarrow.compute as pc

    lengths = to_numpy(pc.fill_null(pc.list_value_length(values), 0))
    wanted = int(lengths.max())
    odd = np.flatnonzero((lengths != wanted) | (lengths == 0))
    if odd.size:
        i = int(odd[0])
        raise InputError(
            f"{what} has {lengths[i]} numbers at id {index.id(i)!r}; "
            f"wanted {f'{wanted}, as in other rows' if wanted else 'a list of them'}"
        )
    flat: NDArray[np.float32] = to_numpy(pc.list_flatten(values)).reshape(len(lengths), wanted)
    finite = np.isfinite(flat).all(axis=1)
    if not finite.all():
        id_ = index.id(int(np.argmin(finite)))
        raise InputError(f"{what} has a missing or infinite number at id {id_!r}; wanted finite ones")
    return flat
