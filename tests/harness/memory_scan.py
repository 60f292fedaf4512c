# SPDX-License-Identifier: Apache-2.0
"""Looks for octets in the writable memory of a running process (proc(5), /proc/PID/mem)."""
import re

SHADOW_BYTES = 256 << 20  # larger mappings are a sanitizer's own


def occurrences(pid, needle):
    """[(address, mapping's name)] of each place where `needle` lies."""
    found = []
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps, \
            open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+\s*(.*)", line)
            start, end = int(match[1], 16), int(match[2], 16)
            if not match[3].startswith("rw") or end - start > SHADOW_BYTES:
                continue
            at = start
            tail = b""
            while at < end:
                try:
                    memory.seek(at)
                    block = memory.read(min(1 << 20, end - at))
                except (OSError, ValueError, OverflowError):
                    break  # a guard page
                if not block:
                    break
                text = tail + block
                position = text.find(needle)
                while position >= 0:
                    found.append((at - len(tail) + position, match[4]))
                    position = text.find(needle, position + 1)
                tail = text[-(len(needle) - 1):]
                at += len(block)
    return found
