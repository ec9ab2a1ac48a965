"""So much of something in each turn of the reactor, so that what else there is to do gets its turn as well.

Rule of this file: who is refused does nothing, and comes again in the next turn by itself: a socket that is not read
stays ready.
"""

from __future__ import annotations

from balance.net.turn import Turn


class Ration:
    """
    :param each: how much there is in a turn
    """

    __slots__ = ("_left", "_turn", "each")

    def __init__(self, turn: Turn, each: int) -> None:
        self.each = each
        self._turn = turn
        self._left = each

    def take(self) -> bool:
        """Take one; whether there was one left in this turn."""
        left = self._left
        if not left:
            return False
        if left == self.each:
            self._turn.at_end(self._renew)
        self._left = left - 1
        return True

    def _renew(self) -> None:
        self._left = self.each
