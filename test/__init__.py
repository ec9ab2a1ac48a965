"""Tests. A machine that is busy must not make one fail: no property test has a time limit of its own."""

from hypothesis import settings

settings.register_profile("balance", deadline=None)
settings.load_profile("balance")
