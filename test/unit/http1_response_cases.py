"""Hostile HTTP/1 responses, as data: what a strict intermediary makes of each.

Rule of this file: as in `http1_cases`, nothing here knows the codec. ``expected`` is ``"bad"`` (a BadResponse: 502 and
the connection is dropped), ``"too-large"``, ``"truncated"`` (the backend closed after ``raw``), or ``"ok"``; then
``length`` is the framing (a number, or one of the constants below), ``body`` what is read, and ``rest`` what is left
over: bytes that belong to no request, for which the connection has to be given up.
"""

from __future__ import annotations

from typing import NamedTuple

CHUNKED, UNTIL_CLOSE, NO_BODY = -1, -2, -3


class ResponseCase(NamedTuple):
    name: str
    raw: bytes
    expected: str
    reference: str
    length: int = 0
    body: bytes = b""
    rest: bytes = b""
    #: The method of the request that is answered.
    to: bytes = b"GET"
    keep_alive: bool = True


def line(status_line: bytes) -> bytes:
    """A response of no bytes with this status line."""
    return status_line + b"\r\nContent-Length: 0\r\n\r\n"


def fields(*lines: bytes, status: bytes = b"200 OK", version: bytes = b"1.1", body: bytes = b"") -> bytes:
    """A response with exactly these field lines."""
    return b"\r\n".join((b"HTTP/" + version + b" " + status, *lines)) + b"\r\n\r\n" + body


def extra(field: bytes) -> bytes:
    """A response of no bytes with one more field line."""
    return fields(field, b"Content-Length: 0")


def cl(value: bytes) -> bytes:
    return fields(b"Content-Length:" + value, body=b"hello")


def te(value: bytes) -> bytes:
    return fields(b"Transfer-Encoding:" + value, body=HELLO)


def chunks(body: bytes) -> bytes:
    return fields(b"Transfer-Encoding: chunked", body=body)


HELLO = b"5\r\nhello\r\n0\r\n\r\n"
CHUNKED_FIELD = b"Transfer-Encoding: chunked"
C = ResponseCase

# fmt: off
STATUS_LINE = [
    C("plain", line(b"HTTP/1.1 200 OK"), "ok", "9112 4"),
    C("empty reason", line(b"HTTP/1.1 200 "), "ok", "9112 4"),
    C("no reason", line(b"HTTP/1.1 200"), "ok", "9112 4 wants the space; many backends forget it"),
    C("obs-text in reason", line(b"HTTP/1.1 404 Pas trouv\xe9"), "ok", "9112 4"),
    C("tab in reason", line(b"HTTP/1.1 200 O\tK"), "ok", "9112 4"),
    C("NUL in reason", line(b"HTTP/1.1 200 O\0K"), "bad", "9112 4"),
    C("CR in reason", line(b"HTTP/1.1 200 O\rK"), "bad", "9112 2.2"),
    C("LF in reason", line(b"HTTP/1.1 200 O\nK: x"), "bad", "9112 2.2: response splitting"),
    C("DEL in reason", line(b"HTTP/1.1 200 O\x7fK"), "bad", "9112 4"),
    C("status 000", line(b"HTTP/1.1 000 OK"), "bad", "9110 15"),
    C("status 099", line(b"HTTP/1.1 099 OK"), "bad", "9110 15"),
    C("status 1000", line(b"HTTP/1.1 1000 OK"), "bad", "9112 4: 3DIGIT"),
    C("status of two digits", line(b"HTTP/1.1 20 OK"), "bad", "9112 4"),
    C("status of letters", line(b"HTTP/1.1 abc OK"), "bad", "9112 4"),
    C("status with plus", line(b"HTTP/1.1 +20 OK"), "bad", "9112 4: int() takes it"),
    C("status with underscore", line(b"HTTP/1.1 2_0 OK"), "bad", "9112 4: int() takes it"),
    C("status of superscripts", line(b"HTTP/1.1 2\xb20 OK"), "bad", "9112 4"),
    C("status joined to reason", line(b"HTTP/1.1 200OK"), "bad", "9112 4"),
    C("status missing", line(b"HTTP/1.1 OK"), "bad", "9112 4"),
    C("two spaces before status", line(b"HTTP/1.1  200 OK"), "bad", "9112 4"),
    C("tab before status", line(b"HTTP/1.1\t200 OK"), "bad", "9112 4"),
    C("version only", line(b"HTTP/1.1"), "bad", "9112 4"),
    C("version in lower case", line(b"http/1.1 200 OK"), "bad", "9112 2.3"),
    C("HTTP/2", line(b"HTTP/2 200 OK"), "bad", "9112 2.3"),
    C("HTTP/2.0", line(b"HTTP/2.0 200 OK"), "bad", "9110 2.5: another major version"),
    C("HTTP/0.9", line(b"HTTP/0.9 200 OK"), "bad", "9110 2.5"),
    C("HTTP/1.10", line(b"HTTP/1.10 200 OK"), "bad", "9112 2.3"),
    C("no version", line(b"200 OK"), "bad", "9112 4"),
    C("another protocol", line(b"ICY 200 OK"), "bad", "9112 4"),
    C("body at once", b"<html>\r\n\r\n</html>", "bad", "9112 4: HTTP/0.9 is gone"),
    C("leading CRLF", b"\r\n" + line(b"HTTP/1.1 200 OK"), "bad", "9112 2.2 excuses servers only"),
    C("leading LF", b"\n" + line(b"HTTP/1.1 200 OK"), "bad", "9112 2.2"),
    C("leading space", b" " + line(b"HTTP/1.1 200 OK"), "bad", "9112 4"),
    C("LF line ends", b"HTTP/1.1 200 OK\nContent-Length: 0\n\nx\r\n\r\n", "bad", "9112 2.2; our rule"),
]

FIELDS = [
    C("space before colon", extra(b"X : y"), "bad", "9112 5.1"),
    C("space before colon of CL", fields(b"Content-Length : 0"), "bad", "9112 5.1"),
    C("space before colon of TE", fields(b"Transfer-Encoding : chunked", body=HELLO), "bad", "9112 5.1"),
    C("space before the first field", fields(b" X: y", b"Content-Length: 0"), "bad", "9112 2.2"),
    C("obs-fold", fields(b"X: y", b" z", b"Content-Length: 0"), "bad", "9112 5.2: discard with 502"),
    C("obs-fold of TE", fields(b"Transfer-Encoding:", b"\tchunked", body=HELLO), "bad", "9112 5.2"),
    C("empty name", extra(b": y"), "bad", "9110 5.1"),
    C("no colon", extra(b"X"), "bad", "9112 5"),
    C("second status line", extra(b"HTTP/1.1 200 OK"), "bad", "9112 5"),
    C("NUL in value", extra(b"X: \0"), "bad", "9110 5.5"),
    C("CR in value", extra(b"X: a\rb"), "bad", "9110 5.5"),
    C("LF in value", extra(b"X: a\nSet-Cookie: b=c"), "bad", "9110 5.5: response splitting"),
    C("CR at the end of value", extra(b"X: a\r"), "bad", "9110 5.5"),
    C("control byte in value", extra(b"X: \x01"), "bad", "9110 5.5"),
    C("DEL in value", extra(b"X: \x7f"), "bad", "9110 5.5"),
    C("obs-text in name", extra(b"X\xe9: y"), "bad", "9110 5.1"),
    C("space in name", extra(b"X Y: z"), "bad", "9110 5.1"),
    C("NUL in name", extra(b"X\0: z"), "bad", "9110 5.1"),
    C("obs-text and tab in value", extra(b"X: caf\xe9\tx"), "ok", "9110 5.5"),
    C("head of 40 kB", extra(b"X: " + b"y" * 40000), "too-large", "9110 5.4; our rule"),
    C("head without end", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 9000, "too-large", "9110 5.4"),
    C("status line without end", b"HTTP/1.1 200 " + b"a" * 40000, "too-large", "9110 5.4"),
    C("101 fields", fields(*[b"X: y"] * 101), "too-large", "9110 5.4; our rule"),
]

LENGTH = [
    C("CL", fields(b"Content-Length: 5", body=b"hello"), "ok", "9112 6.2", 5, b"hello"),
    C("CL and TE", fields(b"Content-Length: 5", CHUNKED_FIELD, body=HELLO), "bad", "9112 6.3 rule 3"),
    C("TE and CL 0", fields(CHUNKED_FIELD, b"Content-Length: 0", body=HELLO), "bad", "9112 6.3 rule 3"),
    C("CL and TE to HEAD", fields(b"Content-Length: 5", CHUNKED_FIELD), "bad", "9112 6.1", to=b"HEAD"),
    C("two CL", fields(b"Content-Length: 5", b"Content-Length: 0", body=b"hello"), "bad", "9112 6.3 rule 5"),
    C("two CL to HEAD", fields(b"Content-Length: 5", b"Content-Length: 6"), "bad", "9112 6.3", to=b"HEAD"),
    C("two CL, the same", fields(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), "bad", "9112 6.3: may"),
    C("CL list", cl(b" 5, 6"), "bad", "9112 6.3 rule 5"),
    C("CL list, the same", cl(b" 5, 5"), "bad", "9112 6.3: may"),
    C("CL negative", cl(b" -5"), "bad", "9110 8.6"),
    C("CL with plus", cl(b" +5"), "bad", "9110 8.6"),
    C("CL hexadecimal", cl(b" 0x5"), "bad", "9110 8.6"),
    C("CL with underscore", cl(b" 0_5"), "bad", "9110 8.6"),
    C("CL empty", cl(b""), "bad", "9110 8.6"),
    C("CL with junk", cl(b" 5 bytes"), "bad", "9110 8.6"),
    C("CL of 2^64 + 5", cl(b" 18446744073709551621"), "bad", "9110 8.6"),
    C("CL bad to HEAD", fields(b"Content-Length: five"), "bad", "9110 8.6", to=b"HEAD"),
    C("no length", fields(body=b"hello"), "ok", "9112 6.3 rule 8", UNTIL_CLOSE, b"hello", keep_alive=False),
    C("no length on 1.0", fields(version=b"1.0", body=b"x"), "ok", "9112 6.3", UNTIL_CLOSE, b"x",
      keep_alive=False),
    C("no length, keep-alive", fields(b"Connection: keep-alive", body=b"x"), "ok", "9112 6.3", UNTIL_CLOSE, b"x",
      keep_alive=False),
    C("CL on 1.0", fields(b"Content-Length: 1", version=b"1.0", body=b"x"), "ok", "9112 9.3", 1, b"x",
      keep_alive=False),
    C("close", fields(b"Content-Length: 1", b"Connection: Close", body=b"x"), "ok", "9112 9.6", 1, b"x",
      keep_alive=False),
    C("HEAD with CL", fields(b"Content-Length: 5"), "ok", "9112 6.3 rule 1", NO_BODY, to=b"HEAD"),
    C("HEAD with TE", fields(CHUNKED_FIELD), "ok", "9112 6.1, 6.3 rule 1", NO_BODY, to=b"HEAD"),
    C("HEAD with a body", fields(b"Content-Length: 5", body=b"hello"), "ok", "9112 6.3 rule 1", NO_BODY, to=b"HEAD",
      rest=b"hello"),
    C("204", fields(status=b"204 No Content"), "ok", "9112 6.3 rule 1", NO_BODY),
    C("204 with CL 0", fields(b"Content-Length: 0", status=b"204 No"), "ok", "9112 6.3 rule 1: common", NO_BODY),
    C("204 with a body", fields(b"Content-Length: 5", status=b"204 No", body=b"hello"), "bad", "9110 8.6: MUST NOT"),
    C("204 with unframed bytes", fields(status=b"204 No", body=b"hello"), "ok", "9112 6.3 rule 1", NO_BODY, rest=b"hello"),
    C("204 with TE", fields(CHUNKED_FIELD, status=b"204 No", body=HELLO), "bad", "9112 6.1: MUST NOT"),
    C("304 with CL", fields(b"Content-Length: 5", status=b"304 No"), "ok", "9110 8.6, 9112 6.3 rule 1", NO_BODY),
    C("304 with TE", fields(CHUNKED_FIELD, status=b"304 No"), "ok", "9112 6.1: MAY", NO_BODY),
    C("304 with a body", fields(b"Content-Length: 2", status=b"304 No", body=b"hi"), "ok", "6.3 rule 1", NO_BODY,
      rest=b"hi"),
    C("103", fields(b"Link: x", status=b"103 Early Hints"), "ok", "8297 2", NO_BODY),
    C("103 with CL", fields(b"Content-Length: 2", status=b"103 E", body=b"hi"), "ok", "6.3 rule 1", NO_BODY,
      rest=b"hi"),
    C("100 with TE", fields(CHUNKED_FIELD, status=b"100 Continue", body=HELLO), "bad", "9112 6.1: MUST NOT"),
    C("101 unasked", fields(b"Upgrade: x", b"Connection: Upgrade", status=b"101 S"), "bad", "9110 15.2.2, 7.8"),
    C("200 to HEAD without fields", fields(), "ok", "9112 6.3 rule 1", NO_BODY, to=b"HEAD"),
    C("two responses", line(b"HTTP/1.1 200 OK") * 2, "ok", "9112 9.3.2: only one was asked for", 0,
      rest=line(b"HTTP/1.1 200 OK")),
    C("junk after the end", fields(b"Content-Length: 2", body=b"hi!"), "ok", "9112 6.3", 2, b"hi", b"!"),
    C("body cut short", fields(b"Content-Length: 5", body=b"hell"), "truncated", "9112 8", 5),
    C("no body at all", fields(b"Content-Length: 5"), "truncated", "9112 8", 5),
]

TRANSFER_ENCODING = [
    C("TE", te(b" chunked"), "ok", "9112 7.1", CHUNKED, b"hello"),
    C("TE in capitals", te(b" Chunked"), "ok", "9112 7", CHUNKED, b"hello"),
    C("TE on 1.0", fields(CHUNKED_FIELD, version=b"1.0", body=HELLO), "bad", "9112 6.1: MUST treat as faulty"),
    C("TE gzip", te(b" gzip"), "bad", "9112 6.1: nobody asked for it"),
    C("TE gzip, chunked", te(b" gzip, chunked"), "bad", "9112 6.1"),
    C("TE chunked, gzip", te(b" chunked, gzip"), "bad", "9112 6.3 rule 4"),
    C("TE identity", te(b" identity"), "bad", "9112 7"),
    C("TE xchunked", te(b" xchunked"), "bad", "9112 6.1"),
    C("TE chunked, chunked", te(b" chunked, chunked"), "bad", "9112 6.1"),
    C("TE twice", fields(CHUNKED_FIELD, CHUNKED_FIELD, body=HELLO), "bad", "9112 6.1"),
    C("TE empty", te(b""), "bad", "9110 10.1.4"),
    C("TE quoted", te(b' "chunked"'), "bad", "9110 10.1.4"),
    C("TE with parameter", te(b" chunked;a=b"), "bad", "9112 7.1"),
    C("TE behind VT", te(b" \x0bchunked"), "bad", "9110 5.5"),
    C("TE on 304, unknown", fields(b"Transfer-Encoding: gzip", status=b"304 No"), "bad", "9112 6.1"),
]

CHUNKS = [
    C("size 0x5", chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), "bad", "9112 7.1"),
    C("size negative", chunks(b"-5\r\nhello\r\n0\r\n\r\n"), "bad", "9112 7.1"),
    C("size empty", chunks(b"\r\nhello\r\n0\r\n\r\n"), "bad", "9112 7.1"),
    C("size before space", chunks(b"5 \r\nhello\r\n0\r\n\r\n"), "bad", "9112 7.1"),
    C("size of 2^64 + 5", chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), "bad", "9112 7.1"),
    C("size never ends", chunks(b"0" * 20000 + b"\r\n\r\n"), "bad", "9112 7.1"),
    C("LF after size", chunks(b"5\nhello\r\n0\r\n\r\n"), "bad", "9112 7.1"),
    C("LF after data", chunks(b"5\r\nhello\n0\r\n\r\n"), "bad", "9112 7.1"),
    C("nothing after data", chunks(b"5\r\nhello0\r\n\r\n"), "bad", "9112 7.1"),
    C("LF in extension", chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), "bad", "9112 7.1.1"),
    C("extension of 20 kB", chunks(b"5;" + b"a" * 20000 + b"\r\nhello\r\n0\r\n\r\n"), "bad", "9112 7.1.1"),
    C("trailer", chunks(b"0\r\nX: y\r\n\r\n"), "ok", "9112 7.1.2", CHUNKED),
    C("trailer folded", chunks(b"0\r\nX: y\r\n z\r\n\r\n"), "bad", "9112 5.2"),
    C("trailer with space before colon", chunks(b"0\r\nX : y\r\n\r\n"), "bad", "9112 5.1"),
    C("trailer with NUL", chunks(b"0\r\nX: \0\r\n\r\n"), "bad", "9110 5.5"),
    C("trailer with LF", chunks(b"0\r\nX: y\nSet-Cookie: b=c\r\n\r\n"), "bad", "9112 2.2"),
    C("trailers of 40 kB", chunks(b"0\r\nX: " + b"y" * 40000 + b"\r\n\r\n"), "too-large", "9110 5.4"),
    C("101 trailers", chunks(b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n"), "too-large", "9110 5.4"),
    C("junk after the last chunk", chunks(b"0\r\n\r\n!"), "ok", "9112 7.1", CHUNKED, rest=b"!"),
    C("cut in data", chunks(b"5\r\nhel"), "truncated", "9112 8: incomplete"),
    C("cut in size", chunks(b"5\r\nhello\r\n1"), "truncated", "9112 8: incomplete"),
    C("cut before the last chunk", chunks(b"5\r\nhello\r\n"), "truncated", "9112 8: incomplete"),
    C("cut before the end", chunks(b"5\r\nhello\r\n0\r\n"), "truncated", "9112 8: incomplete"),
    C("cut in trailers", chunks(b"5\r\nhello\r\n0\r\nX: y\r\n"), "truncated", "9112 8: incomplete"),
]

RESPONSES: list[ResponseCase] = [*STATUS_LINE, *FIELDS, *LENGTH, *TRANSFER_ENCODING, *CHUNKS]
