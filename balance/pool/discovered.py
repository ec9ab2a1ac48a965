"""Backends that come and go while Balance runs.

Rule of this file: a discovery says what there is now, always all of it; what is new and what is gone is worked out
here. A backend that stays keeps its state. One that goes is offered no more work; what it has under way ends in its own
time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from balance.model import Discovered
from balance.pool.backend import Backend


class Group:
    """What one discovery has found.

    :param make: a backend of that name from what was found
    :param opened: told of a new backend, before anybody is offered it
    :param closed: told of one that is gone, and has nothing under way any more
    """

    def __init__(
        self,
        name: str,
        make: Callable[[str, Discovered], Backend],
        opened: Callable[[Backend], None],
        closed: Callable[[Backend], None],
    ) -> None:
        self.name = name
        self._make = make
        self._opened = opened
        self._closed = closed
        self._present: dict[Discovered, Backend] = {}
        self._leaving: list[Backend] = []
        self._listeners: list[Callable[[], None]] = []

    @property
    def backends(self) -> tuple[Backend, ...]:
        """What there is now."""
        return tuple(self._present.values())

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call this whenever `backends` has changed."""
        self._listeners.append(changed)

    def found(self, given: Iterable[Discovered]) -> None:
        """This is what there is now. Whatever is raised: nothing has changed.

        :raises ValueError: two have the same name
        """
        wanted = list(dict.fromkeys(given))
        names = [each.name for each in wanted]
        if len(set(names)) < len(names):
            raise ValueError(f"discovery {self.name}: two backends of the same name")
        before = self._present
        new = self._open([each for each in wanted if each not in before])
        present = self._present = {each: before.get(each) or new[each] for each in wanted}
        self._leaving += [backend for each, backend in before.items() if each not in present]
        if list(before) != list(present):
            for changed in self._listeners:
                changed()
        self.tidy()

    def _open(self, wanted: Iterable[Discovered]) -> dict[Discovered, Backend]:
        """All of them, or none: certificates for one may be unusable now."""
        new: dict[Discovered, Backend] = {}
        try:
            for each in wanted:
                backend = self._make(f"{self.name}/{each.name}", each)
                self._opened(backend)
                new[each] = backend
        except Exception:
            for backend in new.values():
                self._closed(backend)
            raise
        return new

    def tidy(self) -> None:
        """Forget those that are gone, as soon as they have nothing under way."""
        for backend in [each for each in self._leaving if not each.active]:
            self._leaving.remove(backend)
            self._closed(backend)
