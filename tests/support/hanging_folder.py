"""A folder of a file server that hangs on demand: every access waits, even one that only looks. Only root may mount one.

The server is a process that passes each operation on to another folder (FUSE, see <linux/fuse.h>). While it is stopped, the kernel lets
its clients wait, as those of a file server that does not answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_IN_HEADER, _OUT_HEADER = struct.Struct("<IIQQIIII"), struct.Struct("<IiQ")
_ATTR = struct.Struct("<6Q10I")
_ROOT = 1
_MESSAGE_BYTES = 1 << 20
_FORGET, _INTERRUPT, _BATCH_FORGET = 2, 36, 42
_NO_REPLY = {_FORGET, _INTERRUPT, _BATCH_FORGET}


class HangingFolder:
    """A folder whose server can hang."""

    def __init__(self, path: Path) -> None:
        self.path = path
        backing = path.with_name(f"{path.name}.backing")
        for folder in (path, backing):
            folder.mkdir(mode=0o700)
        self._server = subprocess.Popen([sys.executable, __file__, path, backing], stdout=subprocess.PIPE)
        assert self._server.stdout is not None
        self.is_mounted = self._server.stdout.readline() == b"mounted\n"

    def hang(self) -> None:
        """Lets every access wait until `go_on`."""
        self._server.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Answers those that wait, and all others."""
        self._server.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.go_on()
        subprocess.run(["umount", "--lazy", self.path], check=False, stderr=subprocess.DEVNULL)
        self._server.kill()
        self._server.wait()
        self._server.stdout.close()  # type: ignore[union-attr]


@contextlib.contextmanager
def hanging_folder(path: Path) -> Iterator[HangingFolder]:
    """Mounts a folder that can hang until the block ends. Skips the test if that is not possible."""
    folder = HangingFolder(path)
    try:
        if not folder.is_mounted:
            pytest.skip("NOT TESTED: only root may mount a folder that hangs, and only with FUSE")
        yield folder
    finally:
        folder.close()


class _Server:
    """Answers the kernel's requests about one folder, one at a time."""

    def __init__(self, device: int, backing: Path) -> None:
        self._device = device
        self._paths = {_ROOT: backing}
        self._ids = {backing: _ROOT}
        self._next_id = _ROOT + 1
        self._handlers: dict[int, Callable[[int, bytes], bytes]] = {
            1: lambda node, data: self._entry(self._child(node, data)),
            3: lambda node, _: self._attributes(self._paths[node]),
            4: self._set_attributes,
            5: lambda node, _: os.fsencode(self._paths[node].readlink()),
            6: self._make_link,
            8: self._make_node,
            9: self._make_folder,
            10: lambda node, data: self._remove(Path.unlink, self._child(node, data)),
            11: lambda node, data: self._remove(Path.rmdir, self._child(node, data)),
            12: lambda node, data: self._rename(node, *struct.unpack_from("<Q", data), data[8:]),
            13: self._link,
            14: lambda node, data: self._opened(os.open(self._paths[node], struct.unpack_from("<I", data)[0] & ~os.O_CREAT)),
            15: self._read,
            16: self._write,
            17: self._describe_disk,
            18: self._close,
            20: lambda _node, _data: b"",
            25: lambda _node, _data: b"",
            26: self._begin,
            27: lambda _node, _data: struct.pack("<QII", 0, 0, 0),
            28: self._list,
            29: lambda _node, _data: b"",
            30: lambda _node, _data: b"",
            35: self._create,
            45: lambda node, data: self._rename(node, *struct.unpack_from("<Q", data), data[16:]),
        }

    def serve(self) -> None:
        with contextlib.suppress(OSError):  # it was unmounted
            while True:
                self._answer(os.read(self._device, _MESSAGE_BYTES + 4096))

    def _answer(self, message: bytes) -> None:
        _, code, unique, node, *_ = _IN_HEADER.unpack_from(message)
        if code in _NO_REPLY:
            return
        error, body = 0, b""
        try:
            body = self._handlers[code](node, message[_IN_HEADER.size :])
        except OSError as exc:
            error = -(exc.errno or errno.EIO)
        except KeyError:
            error = -errno.ENOSYS
        with contextlib.suppress(FileNotFoundError):  # who asked was killed
            os.write(self._device, _OUT_HEADER.pack(_OUT_HEADER.size + len(body), error, unique) + body)

    def _child(self, node: int, data: bytes) -> Path:
        return self._paths[node] / os.fsdecode(data.split(b"\0", 1)[0])

    def _begin(self, _node: int, data: bytes) -> bytes:
        minor = struct.unpack_from("<II", data)[1]
        return struct.pack("<IIIIHHIIHHII24x", 7, min(minor, 36), 65536, 0, 16, 12, 65536, 1, 0, 0, 0, 0)

    def _attribute_bytes(self, path: Path) -> bytes:
        found = path.lstat()
        times = [found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns]
        return _ATTR.pack(
            *(found.st_ino, found.st_size, found.st_blocks, *(time // 10**9 for time in times), *(time % 10**9 for time in times)),
            *(found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev, 4096, 0),
        )

    def _attributes(self, path: Path) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self._attribute_bytes(path)  # valid for no time, so that every look is a request

    def _entry(self, path: Path) -> bytes:
        attributes = self._attribute_bytes(path)
        if path not in self._ids:
            self._ids[path], self._paths[self._next_id] = self._next_id, path
            self._next_id += 1
        return struct.pack("<QQQQII", self._ids[path], 0, 0, 0, 0, 0) + attributes

    def _set_attributes(self, node: int, data: bytes) -> bytes:
        path = self._paths[node]
        valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = struct.unpack_from("<IIQQQQQQIIIIIIII", data)
        if valid & 1:
            path.chmod(stat.S_IMODE(mode))
        if valid & 6:
            os.chown(path, uid if valid & 2 else -1, gid if valid & 4 else -1, follow_symlinks=False)
        if valid & 8:
            os.truncate(path, size)
        if valid & 48:
            times_ns = None if valid & 384 else (atime * 10**9 + atime_ns, mtime * 10**9 + mtime_ns)
            os.utime(path, ns=times_ns) if times_ns else os.utime(path)
        return self._attributes(path)

    def _make_link(self, node: int, data: bytes) -> bytes:
        name, target, _ = data.split(b"\0", 2)
        path = self._child(node, name)
        path.symlink_to(os.fsdecode(target))
        return self._entry(path)

    def _make_node(self, node: int, data: bytes) -> bytes:
        mode, device, umask, _ = struct.unpack_from("<IIII", data)
        path = self._child(node, data[16:])
        os.mknod(path, mode & ~umask, device)
        return self._entry(path)

    def _make_folder(self, node: int, data: bytes) -> bytes:
        mode, umask = struct.unpack_from("<II", data)
        path = self._child(node, data[8:])
        path.mkdir(mode & ~umask)
        return self._entry(path)

    def _remove(self, remove: Callable[[Path], None], path: Path) -> bytes:
        remove(path)
        self._ids.pop(path, None)
        return b""

    def _rename(self, node: int, new_node: int, names: bytes) -> bytes:
        old, new, _ = names.split(b"\0", 2)
        source, target = self._child(node, old), self._child(new_node, new)
        source.rename(target)
        self._ids.pop(target, None)
        for path, number in list(self._ids.items()):
            if path.is_relative_to(source):
                del self._ids[path]
                moved = target / path.relative_to(source)
                self._ids[moved], self._paths[number] = number, moved
        return b""

    def _link(self, node: int, data: bytes) -> bytes:
        path = self._child(node, data[8:])
        os.link(self._paths[struct.unpack_from("<Q", data)[0]], path)
        return self._entry(path)

    def _opened(self, descriptor: int) -> bytes:
        return struct.pack("<QII", descriptor, 0, 0)

    def _create(self, node: int, data: bytes) -> bytes:
        flags, mode, umask, _ = struct.unpack_from("<IIII", data)
        path = self._child(node, data[16:])
        descriptor = os.open(path, flags | os.O_CREAT, mode & ~umask)
        return self._entry(path) + self._opened(descriptor)

    def _read(self, _node: int, data: bytes) -> bytes:
        descriptor, offset, size = struct.unpack_from("<QQI", data)
        return os.pread(descriptor, size, offset)

    def _write(self, _node: int, data: bytes) -> bytes:
        descriptor, offset, size, _, _, flags = struct.unpack_from("<QQIIQI", data)
        append = flags & os.O_APPEND
        written = os.write(descriptor, data[40 : 40 + size]) if append else os.pwrite(descriptor, data[40 : 40 + size], offset)
        return struct.pack("<II", written, 0)

    def _close(self, _node: int, data: bytes) -> bytes:
        os.close(struct.unpack_from("<Q", data)[0])
        return b""

    def _list(self, node: int, data: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", data)
        found = b""
        for number, name in enumerate([".", "..", *sorted(each.name for each in self._paths[node].iterdir())][offset:], offset + 1):
            raw = os.fsencode(name)
            entry = struct.pack("<QQII", number + 1, number, len(raw), 0) + raw + b"\0" * (-len(raw) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found

    def _describe_disk(self, node: int, _data: bytes) -> bytes:
        found = os.statvfs(self._paths[node])
        counts = (found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree)
        return struct.pack("<5Q4I24x", *counts, found.f_bsize, found.f_namemax, found.f_frsize, 0)


def _main(path: str, backing: str) -> None:
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},allow_other,default_permissions"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hanging", path.encode(), b"fuse", 0, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount {path}")
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    os.umask(0)
    _Server(device, Path(backing)).serve()


if __name__ == "__main__":
    _main(*sys.argv[1:])
