"""The two ends of a bulk transfer: ``python -m benchmarks.bulk source PORT`` serves, ``sink`` asks and counts.

A connection begins with eight bytes: how many the source is to send.
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Sequence

_BLOCK = bytes(1 << 20)


def source(port: int) -> None:
    """Serve until killed."""
    server = socket.create_server(("127.0.0.1", port), backlog=512)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=_send, args=(connection,), daemon=True).start()


def _send(connection: socket.socket) -> None:
    with connection:
        wanted = connection.recv(8, socket.MSG_WAITALL)
        left = int.from_bytes(wanted, "big") if len(wanted) == 8 else 0
        while left:
            left -= connection.send(_BLOCK[:left] if left < len(_BLOCK) else _BLOCK)


def sink(port: int, connections: int, size: int) -> int:
    """Ask on that many connections at once; the number of those on which bytes were missing."""
    missing = []

    def read() -> None:
        got, buffer = 0, bytearray(1 << 18)
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(size.to_bytes(8, "big"))
            while count := connection.recv_into(buffer):
                got += count
        if got != size:
            missing.append(got)

    threads = [threading.Thread(target=read) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(missing)


def main(arguments: Sequence[str]) -> int:
    role, *numbers = arguments
    if role == "source":
        source(int(numbers[0]))
    return sink(*map(int, numbers))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
