"""Buffers that are freed are used again, without a detour through the kernel."""

from __future__ import annotations

import platform
import subprocess
import sys
from unittest import skipUnless

from twisted.trial.unittest import SynchronousTestCase

_SCRIPT = """
import resource, sys
from balance.net.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for turn in range(2):
    before = faults()
    for _ in range(50):
        [b"x" * (200 * 1024 + each) for each in range(8)]  # as eight connections do in one turn
print(faults() - before)
"""


class KeptMemory(SynchronousTestCase):
    """Page faults of large buffers that come and go."""

    @skipUnless(platform.libc_ver()[0] == "glibc", "another C library")
    def test_large_buffers_cost_no_page_faults(self) -> None:
        def faults(how: str) -> int:
            command = [sys.executable, "-c", _SCRIPT, how]
            return int(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)

        self.assertLess(faults("kept") * 20, faults("as it is"))
