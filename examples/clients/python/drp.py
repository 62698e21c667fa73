"""What both clients need: the variables of drpcli, how to print, and how to go on after a lost connection."""

import base64
import json
import os
import ssl
import sys
from collections import Counter, deque
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

ENDPOINT = os.environ.get("RS_ENDPOINT", "https://127.0.0.1:8092").rstrip("/")

# Close codes after which trying again would not help: docs/protocol.md, section 8.
FINAL = {1002, 1003, 1007, 1008, 1009}


def authorization() -> str:
    if token := os.environ.get("RS_TOKEN"):
        return f"Bearer {token}"
    key = os.environ.get("RS_KEY", "rocketskates:r0cketsk8ts")
    return "Basic " + base64.b64encode(key.encode()).decode()


def tls() -> ssl.SSLContext | None:
    if not ENDPOINT.startswith("https:"):
        return None
    context = ssl.create_default_context(cafile=os.environ.get("RS_CACERT"))
    if "RS_CACERT" not in os.environ:  # as drpcli does: DRP endpoints sign their own certificates
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def show(event: str) -> None:
    try:
        print(event, flush=True)
    except BrokenPipeError:  # nobody reads on, as in `watch.py ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        sys.exit(0)


class Events:
    """What was shown, so that the next connection goes on where the last one ended, also if another node answers.

    A later connection asks for a few seconds more than it needs, because another node has another order and another
    clock; what comes again is not shown again. The first connection has only what happens from then on; a later one may
    have a few events that are older.
    """

    OVERLAP = timedelta(seconds=5)
    AHEAD = timedelta(minutes=4)
    KNOWN = 65536
    EPOCH = datetime.fromtimestamp(0, timezone.utc)

    def __init__(self):
        self.began = self.last = None
        self.shown = deque(maxlen=self.KNOWN)
        self.old = Counter()

    def connected(self, date: str | None) -> None:
        """`date` is the header of the server's answer."""
        self.began = self.began or (parsedate_to_datetime(date) if date else datetime.now(timezone.utc))
        self.old = Counter(self.shown)

    def since(self) -> dict:
        if self.began is None:
            return {}
        return {"since": (max(self.began, self.last or self.began) - self.OVERLAP).isoformat()}

    def take(self, text: str, surely_new: bool = False) -> None:
        key = hash(text)
        if self.old[key] > 0 and not surely_new:
            self.old[key] -= 1
            return
        self.shown.append(key)
        self.note(json.loads(text).get("Time", ""))
        show(text)

    def note(self, time: str) -> None:
        """Keeps the time of an event, unless no clock can have it."""
        try:
            at = datetime.strptime(time[:19] + time[-1:], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        except ValueError:
            return
        now = datetime.now(timezone.utc)
        if self.EPOCH < at < now + self.AHEAD:
            self.last = min(at, now)
