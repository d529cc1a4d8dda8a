"""A file for HDF5 to write into that takes everything, and says afterwards what the disk refused. Knows no HDF5.

HDF5 does not get over a write that fails: it tries again when the file is closed, prints the failure from where nobody
can catch it, and may crash the process when it ends. So a failure is kept from it, and raised when all is closed.
"""

import os
from pathlib import Path
from types import TracebackType

__all__ = ["Sink"]


class Sink:
    """A new file in the manner of Python's file objects, for h5py's driver "fileobj". A context manager.

    Raises
    ------
    OSError
        On entering, when the file cannot be made or is there; on leaving, the first failure of a write.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1
        self._position = 0
        self._failure: BaseException | None = None

    def __enter__(self) -> "Sink":
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        if self._failure is not None:
            raise self._failure from error  # what HDF5 makes of it afterwards is only a consequence

    def write(self, content: memoryview) -> int:
        """Write at the position; after a failure nothing more, in silence."""
        left = memoryview(content).cast("B")
        try:
            while len(left) and self._failure is None:
                written = os.pwrite(self._descriptor, left, self._position)
                left, self._position = left[written:], self._position + written
        except BaseException as failure:  # noqa: BLE001  # Ctrl-C too: HDF5 would take it for a failed write
            self._failure = failure
        self._position += len(left)
        return len(content)

    def readinto(self, content: memoryview) -> int:
        """Read from the position; zeros where nothing is."""
        found = os.preadv(self._descriptor, [content], self._position)
        content[found:] = bytes(len(content) - found)
        self._position += len(content)
        return len(content)

    def read(self, size_bytes: int) -> bytes:
        """As `readinto`; h5py knows a file by its having this."""
        content = bytearray(size_bytes)
        self.readinto(memoryview(content))
        return bytes(content)

    def truncate(self, size_bytes: int) -> int:
        """Make the file that long."""
        try:
            if self._failure is None:
                os.ftruncate(self._descriptor, size_bytes)
        except BaseException as failure:  # noqa: BLE001  # as in write
            self._failure = failure
        return size_bytes

    def seek(self, offset_bytes: int, whence: int = os.SEEK_SET) -> int:
        """Move the position: from the start, or from the end."""
        base = os.fstat(self._descriptor).st_size if whence == os.SEEK_END else 0
        self._position = base + offset_bytes
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def flush(self) -> None:
        """Nothing is held back here."""
