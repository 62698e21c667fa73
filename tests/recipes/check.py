"""Runs the recipes of examples/pipelines against a live hydrant, each as far as its program can be had.

usage: check.py HYDRANT    HYDRANT: the program; run by `make recipes`

Vector and Fluent Bit are in no package registry: of Vector's recipe the command of its source is run, and both get a
body sent as their sinks are set to. Alertmanager is Debian's, with the receiver as it stands.
"""

import base64
import gzip
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
sys.path.insert(0, os.path.join(ROOT, "scripts"))
sys.dont_write_bytecode = True
import ports  # noqa: E402

HYDRANT = os.path.abspath(sys.argv[1])
RECIPES = os.path.join(ROOT, "examples", "pipelines")
USER, PASSWORD = "pipeline", "a long password"
# Longer than anything here takes on a busy machine.
PATIENCE_SECONDS = 60


def patiently(what, attempt):
    """Tries until it returns something."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if done := attempt():
                return done
        except (OSError, urllib.error.URLError):
            pass
        assert time.monotonic() < end, what
        time.sleep(0.1)


class Bench:
    """A hydrant with a simulated fleet and a user for pipelines, and what else has been started."""

    def __init__(self, folder):
        self.folder, self.running = folder, []
        self.data = os.path.join(folder, "data")
        self.cli("roles", "set", "pipeline", "--claim", "events/post/*", "--claim", "*/get,list/*")
        self.cli("users", "add", USER, "--roles", "pipeline", "--password-stdin", text=PASSWORD)
        port, metrics = ports.free(2)
        self.url, probe = f"https://127.0.0.1:{port}", f"127.0.0.1:{metrics}"
        self.start(HYDRANT, "serve", "--demo", "--listen", f"127.0.0.1:{port}", "--metrics-listen",
            probe, "--data-dir", self.data)
        patiently("hydrant is ready", lambda: subprocess.run([HYDRANT, "health", "--ready", probe],
            capture_output=True).returncode == 0)
        self.ca = os.path.join(self.data, "tls-cert.pem")
        self.environment = {**os.environ, "HYDRANT": self.url, "HYDRANT_USER": USER, "HYDRANT_PASSWORD": PASSWORD,
            "HYDRANT_CA": self.ca}

    def cli(self, *arguments, text=""):
        subprocess.run([HYDRANT, *arguments, "--data-dir", self.data], input=text, text=True,
            check=True, capture_output=True)

    def start(self, *command, **options):
        self.running.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True,
            **{"stderr": subprocess.DEVNULL, **options}))
        return self.running[-1]

    def end(self):
        for program in reversed(self.running):
            program.kill()
            program.wait()

    def watch(self, registration, count):
        """The events of a watch, which ends by itself; it has registered before this returns."""
        command = [HYDRANT, "watch", "--count", str(count), "--timeout", f"{PATIENCE_SECONDS}s", "--cacert", self.ca]
        command += ["--endpoint", self.url, "-U", USER, "-P", PASSWORD, registration]
        watch = self.start(*command, stderr=subprocess.PIPE)
        # Before it come warnings, such as that nothing has had this type so far.
        assert any("connected" in line for line in watch.stderr), f"{registration}: not connected"
        return (json.loads(line) for line in watch.stdout)

    def ask(self, path, body=None, headers=None):
        login = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(self.url + path, body, {"Authorization": login, **(headers or {})})
        with urllib.request.urlopen(request, timeout=10, context=ssl.create_default_context(cafile=self.ca)) as answer:
            assert body is None or answer.status == 204, answer.status
            return answer.read().decode()


def read(name):
    with open(os.path.join(RECIPES, name), encoding="utf-8") as file:
        return file.read()


def vector(bench):
    recipe = tomllib.loads(read("vector.toml"))
    netrc = os.path.join(bench.folder, "netrc")
    with open(netrc, "w", encoding="utf-8") as file:
        file.write(f'machine 127.0.0.1 login {USER} password "{PASSWORD}"\n')
    ours = {"${HYDRANT}": bench.url, "/etc/hydrant/ca.pem": bench.ca, "/etc/hydrant/netrc": netrc}
    command = [re.sub("|".join(map(re.escape, ours)), lambda found: ours[found[0]], word)
        for word in recipe["sources"]["events"]["command"]]
    stream = bench.start(*command)
    lines = (line for line in stream.stdout if line.strip())
    assert all(json.loads(next(lines))["Type"] == "machines" for _ in range(3))

    sink = recipe["sinks"]["hydrant"]
    assert (sink["framing"]["method"], sink["compression"], sink["encoding"]["codec"]) == (
        "newline_delimited", "gzip", "json")
    lines = ({"Type": "log", "Action": "line", "Key": "host", "Object": {"number": n}} for n in range(3))
    body = "".join(json.dumps(line) + "\n" for line in lines)
    seen = bench.watch("log.line.host", 3)
    headers = {**sink["request"]["headers"], "Content-Encoding": "gzip"}
    bench.ask(sink["uri"].removeprefix("${HYDRANT}"), gzip.compress(body.encode()), headers)
    assert [event["Object"]["number"] for event in seen] == [0, 1, 2]


def fluent_bit(bench):
    recipe = read("fluent-bit.yaml")
    setting = {name: re.search(rf"^ *{name}: (.*)$", recipe, re.M)[1] for name in ("uri", "compress")}
    assert setting["compress"] == "gzip" and re.search(r"^ +format: json$", recipe.partition("outputs:")[2], re.M)
    # Whatever its format is, Fluent Bit calls it application/json.
    body = json.dumps([{"Object": {"number": n}, "Type": "log", "Action": "line", "Key": "bit"} for n in range(2)])
    seen = bench.watch("log.line.bit", 2)
    bench.ask(setting["uri"], gzip.compress(body.encode()),
        {"Content-Type": "application/json", "Content-Encoding": "gzip"})
    assert [event["Object"]["number"] for event in seen] == [0, 1]


def alertmanager(bench):
    receiver, own = ports.free(2)
    settings = os.path.join(bench.folder, "alertmanager.yml")
    with open(settings, "w", encoding="utf-8") as file:
        file.write(read("alertmanager.yml").replace("127.0.0.1:9095", f"127.0.0.1:{receiver}"))
    bench.start(sys.executable, os.path.join(RECIPES, "alertmanager.py"), str(receiver), env=bench.environment)
    storage = os.path.join(bench.folder, "alertmanager")
    flags = [f"--config.file={settings}", f"--storage.path={storage}", f"--web.listen-address=127.0.0.1:{own}",
        "--cluster.listen-address="]
    bench.start("prometheus-alertmanager", *flags)
    seen = bench.watch("alerts.*.*", 2)
    base = {"labels": {"alertname": "MachineDown", "instance": "m1"}, "annotations": {"summary": "m1 is away"}}

    def tell(alert):
        request = urllib.request.Request(f"http://127.0.0.1:{own}/api/v2/alerts", json.dumps([alert]).encode(),
            {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status == 200

    patiently("Alertmanager", lambda: tell(base))
    firing = next(seen)
    tell({**base, "endsAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
    resolved = next(seen)
    assert [firing["Action"], resolved["Action"]] == ["firing", "resolved"]
    assert firing["Key"] == resolved["Key"] and firing["Object"]["labels"] == base["labels"]


def main():
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        try:
            for recipe in (vector, fluent_bit, alertmanager):
                recipe(bench)
                print(f"{recipe.__name__}: passed", flush=True)
        finally:
            bench.end()


main()
