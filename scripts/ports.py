#!/usr/bin/env python3
"""Free ports, for programs that have to be told one. The kernel gives none below 32,768 to whoever asks for any, so
nobody else gets them by chance before they are used.

usage: scripts/ports.py COUNT    prints so many, side by side
"""

import random
import socket
import sys


def free(count):
    """So many ports side by side that are free at every address."""
    while True:
        first = random.randrange(10_000, 30_000)
        ports = range(first, first + count)
        if all(is_free(port) for port in ports):
            return ports


def is_free(port):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(*free(int(sys.argv[1])))
