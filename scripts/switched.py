"""A copy of the sources with mistakes in it, all built at once: the variable HYDRANT_BUG switches one of them on.

Used by scripts/simulation-bugs and scripts/mutants. The copy is in target/tmp and is built into the target directory of
the project, so that only this crate is compiled.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# As in the Makefile: with other features, cargo would build all dependencies again.
ALL = ["--workspace", "--features", "hydrant/otel"]

SWITCH = """
/// The number of the mistake that is switched on; 0: none.
#[allow(missing_docs)]
pub fn bug() -> u32 {
    static BUG: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("HYDRANT_BUG").map_or(0, |bug| bug.parse().unwrap_or(0)));
    *BUG
}
"""


def copy(name):
    """Copies what git knows to target/tmp/NAME and returns that path. Files that have not changed keep their time."""
    to = ROOT / "target/tmp" / name
    command = ["git", "ls-files", "-z", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    names = [name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]
    for old in to.glob("src/**/*.rs"):
        if str(old.relative_to(to)) not in names:
            old.unlink()
    for name in names:
        put(to / name, (ROOT / name).read_bytes())
    for manifest in ["Cargo.toml", *(name for name in names if name.endswith("/Cargo.toml"))]:
        rename(to, manifest, name=to.name)
    clock = to / "src/clock.rs"
    put(clock, (clock.read_text() + SWITCH).encode())
    return to


def rename(to, manifest, name):
    """Gives a package of the copy a version of its own: cargo would take builds of the project for those of the copy,
    and the other way round."""
    text = (ROOT / manifest).read_text()
    package, lock = re.search(r'^name = "(.*)"$', text, re.M)[1], to / "Cargo.lock"
    old = f'name = "{package}"\nversion = "'
    if old not in lock.read_text():
        return
    put(to / manifest, re.sub(r'^(version = "[^"]*)"', rf'\1-{name}"', text, count=1, flags=re.M).encode())
    put(lock, re.sub(re.escape(old) + r'([^"]*)', lambda found: f"{found[0]}-{name}", lock.read_text()).encode())


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def replace(to, number, name, file, old, new):
    """Puts a mistake into the copy. `BUG` in its text is true while it is switched on."""
    path = to / file
    text = path.read_text()
    if text.count(old) != 1:
        sys.exit(f"{number} ({name}): its place is not in {file} any more: {old!r}")
    path.write_text(text.replace(old, new.replace("BUG", f"(crate::clock::bug() == {number})")))


def cargo(to, verb, *arguments):
    begin = [os.environ.get("CARGO", "cargo"), verb, "--locked", "--target-dir", str(ROOT / "target")]
    command = [*begin, *ALL, *arguments]
    return subprocess.run([*command, "--message-format=json"], cwd=to, capture_output=True, text=True)


def messages(output):
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def errors(told):
    """The errors of the compiler."""
    all_messages = [message["message"] for message in messages(told.stdout) if message["reason"] == "compiler-message"]
    return [message for message in all_messages if message["level"].startswith("error")]


def build(to, *targets):
    """Builds test binaries; returns the path of each by its name (the library's is `hydrant`)."""
    told = cargo(to, "test", "--no-run", *(targets or ["--lib"]))
    if told.returncode:
        sys.exit("\n".join(error["rendered"] for error in errors(told)) or told.stderr)
    made = [message for message in messages(told.stdout) if message["reason"] == "compiler-artifact"]
    return {message["target"]["name"]: message["executable"] for message in made if message["profile"]["test"]}


def run(binary, number, arguments, seconds, **more):
    """Runs tests with a mistake. Returns whether they passed, and what they wrote; failed too if it took too long."""
    environment = {**os.environ, "HYDRANT_BUG": str(number), **more}
    try:
        told = subprocess.run(
            [binary, *arguments], cwd=ROOT, capture_output=True, text=True, env=environment, timeout=seconds)
    except subprocess.TimeoutExpired:
        return False, "took too long"
    return told.returncode == 0, told.stdout + told.stderr
