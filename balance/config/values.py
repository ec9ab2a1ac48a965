"""How values are written in the file: durations, sizes, addresses, networks, hosts, names.

Rule of this file: a reader takes what YAML gave and returns what the program uses, or raises ValueError with a sentence
that says what was found and what is allowed. The sentence is shown as it is, behind file, line and column.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Collection
from typing import Annotated, Any, Final
from urllib.parse import quote

import idna
from pydantic import BeforeValidator, ValidationInfo

from balance.model import Address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "us": 1e-6, "µs": 1e-6}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|us|µs|s|m|h))+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|s|m|h)")
_SIZE: Final = re.compile(r"(\d+)\s*(B|kB|KB|KiB|MB|MiB|GB|GiB)?")
_SIZE_UNITS: Final = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "KiB": 1024,
    "MB": 10**6,
    "MiB": 2**20,
    "GB": 10**9,
    "GiB": 2**30,
}
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")


def found(value: object) -> str:
    """What was found, for a message: short, and on one line."""
    if isinstance(value, dict):
        return "found a mapping"
    if isinstance(value, list | tuple):
        return "found a list"
    if value is None:
        return "found nothing"
    if isinstance(value, bool):
        return f"found {str(value).lower()}"
    text = repr(value)
    return f"found {text if len(text) <= 60 else text[:57] + '...'}"


def suggestion(value: object, allowed: Collection[str]) -> str:
    """``; did you mean ...?`` where something allowed is close."""
    close = difflib.get_close_matches(str(value), list(allowed), 1, 0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


def one_of(value: object, allowed: Collection[str]) -> str:
    """
    :raises ValueError: it is none of them
    """
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{found(value)}; allowed: {', '.join(allowed)}{suggestion(value, allowed)}")
    return value


def duration(value: Any) -> float:
    """Seconds, from Go's notation: ``500ms``, ``1m30s``."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{found(value)}; a duration is needed, such as 30s, 500ms or 1m30s")
    if value in (0, "0"):
        return 0.0
    text = str(value)
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        raise ValueError(f"{found(value)}; a duration needs a unit: {text}s, {text}ms or {text}m")
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{found(value)}; a duration is needed, such as 30s, 500ms or 1m30s")
    return sum(float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(text))


def size(value: Any) -> int:
    """Bytes, from a number or ``64KiB``, ``10MB``."""
    match = None if isinstance(value, bool) or not isinstance(value, int | str) else _SIZE.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{found(value)}; a size is needed: bytes, or a number with B, kB, KiB, MB, MiB, GB or GiB")
    return int(match[1]) * _SIZE_UNITS[match[2] or "B"]


def _port(text: str, value: object) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{found(value)}; the port must be a number from 1 to 65535")
    return int(text)


def address(value: Any) -> Address:
    """``host:port``, ``[::1]:port`` or ``unix:/path``."""
    parsed = listen_address(value)
    if not parsed.path and not parsed.host:
        raise ValueError(f"{found(value)}; a host is needed before the port: host:port, [::1]:port or unix:/path")
    return parsed


def listen_address(value: Any) -> Address:
    """Like `address`, and ``:port`` for all addresses of the machine."""
    if isinstance(value, Address):
        return value
    forms = "host:port, [::1]:port or unix:/path"
    if not isinstance(value, str):
        raise ValueError(f"{found(value)}; an address is needed: {forms}, in quotes")
    if value.startswith("unix:"):
        path = value.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"{found(value)}; the path of a Unix socket must be absolute: unix:/run/app.sock")
        if len(path.encode()) > 107:
            raise ValueError(f"{found(value)}; the path of a Unix socket has at most 107 bytes")
        return Address("", 0, path)
    host, colon, port = value.rpartition(":")
    if not colon or (":" in host and not (host.startswith("[") and host.endswith("]"))):
        raise ValueError(f"{found(value)}; an address is needed: {forms}")
    if host.startswith("["):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            raise ValueError(f"{found(value)}; {host!r} is no IPv6 address") from None
    elif host:
        host = _host_name(host, value)
    return Address(host, _port(port, value))


def _host_name(host: str, value: object) -> str:
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError(f"{found(value)}; {host!r} is no IPv4 address") from None
    if not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{found(value)}; {host!r} is no host name")
    return host.lower()


def network(value: Any) -> Network:
    """``10.0.0.0/8``, ``2001:db8::/32``, or one address."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    try:
        if isinstance(value, str):
            return ipaddress.ip_network(value)
    except ValueError as error:
        if "host bits" in str(error):
            whole = ipaddress.ip_network(value, strict=False)
            raise ValueError(f"{found(value)}; the network of that address is {whole}") from None
    raise ValueError(f"{found(value)}; a network is needed, such as 10.0.0.0/8, or one address")


def host_pattern(value: Any) -> str:
    """A host for routes: a name, or ``*.name``. Unicode names become A-labels (RFC 5891)."""
    if not isinstance(value, str):
        raise ValueError(f"{found(value)}; a host name is needed, or *.name")
    if not value:
        return ""
    if value.startswith("[") and value.endswith("]"):
        return value.lower()
    if ":" in value:
        raise ValueError(f"{found(value)}; leave the port out: routes look at the name only")
    wildcard, name = ("*.", value[2:]) if value.startswith("*.") else ("", value)
    if "*" in name:
        raise ValueError(f"{found(value)}; a wildcard stands for whole names in front: *.example.com")
    name = name.removesuffix(".")
    try:
        plain = name.lower() if name.isascii() else idna.encode(name, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ValueError(f"{found(value)}; this is no host name: {error}") from None
    if len(plain) > 253 or not all(_LABEL.fullmatch(label) for label in plain.split(".")):
        raise ValueError(f"{found(value)}; a host name is needed, or *.name")
    return wildcard + plain


def path_prefix(value: Any) -> str:
    """The start of a path. Characters beyond ASCII are escaped, as they are in requests."""
    if not isinstance(value, str) or (value and not value.startswith("/")):
        raise ValueError(f"{found(value)}; a path starts with a slash: /v1/")
    if "?" in value or "#" in value or " " in value:
        raise ValueError(f"{found(value)}; a path prefix has no query, no fragment and no space")
    return quote(value, safe="/%:@!$&'()*+,;=~-._")


def token(value: Any) -> str:
    """A method or a field name (RFC 9110, section 5.6.2)."""
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ValueError(f"{found(value)}; letters, digits and !#$%&'*+-.^_`|~ are allowed")
    return value


_CODEC_FIELDS: Final = ("connection", "content-length", "host", "keep-alive", "te", "transfer-encoding", "upgrade")


def edited_name(value: Any) -> str:
    """The name of a field that edits may touch: not one that frames messages or belongs to a connection."""
    name = token(value)
    if name.lower() == "host":
        raise ValueError(f"{found(value)}; the Host field is set by host_header")
    if name.lower() in _CODEC_FIELDS:
        raise ValueError(f"{found(value)}; this field belongs to the connection and cannot be edited")
    return name


def field_value(value: Any) -> str:
    """A field value: no control characters, nothing beyond Latin-1."""
    if not isinstance(value, str):
        raise ValueError(f"{found(value)}; text is needed: put it in quotes")
    if not _FIELD_VALUE.fullmatch(value) or value != value.strip(" \t"):
        raise ValueError(f"{found(value)}; no control characters, and no blanks at the ends")
    return value


def hash_key(value: Any) -> str:
    """What a request is recognised by."""
    kind, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if value in ("source-ip", "path") or (kind in ("header", "cookie") and colon and _TOKEN.fullmatch(name)):
        return str(value)
    forms = ("source-ip", "path", "header:NAME", "cookie:NAME")
    raise ValueError(f"{found(value)}; allowed: {', '.join(forms)}{suggestion(value, forms)}")


def host_header(value: Any) -> str:
    """``pass``, ``backend``, or a literal host."""
    if not isinstance(value, str) or not re.fullmatch(
        r"[A-Za-z0-9._-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?", value
    ):
        raise ValueError(f"{found(value)}; allowed: pass, backend, or a host name")
    return value


def protocol_id(value: Any) -> str:
    """A protocol id of ALPN (RFC 7301): 1 to 255 characters."""
    if not isinstance(value, str) or not 0 < len(value) < 256 or not value.isascii() or not value.isprintable():
        raise ValueError(f"{found(value)}; a protocol id is needed, such as h2 or http/1.1")
    return value


def timed(value: Any, info: ValidationInfo) -> float:
    """In Python, seconds are a number; a file gives a context, and has to say the unit."""
    if info.context is None and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return duration(value)


Duration = Annotated[float, BeforeValidator(timed)]
Size = Annotated[int, BeforeValidator(size)]
BackendAddress = Annotated[Address, BeforeValidator(address)]
ListenAddress = Annotated[Address, BeforeValidator(listen_address)]
NetworkValue = Annotated[Network, BeforeValidator(network)]
HostPattern = Annotated[str, BeforeValidator(host_pattern)]
PathPrefix = Annotated[str, BeforeValidator(path_prefix)]
Token = Annotated[str, BeforeValidator(token)]
EditedName = Annotated[str, BeforeValidator(edited_name)]
FieldValue = Annotated[str, BeforeValidator(field_value)]
HashKey = Annotated[str, BeforeValidator(hash_key)]
ProtocolId = Annotated[str, BeforeValidator(protocol_id)]
HostHeader = Annotated[str, BeforeValidator(host_header)]
