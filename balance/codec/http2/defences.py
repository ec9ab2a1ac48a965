"""What a peer may cost us before it is told to calm down (RFC 9113, section 10.5).

Rule of this file: budgets and counts only, the same for every session. Who spends is the session, and only for what
the *peer* did or provoked. Time is an argument. Passing a limit raises `ConnectionFault`, whose ``defence`` is the name
under which it is configured, counted and logged.

    resets          RST_STREAM of a client (rapid reset, CVE-2023-44487), resets that it provokes by breaking a rule of
                    a stream (MadeYouReset, CVE-2025-8671), streams refused above ``max_streams``
    control         frames that cost work and move nothing: SETTINGS, PRIORITY, unknown types, DATA without data,
                    frames of closed streams, 1xx responses, and WINDOW_UPDATE and PING that were not earned
    continuations   CONTINUATION frames of one block (CVE-2024-27316)
    header_list     a head that unpacks to more than ``header_list_size`` (HPACK bomb, CVE-2016-6581)
    settings        our SETTINGS, and so our limits, were not acknowledged within ``settings_timeout``

A receiver answers DATA with WINDOW_UPDATE, so what we send earns it credit for these: two frames for each of ours (one
for the stream, one for the connection), and more for large ones, as it may give back what each segment of TCP brings.
DATA that was cut small because the window was small earns by its size only: a window opened byte by byte
(CVE-2019-9511) is not earned. Credit is earned by opening streams as well: browsers widen each new stream's window.
PING spends the same credit: gRPC's Go implementation sends one for each round trip in which data came, to measure it.
"""

from __future__ import annotations

from typing import Final

from balance.codec.http2.session import Code, SessionOptions

RESETS: Final = "resets"
CONTROL: Final = "control"
CONTINUATIONS: Final = "continuations"
HEADER_LIST: Final = "header_list"
SETTINGS: Final = "settings"

#: WINDOW_UPDATE and PING frames that a frame of ours, or a new stream, earns; and what so many bytes of DATA earn, as a
#: shift.
EARNED: Final = 2
EARNED_SHIFT: Final = 8
#: No peer is further behind than its window is large; 256 bytes each of 16 MiB.
CREDIT_MAX: Final = 1 << 16
#: Values in one SETTINGS frame. There are eight that anybody knows.
SETTINGS_MAX: Final = 32


class ConnectionFault(Exception):
    """The connection has to end (RFC 9113, section 5.4.1): what `SessionEnded` then says."""

    def __init__(self, code: int, reason: str, defence: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.defence = defence


class Budget:
    """A token bucket: ``burst`` at once, and ``rate`` a second in the long run."""

    __slots__ = ("_burst", "_last", "_rate", "left")

    def __init__(self, burst: int, rate: float) -> None:
        self._burst = float(burst)
        self._rate = rate
        self._last = 0.0
        self.left = float(burst)

    def spend(self, now: float) -> bool:
        """Take one.

        :param now: seconds, never less than before
        :returns: there was one
        """
        left = self.left + (now - self._last) * self._rate
        if left > self._burst:
            left = self._burst
        self._last = now
        if left < 1.0:
            self.left = left
            return False
        self.left = left - 1.0
        return True


class Defences:
    """The budgets of one connection.

    ``now`` is set by the session whenever bytes arrive. ``credit`` is raised when it sends; a session in a hurry may do
    itself what `earn` does.
    """

    __slots__ = ("_continuations", "_control", "_resets", "credit", "now")

    def __init__(self, options: SessionOptions) -> None:
        self._resets = Budget(options.reset_burst, options.reset_rate)
        self._control = Budget(options.control_burst, options.control_rate)
        self._continuations = options.continuations
        self.credit = 0
        self.now = 0.0

    def reset(self) -> None:
        """The peer reset a stream, or provoked a reset.

        :raises ConnectionFault: too often
        """
        if not self._resets.spend(self.now):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many resets", RESETS)

    def control(self) -> None:
        """A frame that moves nothing.

        :raises ConnectionFault: too often
        """
        if not self._control.spend(self.now):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many control frames", CONTROL)

    def settings(self, count: int) -> None:
        """A SETTINGS frame with that many values, each of which may cost a walk over all streams.

        :raises ConnectionFault: too often, or too many (nghttp2 has the same limit)
        """
        if count > SETTINGS_MAX:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many settings in one frame", CONTROL)
        self.control()

    def answer(self) -> None:
        """WINDOW_UPDATE or PING: free while it is earned.

        :raises ConnectionFault: too often
        """
        credit = self.credit
        if credit > 0:
            self.credit = (credit if credit < CREDIT_MAX else CREDIT_MAX) - 1
        else:
            self.control()

    def earn(self, size: int, cut: bool) -> None:
        """A DATA frame was sent.

        :param cut: the window, and not the end of what there was to send, decided how large it is
        """
        self.credit += (size >> EARNED_SHIFT) + (0 if cut else EARNED)

    def continuation(self, count: int) -> None:
        """The ``count``-th CONTINUATION frame of a block.

        :raises ConnectionFault: one too many
        """
        if count > self._continuations:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many CONTINUATION frames", CONTINUATIONS)


def oversized_head() -> ConnectionFault:
    """The fault of a header block that unpacks to more than ``header_list_size``."""
    return ConnectionFault(Code.ENHANCE_YOUR_CALM, "the header list is larger than allowed", HEADER_LIST)


def unacknowledged() -> ConnectionFault:
    """The fault of a peer that does not acknowledge our SETTINGS (RFC 9113, section 6.5.3)."""
    return ConnectionFault(Code.SETTINGS_TIMEOUT, "our SETTINGS were not acknowledged in time", SETTINGS)
