"""How many files and sockets this process may have open.

Rule of this file: it asks for what the process is allowed anyway, and changes nothing else.
"""

from __future__ import annotations

import contextlib

try:
    import resource
except ImportError:  # not Unix
    resource = None  # type: ignore[assignment]


def use_all_descriptors() -> int:
    """Raise the soft limit, often 1024 for the sake of select(2), to the hard one.

    :returns: the limit that holds now; 0 where there is none to be known
    """
    if resource is None:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
