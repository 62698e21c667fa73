"""Prints events from hydrant as they happen, and none is missing after a reconnect: python3 stream.py SPEC...

Reads Server-Sent Events with Python's own library. A DRP endpoint does not offer them.
"""

import http.client
import json
import random
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from drp import ENDPOINT, FINAL, Events, authorization, tls

# After so many seconds without a line a connection counts as lost. The server sends one every 25 s.
SILENCE = 90


def messages(lines):
    """Yields the fields of each message; an empty line ends one. A line that begins with a colon is a comment."""
    fields = {}
    for line in lines:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
        elif fields:
            yield fields
            fields = {}


def run(position: str) -> str:
    """A position is EPOCH:SEQUENCE, and an EPOCH is one run of one server."""
    return position.partition(":")[0]


def answer(url: str, events: Events, position: dict):
    headers = {"Authorization": authorization(), "Accept": "text/event-stream", **position}
    whole = f"{url}&{urllib.parse.urlencode(events.since())}"
    return urllib.request.urlopen(urllib.request.Request(whole, headers=headers), timeout=SILENCE, context=tls())


def follow(url: str, events: Events, position: dict) -> str:
    """One connection: prints until it is lost, and returns why. Keeps the position of the last event."""
    lines = answer(url, events, position)
    if position and run(position["Last-Event-ID"]) != run(lines.headers["X-Hydrant-Sequence"]):
        # Another node, or it was restarted: it sends all that it keeps. Ask by time instead.
        lines.close()
        position.clear()
        lines = answer(url, events, position)
    events.connected(lines.headers["Date"])
    same = run(position.get("Last-Event-ID", ""))
    with lines:
        for message in messages(lines):
            data, kind = message.get("data"), message.get("event")
            if kind == "close":
                close = json.loads(data)
                if close["Code"] in FINAL:
                    sys.exit(f"closed: {close['Code']} {close['Reason']}")
                return close["Reason"]
            if data and kind is None:
                # What the same run numbers after the position has not come before.
                events.take(data, surely_new=same != "" and run(message.get("id", "")) == same)
                if "id" in message:
                    position["Last-Event-ID"] = message["id"]
    return "the connection was lost"


def main(specs: list[str]) -> None:
    url = f"{ENDPOINT}/api/v3/events?" + urllib.parse.urlencode([("register", spec) for spec in specs])
    events, position, failures = Events(), {}, 0
    while True:
        started = time.monotonic()
        try:
            error = follow(url, events, position)
        except urllib.error.HTTPError as refused:
            if 400 <= refused.code < 500 and refused.code not in (408, 429):
                sys.exit(f"refused: {refused.code} {refused.read().decode(errors='replace')}")
            error = f"refused: {refused.code}"
        except (OSError, http.client.HTTPException) as failed:
            error = str(failed) or type(failed).__name__
        if time.monotonic() - started > 10:
            failures = 0
        wait = random.uniform(0, min(30, 0.5 * 2**failures))
        failures = min(failures + 1, 16)
        print(f"{error}; retrying in {wait:.1f} s", file=sys.stderr)
        time.sleep(wait)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: stream.py SPEC...   such as 'machines.update.*'")
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        pass
