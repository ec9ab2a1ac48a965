"""Hostile HTTP/1 requests, as data: what a strict intermediary has to say to each.

Rule of this file: nothing here knows the codec. The cases come from RFC 9110 and RFC 9112 and from the published
research on request smuggling: Linhart et al. 2005 (the first paper), Kettle 2019 and 2021 ("HTTP Desync Attacks",
"HTTP/2: The Sequel"), Jabiyev et al. 2021 ("T-Reqs", differential fuzzing), Davison 2019 (abuse of hop-by-hop
fields), Weikop 2025 ("Funky chunks"), and CVEs where one is named.

``expected`` is the status of the refusal, or ``"ok"``; then ``sees`` tells what has to have been understood: attributes
of the `RequestHead`, and ``body``, ``trailers``, ``fields`` (name to value), ``has`` and ``lacks`` (field names). The
choices the RFCs leave open are decided here the strict way: refusing is always safe, guessing never is.
"""

from __future__ import annotations

from test.unit.http1_head_cases import (
    FIELDS,
    HELLO,
    HOST,
    REQUEST_LINE,
    TARGET,
    RequestCase,
    fields,
    line,
    post,
    target,
)
from test.unit.http1_response_cases import RESPONSES

__all__ = ["NEXT", "REQUESTS", "RESPONSES", "RequestCase"]

#: What follows every case on the wire. After a refusal it must never be looked at; after "ok" it must be what is left.
NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
MANY_FIELDS = [b"X-%d: y" % i for i in range(100)]
C = RequestCase


def chunks(body: bytes) -> bytes:
    """A POST with a chunked body, written out by the case."""
    return post(b"Transfer-Encoding: chunked", body=body)


def te(value: bytes) -> bytes:
    """A POST with this Transfer-Encoding and a body that is well-formed if it counts as chunked."""
    return post(b"Transfer-Encoding:" + value, body=HELLO)


def cl(value: bytes, body: bytes = b"hello") -> bytes:
    return post(b"Content-Length:" + value, body=body)


# fmt: off
LENGTH = [
    C("CL and TE", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=HELLO), 400, "6.1; Linhart 2005"),
    C("TE and CL", post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=HELLO), 400, "6.1; Kettle 2019"),
    C("CL 0 and TE", post(b"Content-Length: 0", b"Transfer-Encoding: chunked", body=HELLO), 400, "9112 6.1"),
    C("CL and TE identity", post(b"Content-Length: 5", b"Transfer-Encoding: identity", body=b"hello"), 400, "9112 6.1"),
    C("TE on 1.0", b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + HELLO, 400, "9112 6.1"),
    C("two CL", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), 400, "9112 6.3; Linhart 2005"),
    C("two CL in different case", post(b"Content-Length: 5", b"content-length: 0", body=b"hello"), 400, "9112 6.3"),
    C("two CL, the same", post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), 400, "9112 6.3: may refuse"),
    C("two CL, one empty", post(b"Content-Length: 5", b"Content-Length:", body=b"hello"), 400, "9112 6.3"),
    C("CL list", cl(b" 5, 6"), 400, "9112 6.3"),
    C("CL list, the same", cl(b" 5, 5"), 400, "9112 6.3: may refuse"),
    C("CL list with an empty end", cl(b" 5,"), 400, "9110 8.6"),
    C("CL list with an empty start", cl(b" ,5"), 400, "9110 8.6"),
    C("CL negative", cl(b" -1"), 400, "9110 8.6: 1*DIGIT"),
    C("CL minus zero", cl(b" -0"), 400, "9110 8.6"),
    C("CL with plus", cl(b" +5"), 400, "9110 8.6; CVE-2020-10108 and kin"),
    C("CL hexadecimal", cl(b" 0x5"), 400, "9110 8.6"),
    C("CL octal", cl(b" 0o5"), 400, "9110 8.6"),
    C("CL empty", cl(b""), 400, "9110 8.6"),
    C("CL blank", cl(b" \t"), 400, "9110 8.6"),
    C("CL of letters", cl(b" five"), 400, "9110 8.6"),
    C("CL with junk behind", cl(b" 5a"), 400, "9110 8.6"),
    C("CL with junk before", cl(b" a5"), 400, "9110 8.6"),
    C("CL with a second number", cl(b" 5 6"), 400, "9110 8.6"),
    C("CL with a point", cl(b" 5.0"), 400, "9110 8.6"),
    C("CL with exponent", cl(b" 1e1"), 400, "9110 8.6"),
    C("CL with underscore", cl(b" 1_0"), 400, "9110 8.6: int() of Python takes it"),
    C("CL quoted", cl(b' "5"'), 400, "9110 8.6"),
    C("CL with parameter", cl(b" 5;x=y"), 400, "9110 8.6"),
    C("CL behind VT", cl(b" \x0b5"), 400, "9110 8.6: int() of Python strips it"),
    C("CL before NEL", cl(b" 5\x85"), 400, "9110 8.6: str.strip() strips it"),
    C("CL behind NBSP", cl(b" \xa05"), 400, "9110 8.6"),
    C("CL of Arabic digits", cl(" \u0665".encode()), 400, "9110 8.6: int(str) takes it"),
    C("CL of superscript", cl(b" \xb2"), 400, "9110 8.6: isdigit() of latin-1 str takes it"),
    C("CL of 2^63", cl(b" 9223372036854775808"), 400, "9110 8.6: overflow"),
    C("CL of 2^64 + 5", cl(b" 18446744073709551621"), 400, "9110 8.6: wraps to 5"),
    C("CL of 5,000 digits", cl(b" " + b"1" * 5000), 400, "9110 8.6; int() of Python raises over 4,300"),
    C("CL with OWS", cl(b" \t5 \t"), "ok", "9112 5: OWS", {"length": 5, "body": b"hello"}),
    C("CL with leading zeros", cl(b" 005"), "ok", "9110 8.6: 1*DIGIT", {"length": 5, "body": b"hello"}),
    C("CL 0", cl(b" 0", b""), "ok", "9110 8.6", {"length": 0, "body": b""}),
    C("CL on GET", line(b"GET / HTTP/1.1", b"Content-Length: 5") + b"hello", "ok", "9110 9.3", {"body": b"hello"}),
]

TRANSFER_ENCODING = [
    C("TE chunked", te(b" chunked"), "ok", "9112 7.1", {"length": -1, "body": b"hello", "trailers": []}),
    C("TE in capitals", te(b" CHUNKED"), "ok", "9112 7: case-insensitive", {"body": b"hello"}),
    C("TE with OWS", te(b"\t chunked \t"), "ok", "9112 5: OWS", {"body": b"hello"}),
    C("TE without space", te(b"chunked"), "ok", "9112 5: OWS", {"body": b"hello"}),
    C("TE on GET", line(b"GET / HTTP/1.1", b"Transfer-Encoding: chunked") + HELLO, "ok", "9.3", {"body": b"hello"}),
    C("TE gzip", te(b" gzip"), 501, "9112 6.1"),
    C("TE gzip, chunked", te(b" gzip, chunked"), 501, "9112 6.1"),
    C("TE gzip and TE chunked", post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=HELLO), 400, "6.1"),
    C("TE chunked and TE gzip", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", body=HELLO), 400, "6.3"),
    C("TE identity", te(b" identity"), 501, "9112 7: no longer a coding"),
    C("TE identity, chunked", te(b" identity, chunked"), 501, "9112 6.1; Kettle 2019"),
    C("TE chunked, identity", te(b" chunked, identity"), 400, "9112 6.3 rule 4: chunked is not last; Kettle 2019"),
    C("TE chunked, gzip", te(b" chunked, gzip"), 400, "9112 6.3 rule 4: chunked is not last"),
    C("TE xchunked", te(b" xchunked"), 501, "9112 6.1; Kettle 2019"),
    C("TE chunkedx", te(b" chunkedx"), 501, "9112 6.1"),
    C("TE chunk", te(b" chunk"), 501, "9112 6.1"),
    C("TE cow", te(b" cow"), 501, "9112 6.1; Kettle 2019"),
    C("TE in apostrophes", te(b" 'chunked'"), 501, "9112 6.1: an apostrophe is a tchar"),
    C("TE chunked, chunked", te(b" chunked, chunked"), 400, "9112 6.1: MUST NOT be applied twice"),
    C("TE twice", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=HELLO), 400, "9112 6.1"),
    C("TE twice, one empty", post(b"Transfer-Encoding: chunked", b"Transfer-Encoding:", body=HELLO), 400, "9112 6.1"),
    C("TE empty", te(b""), 400, "9110 10.1.4: transfer-coding"),
    C("TE comma", te(b" ,"), 400, "9110 5.6.1"),
    C("TE with an empty end", te(b" chunked,"), 400, "9110 5.6.1.2 allows it; parsers differ"),
    C("TE with an empty start", te(b" , chunked"), 400, "9110 5.6.1.2 allows it; parsers differ"),
    C("TE quoted", te(b' "chunked"'), 400, "9110 10.1.4: token"),
    C("TE with parameter", te(b" chunked;q=1"), 400, "9112 7.1: has no parameters"),
    C("TE with semicolon", te(b" chunked;"), 400, "9112 7.1"),
    C("TE of two words", te(b" chunked chunked"), 400, "9110 10.1.4"),
    C("TE in brackets", te(b" [chunked]"), 400, "9110 10.1.4"),
    C("TE behind VT", te(b" \x0bchunked"), 400, "9110 5.5; Kettle 2019"),
    C("TE behind VT only", te(b"\x0bchunked"), 400, "9110 5.5; Kettle 2019"),
    C("TE before FF", te(b" chunked\x0c"), 400, "9110 5.5"),
    C("TE before NBSP", te(b" chunked\xa0"), 400, "9110 10.1.4"),
    C("TE with NUL", te(b" chunked\0"), 400, "9110 5.5"),
    C("TE with CR", te(b" chunked\r"), 400, "9110 5.5"),
    C("TE right behind LF", te(b"\nchunked"), 400, "9112 2.2"),
    C("TE with Kelvin sign", te("chun\u212aed".encode()), 400, "9112 7: str.lower() makes a k of it"),
    C("Content-Encoding chunked", post(b"Content-Encoding: chunked"), "ok", "9110 8.4: not framing", {"length": 0}),
    C("TE the field", post(b"TE: chunked"), "ok", "9110 10.1.4: not framing", {"length": 0}),
]

CHUNKS = [
    C("size in capitals", chunks(b"A\r\n0123456789\r\n0\r\n\r\n"), "ok", "9112 7.1", {"body": b"0123456789"}),
    C("size with leading zeros", chunks(b"0005\r\nhello\r\n000\r\n\r\n"), "ok", "7.1: 1*HEXDIG", {"body": b"hello"}),
    C("two chunks", chunks(b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), "ok", "9112 7.1", {"body": b"hello"}),
    C("CRLF in data", chunks(b"4\r\n\r\n\r\n\r\n0\r\n\r\n"), "ok", "9112 7.1", {"body": b"\r\n\r\n"}),
    C("extension", chunks(b"5;a=b;c\r\nhello\r\n0;d\r\n\r\n"), "ok", "9112 7.1.1: ignored", {"body": b"hello"}),
    C("extension quoted", chunks(b'5;a="b;c"\r\nhello\r\n0\r\n\r\n'), "ok", "9112 7.1.1", {"body": b"hello"}),
    C("size 0x5", chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1: int(x, 16) takes it"),
    C("size negative", chunks(b"-5\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("size minus zero", chunks(b"-0\r\n\r\n"), 400, "9112 7.1"),
    C("size with plus", chunks(b"+5\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("size with underscore", chunks(b"0_5\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1: int(x, 16) takes it"),
    C("size behind space", chunks(b" 5\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("size before space", chunks(b"5 \r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1; parsers differ"),
    C("size before tab", chunks(b"5\t\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("size before VT", chunks(b"5\x0b\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1: int() strips it"),
    C("size before junk", chunks(b"5 x\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("size empty", chunks(b"\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("size only extension", chunks(b";a=b\r\n\r\n"), 400, "9112 7.1"),
    C("size not hexadecimal", chunks(b"g\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("size with NUL", chunks(b"5\0\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("size with comma", chunks(b"5,5\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("size of 2^63", chunks(b"8000000000000000\r\nhello"), 400, "9112 7.1: overflow"),
    C("size of 2^64 + 5", chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1: wraps to 5"),
    C("size of 1,000 digits", chunks(b"f" * 1000 + b"\r\nhello"), 400, "9112 7.1: overflow"),
    C("size never ends", chunks(b"0" * 20000 + b"\r\n\r\n"), 400, "9112 7.1: a size line has a limit"),
    C("LF after size", chunks(b"5\nhello\r\n0\r\n\r\n"), 400, "9112 2.2 does not reach chunks; Weikop 2025 TERM"),
    C("CR after size", chunks(b"5\rhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("CR CR LF after size", chunks(b"5\r\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("LF after data", chunks(b"5\r\nhello\n0\r\n\r\n"), 400, "9112 7.1; Weikop 2025 TERM"),
    C("CR after data", chunks(b"5\r\nhello\r0\r\n\r\n"), 400, "9112 7.1"),
    C("nothing after data", chunks(b"5\r\nhello0\r\n\r\n"), 400, "9112 7.1"),
    C("two other bytes after data", chunks(b"5\r\nhelloXX0\r\n\r\n"), 400, "9112 7.1; Weikop 2025 SPILL"),
    C("data longer than size", chunks(b"3\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1; Weikop 2025 SPILL"),
    C("data shorter than size", chunks(b"7\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("CRLF twice after data", chunks(b"5\r\nhello\r\n\r\n0\r\n\r\n"), 400, "9112 7.1"),
    C("LF in extension", chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1.1; Weikop 2025 EXT.TERM"),
    C("LF right after semicolon", chunks(b"5;\nhello\r\n0\r\n\r\n"), 400, "9112 7.1.1; Weikop 2025 TERM.EXT"),
    C("CR in extension", chunks(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1.1; Weikop 2025"),
    C("NUL in extension", chunks(b"5;a\0\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1.1"),
    C("extension of 20 kB", chunks(b"5;" + b"a" * 20000 + b"\r\nhello\r\n0\r\n\r\n"), 400, "9112 7.1.1: limit them"),
    C("extension flood", chunks((b"1;" + b"a" * 200 + b"\r\nx\r\n") * 500 + b"0\r\n\r\n"), 400, "9112 7.1.1; CVE-2023-39326"),
    C("LF ends the last chunk", chunks(b"5\r\nhello\r\n0\n\r\n"), 400, "9112 7.1"),
    C("LF ends the body", chunks(b"5\r\nhello\r\n0\r\n\n"), 400, "9112 7.1"),
    C("CR ends the body", chunks(b"5\r\nhello\r\n0\r\n\r"), 400, "9112 7.1"),
    C("junk ends the body", chunks(b"5\r\nhello\r\n0\r\nXX"), 400, "9112 7.1: a field has a colon"),
]

TRAILERS = [
    C("trailer", chunks(b"0\r\nX: y\r\n\r\n"), "ok", "9112 7.1.2", {"body": b"", "trailers": [(b"x", b"y")]}),
    C("trailer with space before colon", chunks(b"0\r\nX : y\r\n\r\n"), 400, "9112 5.1"),
    C("trailer behind space", chunks(b"0\r\n X: y\r\n\r\n"), 400, "9112 5.2"),
    C("trailer folded", chunks(b"0\r\nX: y\r\n z\r\n\r\n"), 400, "9112 5.2"),
    C("trailer without colon", chunks(b"0\r\nX\r\n\r\n"), 400, "9112 5"),
    C("trailer without name", chunks(b"0\r\n: y\r\n\r\n"), 400, "9110 5.1"),
    C("trailer is a request", chunks(b"0\r\nGET /x HTTP/1.1\r\nHost: b\r\n\r\n"), 400, "9112 5"),
    C("trailer with NUL", chunks(b"0\r\nX: \0\r\n\r\n"), 400, "9110 5.5"),
    C("trailer with LF", chunks(b"0\r\nX: y\nZ: z\r\n\r\n"), 400, "9112 2.2"),
    C("trailer with CR", chunks(b"0\r\nX: y\rZ: z\r\n\r\n"), 400, "9112 2.2"),
    C("trailer ended by LF", chunks(b"0\r\nX: y\n\r\n"), 400, "9112 2.2"),
    C("trailers of 40 kB", chunks(b"0\r\nX: " + b"y" * 40000 + b"\r\n\r\n"), 431, "6585 5"),
    C("trailers without end", chunks(b"0\r\n" + b"X: y\r\n" * 9000), 431, "6585 5"),
    C("101 trailers", chunks(b"0\r\n" + b"X: y\r\n" * 101 + b"\r\n"), 431, "6585 5"),
    C("trailer Content-Length", chunks(b"0\r\nContent-Length: 9\r\n\r\n"), "ok", "6.5.1: dropped", {"trailers": []}),
    C("trailer Transfer-Encoding", chunks(b"0\r\nTransfer-Encoding: x\r\n\r\n"), "ok", "9110 6.5.1", {"trailers": []}),
    C("trailer Host", chunks(b"0\r\nHost: evil\r\n\r\n"), "ok", "9110 6.5.1: dropped", {"trailers": []}),
    C("trailer Connection", chunks(b"0\r\nConnection: close\r\n\r\n"), "ok", "9110 7.6.1: dropped", {"trailers": []}),
]

CONNECTION = [
    C("Connection names TE", post(b"Connection: Transfer-Encoding", b"Transfer-Encoding: chunked", body=HELLO),
      "ok", "9110 7.6.1; Davison 2019", {"length": -1, "body": b"hello"}),
    C("Connection names CL", post(b"Connection: Content-Length", b"Content-Length: 5", body=b"hello"),
      "ok", "9110 7.6.1; Davison 2019", {"length": 5, "body": b"hello"}),
    C("Connection names Host", fields(b"Connection: Host", b"Host: a"), "ok", "Davison 2019", {"host": b"a"}),
    C("Connection names a field", line(b"GET / HTTP/1.1", b"X: y", b"connection: x", b"Z: z"),
      "ok", "9110 7.6.1: removed wherever it stands", {"lacks": [b"x", b"connection"], "has": [b"z"]}),
    C("Connection in two fields", line(b"GET / HTTP/1.1", b"Connection: X", b"X: y", b"Connection: close,Y", b"Y: y"),
      "ok", "9110 7.6.1", {"lacks": [b"x", b"y"], "keep_alive": False}),
    C("hop-by-hop fields", line(b"GET / HTTP/1.1", b"Keep-Alive: 5", b"Proxy-Connection: x", b"TE: gzip", b"X: 1"),
      "ok", "9110 7.6.1", {"lacks": [b"keep-alive", b"proxy-connection", b"te"], "has": [b"x"], "te_trailers": False}),
    C("close", line(b"GET / HTTP/1.1", b"Connection: keep-alive, Close"), "ok", "9112 9.6", {"keep_alive": False}),
    C("keep-alive on 1.1", line(b"GET / HTTP/1.1"), "ok", "9112 9.3", {"keep_alive": True}),
    C("keep-alive on 1.0", line(b"GET / HTTP/1.0", b"Connection: keep-alive"), "ok", "9112 9.3", {"keep_alive": True}),
    C("closer is not close", line(b"GET / HTTP/1.1", b"Connection: closer"), "ok", "9110 7.6.1", {"keep_alive": True}),
    C("Upgrade that Connection does not name", line(b"GET / HTTP/1.1", b"Upgrade: websocket", b"X: y"),
      "ok", "9110 7.8", {"upgrade": b"", "lacks": [b"upgrade"], "has": [b"x"]}),
    C("Upgrade that Connection names", line(b"GET / HTTP/1.1", b"Upgrade: websocket", b"Connection: x, Upgrade"),
      "ok", "9110 7.8", {"upgrade": b"websocket", "lacks": [b"upgrade"]}),
    C("TE trailers", line(b"GET / HTTP/1.1", b"TE: deflate, Trailers", b"Connection: TE"),
      "ok", "9110 10.1.4", {"te_trailers": True, "lacks": [b"te"]}),
    C("Expect unknown", line(b"GET / HTTP/1.1", b"Expect: a-pony"), 417, "9110 10.1.1"),
    C("Expect more than one", post(b"Expect: 100-continue, a-pony", b"Content-Length: 5", body=b"hello"), 417, "10.1"),
    C("Expect 100-continuex", post(b"Expect: 100-continuex", b"Content-Length: 5", body=b"hello"), 417, "9110 10.1.1"),
    C("Expect in capitals", post(b"Expect: 100-CONTINUE", b"Content-Length: 5", body=b"hello"),
      "ok", "9110 10.1.1: case-insensitive", {"expect_continue": True, "body": b"hello"}),
    C("Expect on 1.0", b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
      "ok", "9110 10.1.1: MUST be ignored", {"expect_continue": False, "body": b"hello"}),
]

LIMITS = [
    C("URI of 8 KiB", target(b"/" + b"a" * 8191), "ok", "9112 3: 8,000 at least", {}),
    C("URI over 8 KiB", target(b"/" + b"a" * 8192), 414, "9110 15.5.15"),
    C("URI over 8 KiB, absolute-form", target(b"http://b/" + b"a" * 8192), 414, "9110 15.5.15"),
    C("URI larger than a head", target(b"/" + b"a" * 40000), 414, "9112 3: MUST 414"),
    C("URI without end", b"GET /" + b"a" * 40000, 414, "9112 3: MUST 414"),
    C("field of 40 kB", line(b"GET / HTTP/1.1", b"X: " + b"a" * 40000), 431, "6585 5"),
    C("field name of 40 kB", line(b"GET / HTTP/1.1", b"X" * 40000 + b": a"), 431, "6585 5"),
    C("fields of 40 kB together", line(b"GET / HTTP/1.1", *[b"X: " + b"a" * 800] * 50), 431, "6585 5"),
    C("field without end", b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40000, 431, "6585 5"),
    C("100 fields", line(b"GET / HTTP/1.1", *MANY_FIELDS[:99]), "ok", "our rule", {"has": [b"x-98"]}),
    C("101 fields", line(b"GET / HTTP/1.1", *MANY_FIELDS), 431, "6585 5; our rule"),
    C("fields without end", b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 9000, 431, "6585 5"),
]

REQUESTS: list[RequestCase] = [
    *REQUEST_LINE, *TARGET, *FIELDS, *HOST, *LENGTH, *TRANSFER_ENCODING, *CHUNKS, *TRAILERS, *CONNECTION, *LIMITS,
]
