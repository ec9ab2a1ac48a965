"""Autobahn's test suite as a client: a WebSocket server directly, and through Balance.

    python -m test.autobahn                 # all cases: hours, as 228 of them send a thousand messages each
    python -m test.autobahn --messages 20   # all cases, with fewer messages: minutes
    python -m test.autobahn --quick         # those that take no time

Rule of this package: the cases are Autobahn's own, unchanged, from the package `autobahntestsuite`. That is written for
Python 2; `test.autobahn.cases` reads it in Python 3, and `test.autobahn.client` is the client it expects.
"""
