"""A lock per GPU: two runs on one GPU would measure each other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from pathlib import Path

import orjson

from fairshare_locust.errors import ServingError
from fairshare_locust.serving.keeper import remove_if_free

__all__ = ["GpuLock"]


class GpuLock:
    """Held from its making to `release`. Raises ServingError when another process holds it, and says which.

    The file stands where every user of the host looks for it, whatever TMPDIR they have: in `/tmp`, or in the folder
    that FAIRSHARE_LOCKS names. Whoever inherits the descriptor holds the lock along with us.

    Attributes:
        path: of the file, which says who holds it.
    """

    def __init__(self, gpu: str) -> None:
        """`gpu`: its UUID, or its index where no driver tells the UUID."""
        self.path = _folder() / f"fairshare-gpu-{gpu}.lock"
        self._descriptor: int | None = None
        while self._descriptor is None:
            self._descriptor = self._try(gpu)

    def _try(self, gpu: str) -> int | None:
        """The locked file; None if it was removed meanwhile."""
        try:
            descriptor = _open(self.path)
        except FileExistsError:
            return None
        except OSError as error:
            raise ServingError(
                f"GPU {gpu}: its lock {self.path} can't be opened: {error.strerror}; if no run of another user holds "
                "it, remove the file, or point FAIRSHARE_LOCKS to a folder that all users of the GPU can write to"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                raise FileNotFoundError
        except FileNotFoundError:
            os.close(descriptor)
            return None
        except OSError as error:
            holder = _holder(os.pread(descriptor, 1 << 16, 0))
            os.close(descriptor)
            raise ServingError(
                f"GPU {gpu} is in use by another run: {holder}; wait for its end, stop it, or take another GPU "
                "(deployment.server.gpu)"
            ) from error
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, orjson.dumps({"pid": os.getpid(), "command": command, "since_unix_s": time.time()}), 0)
        return descriptor

    @property
    def descriptor(self) -> int:
        """Of the file, to be inherited."""
        assert self._descriptor is not None
        return self._descriptor

    def release(self) -> None:
        """Let others have the GPU, as soon as whoever inherited the lock lets it go too; safe to call twice."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            with contextlib.suppress(OSError):
                remove_if_free(str(self.path), descriptor)


def _folder() -> Path:
    return Path(os.environ.get("FAIRSHARE_LOCKS") or "/tmp")


def _open(path: Path) -> int:
    """The file, made if there is none, for every user. Raises FileExistsError if another makes it at this moment."""
    try:
        # Without O_CREAT: Linux refuses that for other users' files in a sticky folder (fs.protected_regular).
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        os.fchmod(descriptor, 0o666)  # whatever the umask
        return descriptor


def _holder(content: bytes) -> str:
    try:
        held = orjson.loads(content)
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(held["since_unix_s"]))
        return f"pid {held['pid']} ({held['command']}) since {since}"
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return "its holder has not said who it is"
