"""A copy of the sources with mistakes in it, all built at once: the variable SWITCHED_ON switches one of them on.

Used by scripts/simulation-bugs and scripts/mutants. The copy is in target/tmp and is built into the target directory of
the project, so that only this crate is compiled.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# As in the Makefile: with other features, cargo would build all dependencies again.
ALL = ["--workspace", "--features", "hydrant/otel"]

# Not HYDRANT_...: hydrant refuses to start with a setting that it does not know.
VARIABLE = "SWITCHED_ON"

# What a mistake makes fail must not be tried again without it.
NOTHING_KEPT = {"PROPTEST_DISABLE_FAILURE_PERSISTENCE": "1"}

TOO_LONG = "took too long"

# Tests give the programs that they start an empty environment.
CLEAR = ".env_clear()"
CLEAR_BUT = f'{CLEAR}.env("{VARIABLE}", std::env::var("{VARIABLE}").unwrap_or_default())'

SWITCH = """
/// The number of the mistake that is switched on; 0: none.
#[allow(missing_docs)]
pub fn bug() -> u32 {
    static BUG: std::sync::LazyLock<u32> =
        std::sync::LazyLock::new(|| std::env::var("SWITCHED_ON").map_or(0, |bug| bug.parse().unwrap_or(0)));
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
        content = (ROOT / name).read_bytes()
        if name.startswith("tests/") and name.endswith(".rs"):
            content = content.decode().replace(CLEAR, CLEAR_BUT).encode()
        put(to / name, content)
    for manifest in ["Cargo.toml", *(name for name in names if name.endswith("/Cargo.toml"))]:
        rename(to, manifest, name=to.name)
    # Tests look for the programs they need beside the sources.
    (to / "target").mkdir(exist_ok=True)
    if not (to / "target/tools").is_symlink():
        (to / "target/tools").symlink_to(ROOT / "target/tools")
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


def place(root, number, name, file, old, *_):
    """Returns the text of the file in which a mistake has its place, once."""
    text = (root / file).read_text()
    if text.count(old) != 1:
        sys.exit(f"{number} ({name}): its place is not in {file} any more: {old!r}")
    return text


def replace(to, number, name, file, old, new):
    """Puts a mistake into the copy. `BUG` in its text is true while it is switched on."""
    text = place(to, number, name, file, old)
    (to / file).write_text(text.replace(old, new.replace("BUG", f"(crate::clock::bug() == {number})")))


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
    environment = {**os.environ, **NOTHING_KEPT, VARIABLE: str(number), **more}
    # A session of its own, so that programs that the tests have started end with them.
    with subprocess.Popen([binary, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env=environment, start_new_session=True) as begun:
        try:
            told, _ = begun.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False, TOO_LONG
        finally:
            end(begun)
    return begun.returncode == 0, told


def first_failure(binary, number, arguments, seconds):
    """Runs tests with a mistake until one fails. Returns its name, or `TOO_LONG`, or what the program wrote at its end
    if it ended without the name of one; `None` if all passed."""
    environment = {**os.environ, **NOTHING_KEPT, VARIABLE: str(number)}
    with subprocess.Popen([binary, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          env=environment, start_new_session=True) as begun:
        late = threading.Event()
        watch = threading.Timer(seconds, lambda: (late.set(), end(begun)))
        watch.start()
        last = ""
        try:
            for line in begun.stdout:
                last = line.strip() or last
                if failed := re.match(r"test (\S+).* \.\.\. FAILED", line):
                    return failed[1]
            begun.wait()
        finally:
            watch.cancel()
            end(begun)
    if late.is_set():
        return TOO_LONG
    return None if begun.returncode == 0 else f"the end of the program: {last}"


def end(begun):
    """Ends a program, and what it has started and left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(begun.pid, signal.SIGKILL)
