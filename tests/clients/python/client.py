"""A client with permessage-deflate, for tests/wire/clients.rs, which says what it has to do."""

import sys

from websockets.sync.client import connect

url, count = sys.argv[1], int(sys.argv[2])
with connect(url, compression="deflate") as socket:
    print(socket.response.headers["Sec-WebSocket-Extensions"], flush=True)
    for spec in ["*.*.*", "a.b." + "c" * 3000]:
        socket.send(f"register {spec}")
        print(socket.recv(), flush=True)
    for _ in range(count):
        print(socket.recv(), flush=True)
