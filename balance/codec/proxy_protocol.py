"""The PROXY protocol, versions 1 and 2: whom a proxy in front of us speaks for (the specification is HAProxy's,
doc/proxy-protocol.txt).

Rule of this file: a header is right to the byte, or it is none. What cannot become one is refused at its first wrong
byte, and nobody waits for more than the longest header there can be.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

from balance.errors import BadProxyHeader

_V1: Final = b"PROXY "
_V1_MAX: Final = 107
_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_BODY_MAX: Final = 4096
#: Bytes of the longest header.
MAX_SIZE: Final = 16 + _V2_BODY_MAX
#: Family and protocol to the size of the two addresses: TCP over IPv4, over IPv6, Unix stream, unspecified.
_FAMILIES: Final = {0x11: 12, 0x21: 36, 0x31: 216, 0x00: 0}
_CRC32C: Final = 0x03


class ProxyHeader(NamedTuple):
    """``local``: the connection is the proxy's own, or it does not know; its real addresses count. ``tlvs`` are the
    extensions of version 2, in order, as they came.
    """

    version: int
    local: bool
    source: tuple[str, int] | None
    destination: tuple[str, int] | None
    tlvs: tuple[tuple[int, bytes], ...] = ()


def parse_proxy_header(data: bytes) -> tuple[ProxyHeader, int] | None:
    """Read a header from the start of a connection; with it, its length. None while more is needed.

    :raises BadProxyHeader: the bytes cannot become a header
    """
    if _V1.startswith(data[:6]):
        return _parse_v1(data)
    if _V2.startswith(data[:12]):
        return _parse_v2(data)
    raise BadProxyHeader("no PROXY header")


# --- version 1, section 2.1 -----------------------------------------------------------------------------------


def _parse_v1(data: bytes) -> tuple[ProxyHeader, int] | None:
    end = data.find(b"\n", 0, _V1_MAX)
    if end < 0:
        if len(data) >= _V1_MAX:
            raise BadProxyHeader("a line that does not end")
        _check_v1_start(data)
        return None
    if data[end - 1 : end] != b"\r" or b"\r" in data[: end - 1] or b"\x00" in data[:end]:
        raise BadProxyHeader("a line ends with CRLF")
    parts = data[: end - 1].split(b" ")
    if parts[1] == b"UNKNOWN":
        return ProxyHeader(1, True, None, None), end + 1
    if len(parts) != 6 or parts[1] not in (b"TCP4", b"TCP6"):
        raise BadProxyHeader("not PROXY, a family, two addresses and two ports")
    source = _v1_address(parts[2], parts[1]), _v1_port(parts[4])
    destination = _v1_address(parts[3], parts[1]), _v1_port(parts[5])
    return ProxyHeader(1, False, source, destination), end + 1


def _check_v1_start(data: bytes) -> None:
    """What cannot become right need not be waited for."""
    family = data[6:14]
    for known in (b"TCP4 ", b"TCP6 ", b"UNKNOWN ", b"UNKNOWN\r"):
        if family.startswith(known) or known.startswith(family):
            break
    else:
        raise BadProxyHeader("an unknown family")
    if b"\r" in data[:-1] or b"\x00" in data:
        raise BadProxyHeader("a line ends with CRLF")


def _v1_address(text: bytes, family: bytes) -> str:
    try:
        if family == b"TCP4":
            return str(ipaddress.IPv4Address(text.decode("ascii")))
        if b"%" not in text:
            return str(ipaddress.IPv6Address(text.decode("ascii")))
    except ValueError:
        pass
    raise BadProxyHeader("an address that is none of its family")


def _v1_port(text: bytes) -> int:
    if not 0 < len(text) <= 5 or not text.isdigit() or (text[0] == 48 and len(text) > 1) or int(text) > 65535:
        raise BadProxyHeader("a port that is none")
    return int(text)


# --- version 2, section 2.2 -----------------------------------------------------------------------------------


def _parse_v2(data: bytes) -> tuple[ProxyHeader, int] | None:
    _check_v2_start(data)
    if len(data) < 16:
        return None
    size = int.from_bytes(data[14:16], "big")
    addresses = _FAMILIES[data[13]]
    local = data[12] == 0x20
    if size > _V2_BODY_MAX or (size < addresses and not local):
        raise BadProxyHeader("a header of an impossible size")
    if len(data) < 16 + size:
        return None
    if local:
        return ProxyHeader(2, True, None, None), 16 + size
    body = data[16 : 16 + size]
    tlvs = _tlvs(body[addresses:])
    _check_crc(data[: 16 + size], 16 + addresses, tlvs)
    source, destination = _v2_addresses(data[13], body)
    return ProxyHeader(2, data[13] == 0, source, destination, tlvs), 16 + size


def _check_v2_start(data: bytes) -> None:
    if len(data) > 12 and data[12] not in (0x20, 0x21):
        raise BadProxyHeader("an unknown version or command")
    if len(data) > 13 and data[13] not in _FAMILIES:
        raise BadProxyHeader("an unknown family or protocol")


def _v2_addresses(family: int, body: bytes) -> tuple[tuple[str, int] | None, tuple[str, int] | None]:
    width = {0x11: 4, 0x21: 16}.get(family)
    if width is None:
        return None, None
    ports = body[2 * width : 2 * width + 4]
    source = str(ipaddress.ip_address(body[:width])), int.from_bytes(ports[:2], "big")
    return source, (str(ipaddress.ip_address(body[width : 2 * width])), int.from_bytes(ports[2:], "big"))


def _tlvs(data: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    while data:
        size = int.from_bytes(data[1:3], "big")
        if len(data) < 3 + size:
            raise BadProxyHeader("an extension that is cut off")
        found.append((data[0], data[3 : 3 + size]))
        data = data[3 + size :]
    return tuple(found)


def _check_crc(header: bytes, offset: int, tlvs: Sequence[tuple[int, bytes]]) -> None:
    """Section 2.2.3: where a checksum is sent, it has to be right. There is one at most: each costs its time."""
    if sum(kind == _CRC32C for kind, _ in tlvs) > 1:
        raise BadProxyHeader("more than one checksum")
    for kind, value in tlvs:
        if kind == _CRC32C:
            start = offset + 3
            if len(value) != 4:
                raise BadProxyHeader("a checksum of an impossible size")
            if crc32c(header[:start] + bytes(4) + header[start + 4 :]) != int.from_bytes(value, "big"):
                raise BadProxyHeader("the checksum is wrong")
        offset += 3 + len(value)


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC_TABLE: Final = _crc_table()


def crc32c(data: bytes) -> int:
    """RFC 4960, appendix B."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# --- writing ----------------------------------------------------------------------------------------------------


def write_proxy_header(
    version: int,
    source: tuple[str, int] | None,
    destination: tuple[str, int] | None,
    tlvs: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """A header for a backend. Where a side is not known, it says so; where the families differ, both are given as IPv6.

    :param version: 1, or 2; ``tlvs`` need 2
    """
    extensions = b"".join(bytes([kind]) + len(value).to_bytes(2, "big") + value for kind, value in tlvs)
    if source is None or destination is None:
        if version == 1:
            return b"PROXY UNKNOWN\r\n"
        return _V2 + b"\x20\x00" + len(extensions).to_bytes(2, "big") + extensions
    hosts = [ipaddress.ip_address(host.partition("%")[0]) for host, _ in (source, destination)]
    if hosts[0].version != hosts[1].version:
        hosts = [ipaddress.IPv6Address(f"::ffff:{host}") if host.version == 4 else host for host in hosts]
    six = hosts[0].version == 6
    if version == 1:
        line = f"PROXY TCP{6 if six else 4} {hosts[0]} {hosts[1]} {source[1]} {destination[1]}\r\n"
        return line.encode("ascii")
    body = b"".join(host.packed for host in hosts) + source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    size = len(body) + len(extensions)
    return _V2 + b"\x21" + (b"\x21" if six else b"\x11") + size.to_bytes(2, "big") + body + extensions
