"""Prints events from hydrant (or a DRP endpoint) as they happen: python3 watch.py SPEC...

After a lost connection hydrant sends what happened meanwhile; a DRP endpoint does not.
"""

import asyncio
import json
import random
import sys
from urllib.parse import urlencode

from drp import ENDPOINT, FINAL, Events, authorization, tls
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


# Seconds between two pings; a connection without an answer for as long is lost.
PING = 45


async def watch(url: str, specs: list[str], events: Events) -> None:
    """One connection: registers, then prints until it is lost."""
    options = {"additional_headers": {"Authorization": authorization()}, "ping_interval": PING, "ping_timeout": PING}
    # Events can be large (16 MiB by default).
    async with connect(f"{url}?{urlencode(events.since())}", ssl=tls(), max_size=64 << 20, **options) as socket:
        events.connected(socket.response.headers.get("Date"))
        for spec in specs:
            await socket.send(f"register {spec}")
        answers = 0
        async for frame in socket:
            event = json.loads(frame)
            if event["Type"] != "websocket":
                events.take(frame)
                continue
            answers += 1
            if event["Action"] == "error":
                sys.exit(f"{event['Key']}: {'; '.join(event['Object']['Messages'])}")
            if answers == len(specs):
                print("registered; now is the time to read the present state", file=sys.stderr)


async def main(specs: list[str]) -> None:
    url = "ws" + ENDPOINT.removeprefix("http") + "/api/v3/ws"
    failures, events = 0, Events()
    while True:
        started = asyncio.get_running_loop().time()
        try:
            await watch(url, specs, events)
            error = "closed by the server"  # 1000 and 1001 end the loop over frames without an exception
        except ConnectionClosed as closed:
            if closed.rcvd and closed.rcvd.code in FINAL:
                sys.exit(f"closed: {closed.rcvd.code} {closed.rcvd.reason}")
            error = str(closed)
        except InvalidStatus as refused:
            status = refused.response.status_code
            if 400 <= status < 500 and status not in (408, 429):
                sys.exit(f"refused: {status} {(refused.response.body or b'').decode(errors='replace')}")
            error = f"refused: {status}"
        except (OSError, TimeoutError) as failed:
            error = str(failed)
        if asyncio.get_running_loop().time() - started > 10:
            failures = 0
        wait = random.uniform(0, min(30, 0.5 * 2**failures))
        failures = min(failures + 1, 16)
        print(f"{error}; retrying in {wait:.1f} s", file=sys.stderr)
        await asyncio.sleep(wait)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: watch.py SPEC...   such as 'machines.update.*'")
    try:
        asyncio.run(main(sys.argv[1:]))
    except KeyboardInterrupt:
        pass
