"""What goes between a reading child and the daemon: framed JSON, types in words, file descriptors.

Nothing is unpickled: whatever bytes come, what is made of them is a type, a shape or a text.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

import numpy as np

MESSAGE_BYTES_MAX = 16 << 20
_LENGTH_BYTES = 4
# What h5py and the sink note in a dtype, and numpy does not.
_METADATA = ("enum", "h5py_encoding", "h5py_opaque")
_NESTED_MAX = 32


@dataclass(frozen=True, slots=True)
class Member:
    """One array of a file as its reader found it.

    ``chunk_rows``: slabs that start and end at multiples of it are read best. ``refused``: what
    was expected, what was found and the remedy, if no rows can be made of it. ``link_to``: the
    member that this is another name of.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    chunk_rows: int = 1
    refused: tuple[str, str, str] | None = None
    link_to: str = ""


def pack_member(member: Member) -> list[Any]:
    """``member`` as JSON has it."""
    dtype = pack_dtype(np.dtype("V1") if member.dtype.hasobject else member.dtype)
    return [dtype, list(member.shape), member.chunk_rows, member.refused, member.link_to]


def unpack_member(packed: Any) -> Member:
    """What ``pack_member`` gave. :raises ValueError, TypeError: it did not."""
    dtype, shape, chunk_rows, refused, link_to = packed
    if not all(type(n) is int and n >= 0 for n in (*shape, chunk_rows)):
        raise ValueError("a size is none")
    if refused is not None:
        expected, found, remedy = map(str, refused)
        refused = expected, found, remedy
    return Member(unpack_dtype(dtype), tuple(shape), max(1, chunk_rows), refused, str(link_to))


def pack_dtype(dtype: np.dtype[Any]) -> list[Any]:
    """A dtype of fixed width as JSON has it: offsets, enum names and encodings too."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return ["array", pack_dtype(base), list(shape)]
    if dtype.names is not None:
        assert dtype.fields is not None
        fields = [[n, pack_dtype(dtype.fields[n][0]), dtype.fields[n][1]] for n in dtype.names]
        return ["record", fields, dtype.itemsize]
    said = {key: value for key, value in (dtype.metadata or {}).items() if key in _METADATA}
    if "enum" in said:
        said["enum"] = {str(name): int(value) for name, value in said["enum"].items()}
    return ["plain", dtype.str, said]


def unpack_dtype(packed: Any, nested: int = 0) -> np.dtype[Any]:
    """What ``pack_dtype`` gave. :raises ValueError, TypeError: it did not."""
    if nested > _NESTED_MAX:
        raise ValueError("a type has no end")
    kind, what, more = packed
    dtype: np.dtype[Any]
    if kind == "array":
        dtype = np.dtype((unpack_dtype(what, nested + 1), tuple(map(int, more))))
    elif kind == "record":
        names, formats, offsets = zip(*what, strict=True) if what else ((), (), ())
        fields = [unpack_dtype(format_, nested + 1) for format_ in formats]
        layout = {"names": names, "formats": fields, "offsets": offsets, "itemsize": more}
        dtype = np.dtype(layout)  # type: ignore[call-overload]
    else:
        said = {key: value for key, value in dict(more).items() if key in _METADATA}
        dtype = np.dtype(str(what), metadata=said) if said else np.dtype(str(what))
    if dtype.hasobject:
        raise ValueError("a type holds pointers")
    return dtype


def send(pipe: socket.socket, message: Any, fd: int | None = None) -> None:
    """Send ``message``, and the file descriptor ``fd`` with it."""
    data = json.dumps(message).encode()
    head = len(data).to_bytes(_LENGTH_BYTES, "little")
    if fd is None:
        pipe.sendall(head)
    else:
        socket.send_fds(pipe, [head], [fd])
    pipe.sendall(data)


def receive(pipe: socket.socket, fds: list[int] | None = None) -> Any:
    """The next message; a descriptor that comes with it is added to ``fds``.

    :raises EOFError: the other end is gone. :raises ValueError: it is no message.
    """
    if fds is None:
        head = pipe.recv(_LENGTH_BYTES)
    else:
        head, came, _, _ = socket.recv_fds(pipe, _LENGTH_BYTES, 1)
        fds += came
    length = bytearray(_LENGTH_BYTES)
    length[: len(head)] = head
    if not head:
        raise EOFError
    fill(pipe, memoryview(length)[len(head) :])
    size = int.from_bytes(length, "little")
    if size > MESSAGE_BYTES_MAX:
        raise ValueError("a message is too long")
    data = bytearray(size)
    fill(pipe, memoryview(data))
    return json.loads(data)


def fill(pipe: socket.socket, target: memoryview) -> None:
    """Receive all of ``target``. :raises EOFError: the other end is gone."""
    while target:
        count = pipe.recv_into(target)
        if not count:
            raise EOFError
        target = target[count:]
