"""Long work in short pieces, between which Python can show progress and be interrupted."""

import time
from collections.abc import Callable
from typing import Any

from tqdm.auto import tqdm

__all__ = ["CHUNK_STEPS", "run_in_chunks"]

CHUNK_STEPS = 1024
CHUNK_SECONDS = 0.25


def run_in_chunks(step: Callable[[int, int], Any], total: int, *, label: str, verbose: int, first: int = 256) -> None:
    """Call ``step(start, count)`` until ``total`` steps are done, each call a fraction of a second long.

    The sizes follow the clock, so a step must not depend on the chunk it is in. ``step`` must wait for its result and
    may return what the progress bar shows beside the label.
    """
    done, count = 0, first
    with tqdm(total=total, desc=label, disable=not verbose) as bar:
        while done < total:
            count = min(count, total - done)
            start = time.perf_counter()
            shown = step(done, count)
            elapsed = max(time.perf_counter() - start, 1e-9)
            done += count
            bar.update(count)
            if shown is not None:
                bar.set_postfix_str(str(shown), refresh=False)
            # The first chunk may have waited for the compiler: grow back fast.
            count = min(CHUNK_STEPS, 8 * count, max(1, round(count * CHUNK_SECONDS / elapsed)))
