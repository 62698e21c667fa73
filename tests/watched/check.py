"""Evaluates every expression of the alerting rules, the dashboard and docs/operations.md in a Prometheus that scrapes a
live hydrant.

usage: check.py PROMETHEUS METRICS HYDRANT    three base URLs; run by scripts/watched

Each expression has to have at least one sample. The comparison of an alert is made with `bool`, so that it has one
whether it fires or not. The number of series of the node is bounded, and its metrics have to please `promtool check
metrics`.
"""

import json
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

PROMETHEUS, METRICS, HYDRANT = sys.argv[1:]
SERIES_PER_NODE = 500
# Longer than some scrapes, so that rates have a value.
SETTLING_SECONDS = 15
# On a busy machine a scrape may fail, and what it would have brought has no sample until the next.
PATIENCE_SECONDS = 120
VARIABLES = {"$instance": ".*", "$__rate_interval": "10s", "$__range": "1m"}
# Expressions of the dashboard, and of docs/operations.md, that have to be found at least.
PANELS, DOCUMENTED = 40, 15
# Spans of code in docs/operations.md that are expressions, and not names.
EXPRESSION = re.compile(r"`((?:rate|increase|histogram_quantile|max|sum|count|hydrant_\w+)[({][^`]*)`")


def fetch(url, **arguments):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with urllib.request.urlopen(urllib.request.Request(url, **arguments), timeout=60, context=context) as answer:
        return answer.read().decode()


def query(expression):
    url = f"{PROMETHEUS}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        answer = json.loads(fetch(url))
    except urllib.error.HTTPError as error:
        answer = json.loads(error.read())
    if answer["status"] != "success":
        raise ValueError(answer["error"])
    return answer["data"]["result"]


def always(comparison):
    """The comparison with `bool`, which has a sample whether it holds or not."""
    return re.sub(r" (==|!=|>=|<=|>|<) ", r" \1 bool ", comparison)


def rules():
    groups = json.loads(fetch(f"{PROMETHEUS}/api/v1/rules"))["data"]["groups"]
    for rule in (rule for group in groups for rule in group["rules"]):
        yield f"alert {rule['name']}", always(rule["query"])


def dashboard():
    with open("dist/grafana/hydrant.json", encoding="utf-8") as file:
        panels = json.load(file)["panels"]
    for panel in panels:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            yield f"panel {panel['title']!r}", expression


def documents():
    with open("docs/operations.md", encoding="utf-8") as file:
        text = file.read().replace("\\|", "|")
    for expression in EXPRESSION.findall(text):
        yield "docs/operations.md", always(expression.replace("\n", " "))


def ready():
    """Waits until hydrant is scraped and follows its endpoint, and makes some traffic through the front."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            fetch(f"{METRICS}/readyz")
            if query("hydrant_upstream_connected == 1") and query("hydrant_nats_connected == 1"):
                break
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.5)
    else:
        raise SystemExit(f"hydrant, its endpoint or Prometheus did not start within {PATIENCE_SECONDS} s")
    for _ in range(SETTLING_SECONDS):
        for path in ("/api/v3/info", "/ui"):
            try:
                fetch(HYDRANT + path)
            except urllib.error.HTTPError:
                pass
        time.sleep(1)


def fault(expression):
    """What is wrong with an expression; nothing if it has a sample."""
    try:
        return None if query(expression) else "no sample"
    except ValueError as error:
        return str(error)


def faults(expressions):
    """What is wrong with expressions that go on without a sample."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = [(source, expression, fault(expression)) for source, expression in expressions]
        found = [f"{source}: {why}: {expression}" for source, expression, why in found if why]
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(2)


def main():
    ready()
    failures = []
    alerts, panels, spans = [list(source()) for source in (rules, dashboard, documents)]
    # What is not found is not checked.
    with open("dist/prometheus/alerts.yml", encoding="utf-8") as file:
        written = len(re.findall(r"^ *- alert:", file.read(), re.M))
    if len(alerts) != written or not alerts:
        failures.append(f"{len(alerts)} alerts are loaded, and {written} are written")
    if len(panels) < PANELS or len(spans) < DOCUMENTED:
        failures.append(f"only {len(panels)} expressions of the dashboard and {len(spans)} of docs/operations.md")
    expressions = [*alerts, *panels, *spans]
    failures += faults(expressions)
    series = int(query('count({job="hydrant"})')[0]["value"][1])
    if series > SERIES_PER_NODE:
        failures.append(f"{series} series, more than the {SERIES_PER_NODE} that a node may have")
    lint = subprocess.run(["promtool", "check", "metrics"], input=fetch(f"{METRICS}/metrics"),
        text=True, capture_output=True)
    if lint.returncode or lint.stdout or lint.stderr:
        failures.append(f"promtool check metrics: {lint.stdout}{lint.stderr}")
    print(f"{len(expressions)} expressions, {series} series, {len(failures)} failures")
    for failure in failures:
        print(failure)
    raise SystemExit(1 if failures else 0)


main()
