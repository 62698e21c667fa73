"""Receives the webhook of Prometheus Alertmanager and posts an event for each alert: Type `alerts`, Action `firing` or
`resolved`, Key the alert's fingerprint, Object the alert as Alertmanager sends it.

usage: alertmanager.py [PORT]    listens on 127.0.0.1:PORT (9095)

HYDRANT is the server's URL, HYDRANT_USER and HYDRANT_PASSWORD a user with the claim `events/post`, HYDRANT_CA a file
with the CA of its certificate. Alertmanager retries on 5xx, so the answer is 502 when hydrant does not accept the
events.
"""

import base64
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

URL = os.environ.get("HYDRANT", "https://127.0.0.1:8092") + "/api/v3/events"
LOGIN = f"{os.environ['HYDRANT_USER']}:{os.environ['HYDRANT_PASSWORD']}".encode()
TLS = ssl.create_default_context(cafile=os.environ.get("HYDRANT_CA"))


def events(notification):
    for alert in notification["alerts"]:
        yield {"Type": "alerts", "Action": alert["status"], "Key": alert["fingerprint"], "Object": alert}


def post(body):
    headers = {"Content-Type": "application/json", "Authorization": "Basic " + base64.b64encode(LOGIN).decode()}
    urllib.request.urlopen(urllib.request.Request(URL, body, headers), timeout=10, context=TLS).close()


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self):
        notification = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            post(json.dumps(list(events(notification))).encode())
            self.send_response(200)
        except (urllib.error.URLError, TimeoutError) as error:
            print(f"hydrant: {error}", file=sys.stderr)
            self.send_response(502)
        self.end_headers()

    def log_message(self, format, *arguments):
        """Nothing: Alertmanager has its own log."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9095), Webhook).serve_forever()
