"""A client by one of Python's libraries; tests/clients/README.md says what it does.

usage: talk.py websockets|websocket-client|lomond|ws4py URL
"""

import importlib.metadata
import ssl
import sys
import threading

LIBRARY, URL = sys.argv[1:]


def say(*words):
    print(*words, flush=True)


def context():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context if URL.startswith("wss:") else None


def lines(send, close):
    """Sends what comes on standard input, in a thread of its own."""

    def run():
        for line in sys.stdin:
            line = line.rstrip("\n")
            close() if line == "CLOSE" else send(line)

    threading.Thread(target=run, daemon=True).start()


def websockets():
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with connect(URL, ssl=context(), compression="deflate") as socket:
        say("open", socket.response.headers.get("Sec-WebSocket-Extensions", ""))
        lines(socket.send, socket.close)
        try:
            while True:
                say("<", socket.recv())
        except ConnectionClosed as closed:
            said = closed.rcvd
            say("close", said.code if said else 1006, said.reason if said else "")


def websocket_client():
    import websocket

    def on_open(socket):
        say("open", "")
        lines(socket.send, lambda: socket.close(status=1000))

    app = websocket.WebSocketApp(
        URL,
        on_open=on_open,
        on_message=lambda _, message: say("<", message),
        # After a close of its own the library does not read the server's.
        on_close=lambda _, code, reason: say("close", code or 1000, reason or ""),
        on_error=lambda _, error: print(error, file=sys.stderr),
    )
    app.run_forever(sslopt={"cert_reqs": ssl.CERT_NONE, "check_hostname": False})


def lomond():
    import lomond.session
    from lomond import WebSocket

    class Session(lomond.session.WebsocketSession):
        """The library checks certificates, and its way around that is gone from Python 3.12."""

        def _wrap_socket(self, sock, host):
            return context().wrap_socket(sock, server_hostname=host)

    socket = WebSocket(URL, compress=True)
    close = (1006, "")
    for event in socket.connect(session_class=Session, ping_rate=0):
        if event.name == "ready":
            say("open", event.response.get("sec-websocket-extensions") or "")
            lines(socket.send_text, lambda: socket.close(1000, ""))
        elif event.name == "text":
            say("<", event.text)
        elif event.name in ("closing", "closed"):
            close = (event.code, event.reason or "")
        elif event.name in ("rejected", "connect_fail", "protocol_error"):
            print(event, file=sys.stderr)
    say("close", *close)


def ws4py():
    from ws4py.client.threadedclient import WebSocketClient

    class Client(WebSocketClient):
        def opened(self):
            say("open", "")
            lines(self.send, lambda: self.close(1000))

        def received_message(self, message):
            say("<", message)

        def closed(self, code, reason=None):
            said = reason.decode() if isinstance(reason, bytes) else reason
            say("close", code, said or "")

    client = Client(URL)
    client.connect()
    client.run_forever()


say("hello", LIBRARY, importlib.metadata.version(LIBRARY))
{"websockets": websockets, "websocket-client": websocket_client, "lomond": lomond, "ws4py": ws4py}[LIBRARY]()
