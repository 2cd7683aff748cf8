"""What may befall workers and the rows that they load. It is a module, so that workers can import it."""

import os
import signal
import time
from pathlib import Path

from distributed import WorkerPlugin

from skaimz.sampling import Folder


class DiesOnce(WorkerPlugin):
    """The first worker that writes a certain file is killed when it has written half of it."""

    def __init__(self, file, died):
        self.file, self.died = file, died

    def setup(self, worker):
        write = Folder.write

        def dying(folder, key, content, **settings):
            path = folder.path / key
            if path == self.file and not self.died.exists():
                self.died.touch()
                path.with_name(f"{path.name}.half.partial").write_bytes(bytes(content)[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            write(folder, key, content, **settings)

        Folder.write = dying


def slowly(block):
    """Return rows that take some time to load."""
    time.sleep(0.1)
    return block


def removing(block, folder, block_info=None):
    """Return rows whose last chunk removes a folder."""
    if block_info[0]["chunk-location"][0] == block_info[0]["num-chunks"][0] - 1:
        Path(folder).rename(f"{folder} elsewhere")
    return block
