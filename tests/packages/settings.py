"""Takes the settings out of the ConfigMap of dist/kubernetes/hydrant.yaml, with files of DIR in place of those that a
pod mounts, and holds the manifest to what the image and the settings say.

usage: settings.py MANIFEST DIR    leaves DIR/hydrant.toml
"""

import re
import subprocess
import sys
import tomllib

import yaml

MOUNTED = "/etc/hydrant/"
PODMONITOR = {"jobLabel", "selector", "podMetricsEndpoints"}


def main(manifest, folder):
    with open(manifest, encoding="utf-8") as file:
        found = {document["kind"]: document for document in yaml.safe_load_all(file)}
    text = found["ConfigMap"]["data"]["hydrant.toml"]
    settings = tomllib.loads(text)
    pod = found["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]

    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert settings["listen"].endswith(f":{ports['https']}")
    assert settings["metrics_listen"].endswith(f":{ports['metrics']}")
    spans = sum(int(settings["timeouts"][name].removesuffix("s")) for name in ("lame_duck", "drain"))
    assert pod["terminationGracePeriodSeconds"] >= spans + 5, "killed before it has drained and ended"
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for kind in ("Service", "PodMonitor", "PodDisruptionBudget"):
        selector = found[kind]["spec"]["selector"]
        assert selector.get("matchLabels", selector) == labels, f"{kind} selects other pods"
    # No schema of this one is to be had; these are the fields that it needs.
    monitor = found["PodMonitor"]["spec"]
    assert monitor.keys() == PODMONITOR and all(one["port"] in ports for one in monitor["podMetricsEndpoints"])
    with open("dist/prometheus/alerts.yml", encoding="utf-8") as rules:
        jobs = set(re.findall(r'job="([^"]*)"', rules.read()))
    assert jobs == {labels.get(monitor["jobLabel"])}, f"the rules are for the jobs {jobs}"

    for name in ("tls_cert", "tls_key"):
        assert settings[name].startswith(MOUNTED)
        text = text.replace(settings[name], f"{folder}/{name}.pem")
    password, creds = settings["upstream"]["password_file"], settings["nats"]["creds_file"]
    for mounted, name in ((password, "password"), (creds, "creds")):
        assert mounted.startswith(MOUNTED)
        text = text.replace(mounted, f"{folder}/{name}")
        with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
            file.write("secret\n")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-subj", "/CN=hydrant"]
    outputs = ["-keyout", f"{folder}/tls_key.pem", "-out", f"{folder}/tls_cert.pem", "-days", "2"]
    subprocess.run(command + outputs, check=True, stderr=subprocess.DEVNULL)
    with open(f"{folder}/hydrant.toml", "w", encoding="utf-8") as file:
        file.write(text)


main(*sys.argv[1:])
