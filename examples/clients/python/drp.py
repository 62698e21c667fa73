"""What both clients need to reach a DRP endpoint or hydrant: the variables of drpcli, and how to print."""

import base64
import os
import ssl
import sys

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
