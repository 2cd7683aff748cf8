"""Draws that are stored in fewer bits than they are computed in."""

import numpy as np

__all__ = ["as_stored", "stored_dtype"]


def stored_dtype(computed: np.dtype, draw_dtype: np.dtype | None) -> np.dtype:
    """Return the type in which draws are stored: ``draw_dtype`` for wider floats, and their own for everything else."""
    is_wider = draw_dtype is not None and computed.kind == "f" and computed.itemsize > draw_dtype.itemsize
    return draw_dtype if draw_dtype is not None and is_wider else computed


def as_stored(name: str, drawn: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return draws of a site, rounded to the type in which they are stored.

    Raises
    ------
    ValueError
        If a finite number is beyond the type's range, or all numbers are so small that it keeps few of their digits.
    """
    if drawn.dtype == dtype:
        return drawn
    limits, sizes = np.finfo(dtype), np.abs(drawn)
    largest = np.fmax.reduce(sizes, axis=None, initial=0)
    if largest == np.inf:
        largest = sizes[np.isfinite(sizes)].max(initial=0)
    if largest > limits.max:
        raise ValueError(
            f"`draw_dtype={str(dtype)!r}` cannot store draws of {name!r}: one is {largest:.3g} from zero, and the type "
            f"ends at {limits.max}. Leave `draw_dtype` out, or use larger units in the kernel."
        )
    if 0 < largest < limits.smallest_normal:
        raise ValueError(
            f"`draw_dtype={str(dtype)!r}` would lose most digits of draws of {name!r}: none of some rows is more than "
            f"{largest:.3g} from zero, and the type is accurate from {limits.smallest_normal:.3g} on. Leave "
            "`draw_dtype` out, or use smaller units in the kernel."
        )
    return drawn.astype(dtype)
