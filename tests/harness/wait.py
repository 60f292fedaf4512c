# SPDX-License-Identifier: Apache-2.0
"""Waiting for an event with a deadline; the only place of the tests that polls."""
import time

# Sanitizers and two shared cores make everything slow; an event that does not come costs a
# failing test this long, one that comes costs nothing.
DEADLINE_S = 30.0


class Timeout(AssertionError):
    pass


def wait_for(predicate, deadline_s=DEADLINE_S, what=None, every_s=0.02):
    """The first true value of predicate(). Exceptions OSError count as "not yet"."""
    end = time.monotonic() + deadline_s
    last = None
    while True:
        try:
            value = predicate()
            if value:
                return value
            last = value
        except OSError as err:
            last = err
        if time.monotonic() > end:
            name = what or getattr(predicate, "__name__", "event")
            raise Timeout(f"{name}: not within {deadline_s:g} s (last: {last!r})")
        time.sleep(every_s)
