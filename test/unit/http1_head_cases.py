"""Hostile HTTP/1 request heads, as data: request lines, targets, field syntax, Host. Rules: see `http1_cases`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class RequestCase(NamedTuple):
    name: str
    raw: bytes
    expected: int | str
    reference: str
    sees: Mapping[str, Any] = {}


def line(request_line: bytes, *fields: bytes) -> bytes:
    """A head with this request line and a Host."""
    return b"\r\n".join((request_line, b"Host: a", *fields)) + b"\r\n\r\n"


def fields(*lines: bytes, version: bytes = b"1.1") -> bytes:
    """A GET with exactly these field lines."""
    return b"\r\n".join((b"GET / HTTP/" + version, *lines)) + b"\r\n\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    """A POST with a Host, these field lines, and a body."""
    return line(b"POST / HTTP/1.1", *lines) + body


def target(value: bytes) -> bytes:
    return line(b"GET " + value + b" HTTP/1.1")


HELLO = b"5\r\nhello\r\n0\r\n\r\n"
C = RequestCase

# fmt: off
REQUEST_LINE = [
    C("leading CRLF", b"\r\n" + target(b"/"), "ok", "9112 2.2: SHOULD ignore at least one empty line"),
    C("leading CRLF flood", b"\r\n" * 4096 + target(b"/"), 400, "9112 2.2: one, not thousands for free"),
    C("leading LF", b"\n" + target(b"/"), 400, "9112 2.2; our rule: no bare LF"),
    C("leading CR", b"\r" + target(b"/"), 400, "9112 2.2: bare CR"),
    C("leading space", b" " + target(b"/"), 400, "9112 3"),
    C("leading tab", b"\t" + target(b"/"), 400, "9112 3"),
    C("leading NUL", b"\0" + target(b"/"), 400, "9112 3"),
    C("leading BOM", b"\xef\xbb\xbf" + target(b"/"), 400, "9112 3"),
    C("LF line ends", b"GET / HTTP/1.1\nHost: a\n\n", 400, "9112 2.2; our rule: no bare LF"),
    C("LF after request line", b"GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "9112 2.2"),
    C("CR after request line", b"GET / HTTP/1.1\rHost: a\r\n\r\n", 400, "9112 2.2"),
    C("CR CR LF after request line", b"GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", 400, "9112 2.2"),
    C("CR in target", target(b"/a\rb"), 400, "9112 2.2, 3.2"),
    C("tab as separator", b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400, "9112 3: single SP; T-Reqs"),
    C("VT as separator", b"GET\x0b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400, "9112 3; T-Reqs"),
    C("two spaces before target", line(b"GET  / HTTP/1.1"), 400, "9112 3"),
    C("two spaces before version", line(b"GET /  HTTP/1.1"), 400, "9112 3"),
    C("space at the end", line(b"GET / HTTP/1.1 "), 400, "9112 3"),
    C("tab at the end", line(b"GET / HTTP/1.1\t"), 400, "9112 3"),
    C("space in target", target(b"/a b"), 400, "9112 3.2: no whitespace in the target"),
    C("request smuggled in target", target(b"/ HTTP/1.1\tx"), 400, "9112 3; T-Reqs"),
    C("no version", line(b"GET /"), 400, "9112 3; HTTP/0.9 is gone"),
    C("no target", line(b"GET HTTP/1.1"), 400, "9112 3"),
    C("empty target", line(b"GET  HTTP/1.1"), 400, "9112 3.2"),
    C("method only", line(b"GET"), 400, "9112 3"),
    C("four words", line(b"GET / x HTTP/1.1"), 400, "9112 3"),
    C("version in lower case", line(b"GET / http/1.1"), 400, "9112 2.3: case-sensitive"),
    C("version in mixed case", line(b"GET / Http/1.1"), 400, "9112 2.3"),
    C("HTTP/0.9", line(b"GET / HTTP/0.9"), 505, "9110 15.6.6"),
    C("HTTP/2.0", line(b"GET / HTTP/2.0"), 505, "9110 15.6.6"),
    C("HTTP/3.0", line(b"GET / HTTP/3.0"), 505, "9110 15.6.6"),
    C("HTTP/1.2", line(b"GET / HTTP/1.2"), "ok", "9110 2.5: SHOULD be taken as 1.1", {"version": 11}),
    C("minor of two digits", line(b"GET / HTTP/1.10"), 400, "9112 2.3: one digit each"),
    C("major of two digits", line(b"GET / HTTP/11.1"), 400, "9112 2.3"),
    C("version with a leading zero", line(b"GET / HTTP/01.1"), 400, "9112 2.3"),
    C("version without minor", line(b"GET / HTTP/1."), 400, "9112 2.3"),
    C("version without point", line(b"GET / HTTP/1"), 400, "9112 2.3"),
    C("version with plus", line(b"GET / HTTP/+1.1"), 400, "9112 2.3"),
    C("version with comma", line(b"GET / HTTP/1,1"), 400, "9112 2.3"),
    C("version with junk", line(b"GET / HTTP/1.1x"), 400, "9112 2.3"),
    C("version of another protocol", line(b"GET / HTTPS/1.1"), 400, "9112 2.3"),
    C("version split", line(b"GET / HTTP /1.1"), 400, "9112 2.3"),
    C("method with @", line(b"G@T / HTTP/1.1"), 400, "9110 9.1: token"),
    C("method with NUL", line(b"GET\0 / HTTP/1.1"), 400, "9110 9.1"),
    C("method in parentheses", line(b"(GET) / HTTP/1.1"), 400, "9110 9.1"),
    C("method with colon", line(b"GET: / HTTP/1.1"), 400, "9110 9.1"),
    C("method with obs-text", line(b"G\xc9T / HTTP/1.1"), 400, "9110 9.1"),
    C("method empty", line(b" / HTTP/1.1"), 400, "9110 9.1"),
    C("method quoted", line(b'"GET" / HTTP/1.1'), 400, "9110 9.1"),
    C("method in lower case", line(b"get / HTTP/1.1"), "ok", "9110 9.1: case-sensitive", {"method": b"get"}),
    C("method unknown", line(b"M-SEARCH / HTTP/1.1"), "ok", "9110 9.1: any token", {"method": b"M-SEARCH"}),
    C("CONNECT", line(b"CONNECT b:443 HTTP/1.1"), 405, "9110 9.3.6; a reverse proxy opens no tunnels"),
    C("CONNECT with a body", line(b"CONNECT b:443 HTTP/1.1", b"Content-Length: 3") + b"abc", 405, "9110 9.3.6"),
    C("TRACE", line(b"TRACE / HTTP/1.1"), 405, "9110 9.3.8: cross-site tracing"),
]

TARGET = [
    C(
        "absolute-form against Host",
        target(b"http://b.example:81/x?y=z"),
        "ok",
        "9112 3.2.2: the target wins",
        {"host": b"b.example:81", "target": b"/x?y=z", "path": b"/x"},
    ),
    C("absolute-form, no path", target(b"http://b"), "ok", "9112 3.2.1", {"host": b"b", "target": b"/"}),
    C("absolute-form, query only", target(b"http://b?q"), "ok", "9112 3.2.1", {"host": b"b", "target": b"/?q"}),
    C("absolute-form, scheme in capitals", target(b"HTTP://b/x"), "ok", "3986 3.1", {"host": b"b", "target": b"/x"}),
    C("absolute-form, IPv6", target(b"http://[::1]:81/x"), "ok", "3986 3.2.2", {"host": b"[::1]:81", "target": b"/x"}),
    C("absolute-form, slash in query", target(b"http://b?q=/x"), "ok", "3986 3.4", {"host": b"b", "target": b"/?q=/x"}),
    C("absolute-form, @ in path", target(b"http://b/@c"), "ok", "3986 3.3", {"host": b"b", "target": b"/@c"}),
    C("absolute-form of OPTIONS", line(b"OPTIONS http://b HTTP/1.1"), "ok", "3.2.4", {"host": b"b", "target": b"*"}),
    C("absolute-form on 1.0 without Host", b"GET http://b/x HTTP/1.0\r\n\r\n", "ok", "9112 3.2.2", {"host": b"b"}),
    C("absolute-form without Host", b"GET http://b/x HTTP/1.1\r\n\r\n", 400, "9112 3.2: Host is needed all the same"),
    C("absolute-form, two Hosts", line(b"GET http://b/ HTTP/1.1", b"Host: b"), 400, "9112 3.2"),
    C("absolute-form, bad Host", b"GET http://b/ HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "9112 3.2: invalid Host"),
    C("absolute-form, user", target(b"http://a@b/"), 400, "9110 4.2.4: userinfo is an error"),
    C("absolute-form, user and password", target(b"http://a:p@b/"), 400, "9110 4.2.4"),
    C("absolute-form, empty host", target(b"http:///x"), 400, "9110 4.2.1"),
    C("absolute-form, port but no host", target(b"http://:80/x"), 400, "9110 4.2.1"),
    C("absolute-form, no slashes", target(b"http:b/x"), 400, "9110 4.2.1"),
    C("absolute-form, one slash", target(b"http:/b/x"), 400, "9110 4.2.1"),
    C("absolute-form, another scheme", target(b"ftp://b/x"), 400, "9110 7.4"),
    C("absolute-form, javascript", target(b"javascript:alert(1)"), 400, "9110 7.4"),
    C("absolute-form, port too large", target(b"http://b:65536/"), 400, "9110 4.2.1"),
    C("absolute-form, port with junk", target(b"http://b:80x/"), 400, "3986 3.2.3"),
    C("absolute-form, open bracket", target(b"http://[::1/x"), 400, "3986 3.2.2"),
    C("absolute-form, backslash", target(b"http://b\\@c/"), 400, "3986 3.2; WHATWG parsers disagree"),
    C("absolute-form, fragment", target(b"http://b/x#y"), 400, "9112 3.2: no fragment in any form"),
    C("authority-form outside CONNECT", target(b"b:80"), 400, "9112 3.2.3"),
    C("asterisk outside OPTIONS", target(b"*"), 400, "9112 3.2.4"),
    C("asterisk of OPTIONS", line(b"OPTIONS * HTTP/1.1"), "ok", "9112 3.2.4", {"target": b"*", "host": b"a"}),
    C("asterisk and more", line(b"OPTIONS *x HTTP/1.1"), 400, "9112 3.2.4"),
    C("slash and asterisk", line(b"OPTIONS /* HTTP/1.1"), "ok", "9112 3.2.1", {"target": b"/*"}),
    C("no leading slash", target(b"x/y"), 400, "9112 3.2.1"),
    C("query only", target(b"?q"), 400, "9112 3.2.1"),
    C("backslash first", target(b"\\x"), 400, "9112 3.2.1"),
    C("@ first (Apache SSRF)", target(b"@b/x"), 400, "9112 3.2; CVE-2011-3368"),
    C("two leading slashes", target(b"//b/x"), "ok", "9112 3.2.1: origin-form", {"host": b"a", "target": b"//b/x"}),
    C("URI in query", target(b"/?http://b/"), "ok", "9112 3.2.1", {"host": b"a", "target": b"/?http://b/"}),
    C("dot segments", target(b"/x/../y"), "ok", "9112 3.2.1: forwarded as it came", {"target": b"/x/../y"}),
    C("encoded NUL", target(b"/%00"), "ok", "3986 2.1: forwarded as it came", {"target": b"/%00"}),
    C("fragment", target(b"/x#y"), 400, "9112 3.2.1: absolute-path [ ? query ]"),
    C("NUL in target", target(b"/\0"), 400, "3986 2"),
    C("control byte in target", target(b"/\x01"), 400, "3986 2"),
    C("DEL in target", target(b"/\x7f"), 400, "3986 2"),
    C("VT in target", target(b"/x\x0by"), 400, "3986 2; T-Reqs"),
    C("UTF-8 in target", target(b"/\xc3\xa9"), 400, "3986 2: percent-encode it"),
    C("NEL in target", target(b"/\x85"), 400, "3986 2"),
]

FIELDS = [
    C("space before colon", line(b"GET / HTTP/1.1", b"X : y"), 400, "9112 5.1: MUST 400"),
    C("tab before colon", line(b"GET / HTTP/1.1", b"X\t: y"), 400, "9112 5.1"),
    C("space before colon of Host", fields(b"Host : a"), 400, "9112 5.1"),
    C("space before colon of CL", post(b"Content-Length : 5", body=b"hello"), 400, "9112 5.1; Linhart 2005"),
    C("space before colon of TE", post(b"Transfer-Encoding : chunked", body=HELLO), 400, "9112 5.1; Kettle 2019"),
    C("VT before colon of TE", post(b"Transfer-Encoding\x0b: chunked", body=HELLO), 400, "9110 5.1; Kettle 2019"),
    C("NUL before colon of TE", post(b"Transfer-Encoding\0: chunked", body=HELLO), 400, "9110 5.1; Kettle 2021"),
    C("CRLF before colon of TE", post(b"Transfer-Encoding", b": chunked", body=HELLO), 400, "9112 5; Kettle 2019"),
    C("space before the first field", fields(b" X: y", b"Host: a"), 400, "9112 2.2"),
    C("space before TE", post(b" Transfer-Encoding: chunked", body=HELLO), 400, "9112 5.2: obs-fold; Kettle 2019"),
    C("VT before TE", post(b"\x0bTransfer-Encoding: chunked", body=HELLO), 400, "9110 5.1"),
    C("NBSP before TE", post(b"\xa0Transfer-Encoding: chunked", body=HELLO), 400, "9110 5.1"),
    C("obs-fold with space", line(b"GET / HTTP/1.1", b"X: y", b" z"), 400, "9112 5.2"),
    C("obs-fold with tab", line(b"GET / HTTP/1.1", b"X: y", b"\tz"), 400, "9112 5.2"),
    C("obs-fold of nothing", line(b"GET / HTTP/1.1", b"X: y", b" "), 400, "9112 5.2"),
    C("obs-fold of Host", fields(b"Host: a", b" b"), 400, "9112 5.2"),
    C("obs-fold of TE", post(b"Transfer-Encoding:", b" chunked", body=HELLO), 400, "9112 5.2; Kettle 2019"),
    C("obs-fold of CL", post(b"Content-Length: 5", b" 0", body=b"hello"), 400, "9112 5.2"),
    C("empty name", line(b"GET / HTTP/1.1", b": y"), 400, "9110 5.1: token"),
    C("no colon", line(b"GET / HTTP/1.1", b"X"), 400, "9112 5"),
    C("second request line as field", line(b"GET / HTTP/1.1", b"GET /x HTTP/1.1"), 400, "9112 5"),
    C("NUL in value", line(b"GET / HTTP/1.1", b"X: a\0b"), 400, "9110 5.5"),
    C("CR in value", line(b"GET / HTTP/1.1", b"X: a\rb"), 400, "9110 5.5, 9112 2.2"),
    C("CR at the end of value", line(b"GET / HTTP/1.1", b"X: a\r"), 400, "9110 5.5; Kettle 2019"),
    C("LF in value", line(b"GET / HTTP/1.1", b"X: a\nb: c"), 400, "9110 5.5, 9112 2.2"),
    C("TE behind LF", post(b"X: a\nTransfer-Encoding: chunked", body=HELLO), 400, "9112 2.2; Kettle 2019"),
    C("TE behind CR", post(b"X: a\rTransfer-Encoding: chunked", body=HELLO), 400, "9112 2.2; Kettle 2019"),
    C("LF ends the last field", b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "9112 2.2"),
    C("LF ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "9112 2.2"),
    C("CR ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\r", 400, "9112 2.2"),
    C("LF CR ends the head", b"GET / HTTP/1.1\r\nHost: a\n\r\n\r", 400, "9112 2.2"),
    C("control byte in value", line(b"GET / HTTP/1.1", b"X: a\x01b"), 400, "9110 5.5: other CTL are invalid"),
    C("ESC in value", line(b"GET / HTTP/1.1", b"X: \x1b[31m"), 400, "9110 5.5: terminal escapes reach the log"),
    C("VT in value", line(b"GET / HTTP/1.1", b"X: a\x0bb"), 400, "9110 5.5"),
    C("FF in value", line(b"GET / HTTP/1.1", b"X: a\x0cb"), 400, "9110 5.5"),
    C("DEL in value", line(b"GET / HTTP/1.1", b"X: a\x7fb"), 400, "9110 5.5"),
    C("tab in value", line(b"GET / HTTP/1.1", b"X:\ta\tb\t"), "ok", "9110 5.5", {"fields": {b"x": b"a\tb"}}),
    C("obs-text in value", line(b"GET / HTTP/1.1", b"X: caf\xe9"), "ok", "9110 5.5", {"fields": {b"x": b"caf\xe9"}}),
    C("empty value", line(b"GET / HTTP/1.1", b"X:"), "ok", "9110 5.5", {"fields": {b"x": b""}}),
    C("blank value", line(b"GET / HTTP/1.1", b"X: \t "), "ok", "9110 5.5", {"fields": {b"x": b""}}),
    C("no space after colon", line(b"GET / HTTP/1.1", b"X:y"), "ok", "9112 5: OWS", {"fields": {b"x": b"y"}}),
    C("colon in value", line(b"GET / HTTP/1.1", b"X:: y: z"), "ok", "9112 5", {"fields": {b"x": b": y: z"}}),
    C("every tchar in name", line(b"GET / HTTP/1.1", b"!#$%&'*+-.^_`|~9: y"), "ok", "9110 5.6.2", {}),
    C("obs-text in name", line(b"GET / HTTP/1.1", b"X\xe9: y"), 400, "9110 5.1"),
    C("space in name", line(b"GET / HTTP/1.1", b"X Y: z"), 400, "9110 5.1"),
    C("slash in name", line(b"GET / HTTP/1.1", b"X/Y: z"), 400, "9110 5.1"),
    C("quote in name", line(b"GET / HTTP/1.1", b'"X": z'), 400, "9110 5.1"),
    C("bracket in name", line(b"GET / HTTP/1.1", b"X[0]: z"), 400, "9110 5.1"),
    C("brace in name", line(b"GET / HTTP/1.1", b"{X}: z"), 400, "9110 5.1"),
    C("semicolon in name", line(b"GET / HTTP/1.1", b"X;: z"), 400, "9110 5.1"),
    C("NUL in name", line(b"GET / HTTP/1.1", b"X\0: z"), 400, "9110 5.1"),
    C("CR in name", line(b"GET / HTTP/1.1", b"X\rY: z"), 400, "9110 5.1"),
    C("underscored CL", post(b"Content_Length: 5"), "ok", "9110 5.1", {"length": 0, "has_underscore": True}),
    C("underscored TE", post(b"Transfer_Encoding: chunked"), "ok", "9110 5.1", {"length": 0, "has_underscore": True}),
]

HOST = [
    C("Host missing", fields(), 400, "9112 3.2: MUST 400"),
    C("Host missing, other fields", fields(b"X: y"), 400, "9112 3.2"),
    C("Host missing on 1.0", fields(version=b"1.0"), "ok", "9112 3.2", {"host": b"", "keep_alive": False}),
    C("Host twice", fields(b"Host: a", b"Host: b"), 400, "9112 3.2: MUST 400"),
    C("Host twice, the same", fields(b"Host: a", b"Host: a"), 400, "9112 3.2"),
    C("Host twice on 1.0", fields(b"Host: a", b"host: b", version=b"1.0"), 400, "9112 3.2"),
    C("Host empty", fields(b"Host:"), 400, "9110 4.2.1: http has no empty host"),
    C("Host and an empty one", fields(b"Host: a", b"Host:"), 400, "9112 3.2"),
    C("Host list", fields(b"Host: a, b"), 400, "9110 7.2: not a list"),
    C("Host list without space", fields(b"Host: a,b"), 400, "9110 7.2: a reg-name may hold a comma, a host name not"),
    C("Host with space", fields(b"Host: a b"), 400, "9110 7.2"),
    C("Host with tab", fields(b"Host: a\tb"), 400, "9110 7.2"),
    C("Host with path", fields(b"Host: a/b"), 400, "9110 7.2: uri-host [ : port ]"),
    C("Host with backslash", fields(b"Host: a\\b"), 400, "9110 7.2"),
    C("Host with query", fields(b"Host: a?b"), 400, "9110 7.2"),
    C("Host with fragment", fields(b"Host: a#b"), 400, "9110 7.2"),
    C("Host with user", fields(b"Host: u@a"), 400, "9110 7.2"),
    C("Host with scheme", fields(b"Host: http://a"), 400, "9110 7.2"),
    C("Host with markup", fields(b"Host: <a>"), 400, "9110 7.2: reflected hosts"),
    C("Host with quote", fields(b'Host: a"b'), 400, "9110 7.2"),
    C("Host with UTF-8", fields(b"Host: \xc3\xa9.example"), 400, "9110 7.2: A-labels"),
    C("Host with a port of letters", fields(b"Host: a:b"), 400, "3986 3.2.3"),
    C("Host with two ports", fields(b"Host: a:80:80"), 400, "3986 3.2.3"),
    C("Host with a negative port", fields(b"Host: a:-1"), 400, "3986 3.2.3"),
    C("Host with a space before port", fields(b"Host: a: 80"), 400, "3986 3.2.3"),
    C("Host with a port too large", fields(b"Host: a:65536"), 400, "3986 3.2.3; TCP has 16 bits"),
    C("Host with port only", fields(b"Host: :80"), 400, "9110 4.2.1"),
    C("Host with a bare IPv6", fields(b"Host: ::1"), 400, "3986 3.2.2: brackets"),
    C("Host with an open bracket", fields(b"Host: [::1"), 400, "3986 3.2.2"),
    C("Host with a bracket and junk", fields(b"Host: [::1]x"), 400, "3986 3.2.2"),
    C("Host with letters in brackets", fields(b"Host: [a.example]"), 400, "3986 3.2.2"),
    C("Host of IPv6", fields(b"Host: [::1]:8080"), "ok", "3986 3.2.2", {"host": b"[::1]:8080"}),
    C("Host in capitals", fields(b"HOST: A.Example:80"), "ok", "9110 5.1", {"host": b"A.Example:80"}),
]
