"""A pipe by which a child process learns that whoever started it is gone, even by `kill -9`.

The parent keeps the write end and never writes; a read in the child returns when the last holder
of the write end has ended. It works on every Unix and leaves no race around the start.
"""

import os
import signal
import threading


def end_with(read_fd: int) -> None:
    """Send this process SIGTERM once every holder of the pipe's other end is gone."""

    def watch() -> None:
        os.read(read_fd, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
