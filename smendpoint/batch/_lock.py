"""The lock of a ledger: on the file itself, held by its descriptor, so that the kernel releases it with the process."""

from __future__ import annotations

import sys

# Windows locks bytes, and no one else can read a locked byte. This one is far beyond the end of most ledgers, and need
# not exist. The C library's `_locking` counts with 32 bits.
_WINDOWS_OFFSET = 0x7FFFFFFE


def lock_file(descriptor: int) -> bool:
    """Lock an open file without waiting; return false if another process has the lock.

    Raises:
        OSError: the file system has no locks.
    """
    if sys.platform == "win32":
        import msvcrt
        import os

        os.lseek(descriptor, _WINDOWS_OFFSET, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
