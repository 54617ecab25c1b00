# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs modules on a lab host and kills them where it is told; one JSON request and one JSON answer per line.

It forks for each run, so that importing ansible.module_utils is paid once. A run is watched by strace, which attaches
to the very process that is to die: the module (`main`), its n-th forked child (`child N`), or the n-th program it
starts (`program N`). Counts of calls then begin at that moment. Standard library only.

Requests: {"do": "run", "module", "args", "trace": bool, "kill": null or [role, call, k], "error": null or the name of
an error that the call answers from then on in place of the kill}, {"do": "snapshot"}, {"do": "wipe"},
{"do": "remove", "path"}.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import pwd
import runpy
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import typing as t
from pathlib import Path

HERE = os.path.dirname(os.path.abspath(__file__))
TRACE = "/run/faults.trace"
OUTPUT = "/run/faults.out"
STATE = "/var/lib/microvm"
REGISTRY = STATE + "/registry.db"
UNITS = "/etc/systemd/system"
TOOL = "/usr/local/libexec/microvm"
LARGE = 65536
"""Of a file with more bytes the digest is enough."""
RUN_SECONDS = 120.0
CALLS = (
    "openat,write,pwrite64,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,symlinkat,link,"
    "linkat,fsync,fdatasync,copy_file_range,ftruncate,fallocate,fchmod,fchown,chmod,chown,fsopen,fsconfig,fsmount,move_mount,mount,fspick,"
    "umount2,mount_setattr,execve"
)
PR_SET_CHILD_SUBREAPER = 36

sys.dont_write_bytecode = True
target: list[t.Any] | None = None
forks = 0
programs = 0


def attach(*options: str) -> None:
    """Have strace watch this process; returns when it does."""
    reading, writing = os.pipe()
    strace = os.posix_spawn(
        "/usr/bin/strace",
        ["strace", *options, "-p", str(os.getpid())],
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, writing, 2)],
        setpgroup=0,
        setsigmask=[signal.SIGPIPE],
    )
    os.close(writing)
    told = b""
    while b"attached" not in told:
        more = os.read(reading, 4096)
        if not more:
            raise RuntimeError(f"strace {strace} did not attach: {told.decode()}")
        told += more


def kill_at(call: str, count: int, error: str | None = None, follow: bool = False) -> None:
    """Have this process (or what it executes: ``follow``) killed at its ``count``-th ``call`` from now on.

    With ``error`` that call and those after it fail with that instead.
    """
    what = f"error={error}:when={count}+" if error else f"signal=SIGKILL:when={count}"
    options = ["-f"] if follow else []
    attach(*options, "-y", "-o", TRACE, "-e", f"trace={call}", "-e", f"inject={call}:{what}")


def before_fork() -> None:
    """Count the forks of the module."""
    global forks
    forks += 1


def after_fork() -> None:
    """In a forked child: is it the one?"""
    global target
    wanted, target = target, None
    if wanted and wanted[0] == f"child {forks}":
        kill_at(*wanted[1:])


def audit(event: str, arguments: tuple[t.Any, ...]) -> None:
    """Before the module starts a program: is it the one?"""
    global programs, target
    if event == "subprocess.Popen" and target:
        programs += 1
        if target[0] == f"program {programs}":
            wanted, target = target, None
            kill_at(wanted[1], wanted[2], wanted[3], follow=True)


def module_process(request: dict[str, t.Any]) -> t.NoReturn:
    """The life of a process that is one module run."""
    global target, forks, programs
    from ansible.module_utils import basic

    os.setsid()
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    arguments = {"ANSIBLE_MODULE_ARGS": request["args"]}
    basic._ANSIBLE_ARGS = json.dumps(arguments).encode()
    basic._ANSIBLE_PROFILE = "legacy"
    forks = programs = 0
    target = [*request["kill"], request.get("error")] if request.get("kill") else None
    if request.get("trace"):
        attach("-f", "-y", "-s", "80", "-o", TRACE, "-e", f"trace={CALLS},fork,vfork,clone,clone3")
    elif target and target[0] == "main":
        kill_at(*target[1:])
    code = 1
    try:
        runpy.run_module(
            f"ansible_collections.microvm.host.plugins.modules.{request['module']}", run_name="__main__", alter_sys=True
        )
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)


def reap(pid: int, seconds: float) -> tuple[int | None, list[int]]:
    """Wait for ``pid`` and all it left behind; its status, and the pids that had to be killed at the deadline."""
    status = None
    killed: list[int] = []
    until = time.monotonic() + seconds
    while True:
        try:
            found, how = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status, killed
        if found == pid:
            status = how
        elif found == 0:
            if time.monotonic() > until and not killed:
                killed = [int(word) for word in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
                for other in killed:
                    os.kill(other, signal.SIGKILL)
            time.sleep(0.002)  # waiting for any of several processes, within the deadline


def run(request: dict[str, t.Any]) -> dict[str, t.Any]:
    """Run a module; ``status`` is as of waitpid(2), ``killed`` lists what did not end by itself."""
    for path in (TRACE, OUTPUT):
        if os.path.exists(path):
            os.unlink(path)
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        module_process(request)
    status, killed = reap(pid, RUN_SECONDS)
    answer: dict[str, t.Any] = {"status": status, "killed": killed, "seconds": time.monotonic() - started}
    text = Path(OUTPUT).read_text(errors="replace") if os.path.exists(OUTPUT) else ""
    try:
        answer["result"] = json.loads(text)
    except ValueError:
        answer["result"] = None
        answer["output"] = text[-4000:]
    if request.get("trace") or request.get("kill"):
        answer["trace"] = Path(TRACE).read_text(errors="replace") if os.path.exists(TRACE) else ""
    return answer


def mount_table() -> list[list[str]]:
    """[path, type, source, per-mount options] of the mounts under the collection's directory."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        words, rest = left.split(), right.split()
        if words[4].startswith(STATE + "/"):
            found.append([words[4], rest[0], rest[1], words[5]])
    return sorted(found)


def files_below(top: str, points: set[str]) -> t.Iterator[tuple[str, str]]:
    """(path, what it is) of everything at and below ``top``; mount points are not looked into."""
    if not os.path.lexists(top):
        return
    if os.path.islink(top):
        yield top, "-> " + os.readlink(top)
    elif top in points or os.path.isdir(top):
        yield top, "directory"
        if top not in points:
            for name in sorted(os.listdir(top)):
                yield from files_below(os.path.join(top, name), points)
    elif stat.S_ISSOCK(os.stat(top).st_mode):
        yield top, "socket"
    else:
        data = Path(top).read_bytes()
        if top.endswith("/console.log"):
            yield top, "what a guest said"
        elif "/.microvm/locks/" in top:
            yield top, "held" if data.strip(b" \0") else "free"
        else:
            yield top, hashlib.sha256(data).hexdigest() if len(data) > LARGE else data.decode(errors="replace")


def registry() -> dict[str, t.Any]:
    """Every table, as SQLite sees it after a roll-back, read from a copy; with its own verdict on its integrity."""
    if not os.path.exists(REGISTRY):
        return {}
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for suffix in ("", "-journal"):
            if os.path.exists(REGISTRY + suffix):
                shutil.copyfile(REGISTRY + suffix, folder + "/registry.db" + suffix)
        connection = sqlite3.connect(folder + "/registry.db")
        try:
            tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found: dict[str, t.Any] = {}
            for table in sorted(tables):
                cursor = connection.execute(f"SELECT * FROM {table}")
                names = [column[0] for column in cursor.description]
                found[table] = sorted((dict(zip(names, row)) for row in cursor), key=repr)
            found["integrity"] = connection.execute("PRAGMA integrity_check").fetchone()[0]
            return found
        finally:
            connection.close()


def snapshot() -> dict[str, t.Any]:
    """All the collection keeps on this host. Row numbers are replaced by the path of the mount."""
    mounts = mount_table()
    points = {row[0] for row in mounts}
    files = dict(files_below(STATE, points))
    files.update(files_below("/etc/microvm", set()))
    files.update((path, what) for path, what in files_below("/run/microvm", set()) if "/locks" not in path)
    files.update(files_below(TOOL, set()))
    for folder in (UNITS, *(f"{UNITS}/{target}.target.wants" for target in ("remote-fs", "multi-user", "sockets"))):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if "microvm" in name or "docker-nfsd" in name:
                files.update(files_below(os.path.join(folder, name), set()))
    for name in os.listdir("/tmp"):
        if name.startswith("microvm"):
            files["/tmp/" + name] = "left behind"
    files.pop(REGISTRY, None)
    if REGISTRY + "-journal" in files:
        files[REGISTRY + "-journal"] = "a transaction"
    rows = registry()
    paths = {row["id"]: row["path"] for row in rows.get("mounts", ())}
    for row in rows.get("mounts", ()):
        del row["id"], row["shown"]  # a number, and a measurement
    for row in rows.get("mount_users", ()):
        row["mount"] = paths.get(row["mount"])
    return {"mounts": mounts, "files": files, "registry": rows, "machines": machines()}


def machines() -> dict[str, list[str]]:
    """What machines have beside files: units that are active, users and the programs that these run, interfaces."""
    words = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,failed", "microvm*@*"]
    shown = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    users = {entry.pw_uid: entry.pw_name for entry in pwd.getpwall() if entry.pw_name.startswith("mvm-")}
    programs = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if path.stat().st_uid in users:
                programs.append((path / "comm").read_text().strip())
    return {
        "units": sorted(" ".join(line.split()[:4]) for line in shown.splitlines()),
        "users": sorted(users.values()),
        "programs": sorted(programs),
        "taps": sorted(name for name in os.listdir("/sys/class/net") if name.startswith("mv")),
    }


def wipe() -> dict[str, t.Any]:
    """A host that never heard of the collection."""
    for words in (["kill", "--signal=KILL", "microvm@*"], ["stop", "microvm*@*"], ["reset-failed", "microvm*@*"]):
        subprocess.run(["systemctl", *words], check=False, stderr=subprocess.DEVNULL)
    for user in machines()["users"]:
        subprocess.run(["userdel", user], check=True)
    subprocess.run(
        ["systemctl", "stop", "docker-nfsd.socket", "docker-nfsd.service"], check=False, stderr=subprocess.DEVNULL
    )
    libc = ctypes.CDLL(None, use_errno=True)
    for path, *_rest in reversed(mount_table()):
        if libc.umount2(path.encode(), 0):
            raise OSError(ctypes.get_errno(), f"umount {path}")
    for path in snapshot()["files"]:
        if path.startswith(UNITS):
            os.unlink(path)
    for folder in (STATE, "/etc/microvm", "/run/microvm", TOOL):
        shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["systemctl", "daemon-reload"], check=True)
    # A machine brings the group, and shares then belong to it: the next pair of operations begins without.
    subprocess.run(["groupdel", "microvm"], check=False, stderr=subprocess.DEVNULL)
    return {}


def remove(request: dict[str, t.Any]) -> dict[str, t.Any]:
    """Remove a directory and what is in it, or a file."""
    path = request["path"]
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
    return {}


def main() -> None:
    """Serve requests until standard input ends."""
    sys.path.insert(0, HERE)
    import ansible.module_utils.basic

    # For the modules: loaded before the fork, each run need not load it.
    import ansible.module_utils.common.json  # noqa: F401

    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.register_at_fork(before=before_fork, after_in_child=after_fork)
    sys.addaudithook(audit)
    serve: dict[str, t.Callable[[dict[str, t.Any]], dict[str, t.Any]]] = {
        "run": run,
        "snapshot": lambda request: snapshot(),
        "wipe": lambda request: wipe(),
        "remove": remove,
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = serve[request["do"]](request)
        except Exception:
            answer = {"broken": traceback.format_exc()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
