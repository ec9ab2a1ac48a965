"""The path that routing looks at.

Rule of this file: two spellings of one path match the same route, or a rule for /admin/ could be dodged by /x/../admin/
or /%61dmin/. Only what is matched is normalised; what is forwarded stays as it came.
"""

from __future__ import annotations

import re
from typing import Final

from balance.errors import BadRequest

_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})")


def routing_path(path: bytes) -> bytes:
    """``path`` with escapes of unreserved characters decoded, dot segments resolved, and empty segments merged
    (RFC 3986, section 6.2.2; merging slashes is nginx's ``merge_slashes``). ``%2F`` stays: it is no separator.

    :raises BadRequest: the path climbs above its root, or holds a broken escape
    """
    if b"%" not in path and b"/." not in path and b"//" not in path:
        return path
    return _normalise(path)


def _normalise(path: bytes) -> bytes:
    if path.count(b"%") != len(_ESCAPE.findall(path)):
        raise BadRequest("a broken percent-escape in the path")
    path = _ESCAPE.sub(_decode, path)
    segments: list[bytes] = []
    parts = path.split(b"/")[1:]
    for part in parts:
        if part == b"..":
            if not segments:
                raise BadRequest("the path climbs above its root")
            segments.pop()
        elif part and part != b".":
            segments.append(part)
    directory = parts[-1] in (b"", b".", b"..") if parts else False
    return b"/" + b"/".join(segments) + (b"/" if directory and segments else b"")


def _decode(match: re.Match[bytes]) -> bytes:
    byte = int(match[1], 16)
    return bytes((byte,)) if byte in _UNRESERVED else match[0].upper()
