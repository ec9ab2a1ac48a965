"""Bytes that hurt, put where they hurt.

Rule of this file: all chance comes from the `random.Random` it is given, so that a seed tells the whole story.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

#: Delimiters, their look-alikes, and whole lines that change how a message is framed or whom it is for.
ATOMS: Final = (
    *(
        b"\r\n",
        b"\r",
        b"\n",
        b"\r\n\r\n",
        b" ",
        b"\t",
        b"\0",
        b"\x0b",
        b"\x0c",
        b"\x1f",
        b"\x7f",
        b"\x80",
        b"\x85",
        b"\xa0",
    ),
    *(b":", b",", b";", b'"', b"=", b"/", b"\\", b"?", b"#", b"%", b"@", b"*", b"[", b"]", b"-", b"+", b"_", b"."),
    *(b"0", b"1", b"5", b"9", b"a", b"F", b"0x", b"00000000", b"ffffffff", b"99999999999999999999"),
    *(
        b"GET / HTTP/1.1\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0",
        b"HTTP/1.1",
        b"HTTP/2.0",
        b"http://b",
        b"HEAD",
        b"POST",
    ),
    *(
        b"\r\nHost: b",
        b"\r\nHost:",
        b"\r\nX: y",
        b"\r\n y",
        b"\r\nX : y",
        b"\r\nConnection: close",
        b"\r\nConnection: x",
    ),
    *(b"\r\nContent-Length: 5", b"\r\nContent-Length: 0", b"\r\nContent-Length:", b"\r\ncontent-length: 6", b"5, 5"),
    *(
        b"\r\nTransfer-Encoding: chunked",
        b"\r\nTransfer-Encoding: x",
        b"\r\nTransfer-Encoding :chunked",
        b"chunked",
        b"gzip",
    ),
    *(
        b"\r\nExpect: 100-continue",
        b"\r\nUpgrade: h2c",
        b"\r\nTE: trailers",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
    ),
)


def mutate(rng: random.Random, raw: bytes, edits: int = 3) -> bytes:
    """``raw`` after one to ``edits`` insertions, replacements, deletions, doublings or swaps."""
    for _ in range(rng.randint(1, edits)):
        raw = _edit(rng, raw)
    return raw


def _edit(rng: random.Random, raw: bytes) -> bytes:
    start = _place(rng, raw)
    end = min(len(raw), start + rng.choice((1, 1, 2, 4, 16)))
    kind = rng.randrange(6)
    if kind <= 1:
        return raw[:start] + rng.choice(ATOMS) + raw[start:]
    if kind == 2:
        return raw[:start] + rng.choice(ATOMS) + raw[end:]
    if kind == 3:
        return raw[:start] + raw[end:]
    if kind == 4:
        return raw[:end] + raw[start:end] + raw[end:]
    return raw[:start] + bytes([rng.randrange(256)]) + raw[start + 1 :]


def _place(rng: random.Random, raw: bytes) -> int:
    """Anywhere, but rather beside a delimiter: that is where parsers disagree."""
    if rng.random() < 0.6:
        found = raw.find(rng.choice((b"\r", b"\n", b":", b" ", b",", b";")), rng.randint(0, len(raw)))
        if found >= 0:
            return found + rng.randint(0, 1)
    return rng.randint(0, len(raw))


def pieces(rng: random.Random, raw: bytes) -> list[bytes]:
    """``raw`` as it could arrive: in up to five pieces, or byte by byte."""
    if rng.random() < 0.1:
        return [raw[i : i + 1] for i in range(len(raw))]
    cuts = sorted(rng.randint(0, len(raw)) for _ in range(rng.randint(1, 4)))
    return [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


def seeds(cases: Sequence[bytes], largest: int = 600) -> list[bytes]:
    """The cases that are small enough to be worth mutating."""
    return [raw for raw in cases if len(raw) <= largest]
