"""Limits on memory and on work under way."""

from dataclasses import dataclass, field

import joblib

__all__ = ["DEFAULT", "Limits"]


@dataclass(frozen=True)
class Limits:
    """How much is computed, read or kept in memory at a time.

    The first four decide how rows are cut into tiles, and with that the random numbers of every row. The others change
    no result.

    Attributes
    ----------
    tile_elements : int
        Elements of the largest intermediate value in one call of a program.
    most_tile_rows, least_tile_rows : int
        Bounds on the rows of a tile, powers of two that divide ``PART_ROWS``.
    matrix_tile_rows : tuple of int
        Rows of a tile for kernels that multiply large matrices: for few rows and for many. Products of large matrices
        are fastest one draw at a time, with enough rows to use the whole machine.
    mixture_elements : int
        The same as ``tile_elements`` where the distributions of all draws are needed together: few enough to stay in a
        processor's cache while a loop returns to them. Such results use no random numbers that depend on the tile.
    batch_bytes : int
        Bytes of a batch: large enough to write fast, small enough that several fit in memory.
    steps_ahead : int
        Steps that are computed or finished at a time: enough to keep the device busy while results are copied from it,
        few enough to stop quickly.
    workers : int
        Threads that finish steps. By default as many as this process has cores, which on a cluster are fewer than the
        machine has, and at most 8.
    batches_queued : int
        Batches that may wait to be written.
    rows_read : int
        Rows of the input that are read at a time to average or compare them.
    rows_compared : int
        Rows on which two jobs are compared, to tell whether their outcomes differ.
    """

    tile_elements: int = 2**24
    most_tile_rows: int = 1024
    least_tile_rows: int = 8
    matrix_tile_rows: tuple[int, int] = (256, 2048)
    mixture_elements: int = 2**18
    batch_bytes: int = 2**25
    steps_ahead: int = 3
    workers: int = field(default_factory=lambda: min(8, joblib.cpu_count()))
    batches_queued: int = 2
    rows_read: int = 2**16
    rows_compared: int = 1024


# Limits of jobs that are made without any.
DEFAULT = Limits()
