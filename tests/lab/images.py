# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build and cache what labs run on: the UML kernel, host disks, server trees.

Everything lies in CACHE, keyed by recipe and kernel version, is built under one lock and renamed into place when whole.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.lab.machine import LabError, run, say
from tests.lab.mirror import Mirror, read_mirror
from tests.lab.proxy import PackageProxy
from tests.lab.recipes import ENABLED, HOST_FILES, HOST_USER, KEPT_GENERATOR, MASKED, SERVER_FILES, Recipe

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "microvm-lab"
PACKAGES = CACHE / "packages"
KEY = CACHE / "ssh" / "id_ed25519"
HOST_KEY = CACHE / "ssh" / "host_ed25519"
DISK_BYTES = 8 << 30
"""Size of a host's disk; sparse."""
# The newest User Mode Linux is in the moving suites; trixie's traces with ptrace and is about six times slower.
KERNEL_SUITES = ("forky", "sid", "trixie")


@dataclass(frozen=True)
class Kernel:
    """A User Mode Linux kernel: `root` is a tree just big enough to chroot into and run /usr/bin/linux.uml."""

    root: Path
    version: str

    @property
    def modules(self) -> Path:
        """Directory of the kernel's modules, named by the release that uname shows."""
        return next((self.root / "usr/lib/uml/modules").iterdir())


@contextlib.contextmanager
def _build_lock() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another lab is building images; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _package_proxy(mirror: Mirror) -> Iterator[str]:
    """A proxy on the loopback for the time of a build; yields its URL. Downloads are shared by images and hosts."""
    proxy = PackageProxy(("127.0.0.1", 0), PACKAGES, dataclasses.asdict(mirror))
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A directory beside the cache's entries that is gone afterwards, whatever happens."""
    path = Path(tempfile.mkdtemp(prefix=".build-", dir=CACHE))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _mmdebstrap(
    tree: Path, suite: str, packages: tuple[str, ...], mirror: Mirror, proxy: str, label: str, *options: str
) -> None:
    """Run mmdebstrap into `tree`, with a progress line every ten seconds; LabError with its last lines on failure."""
    argv = ["mmdebstrap", "--mode=root", "--format=directory", f"--include={','.join(packages)}", *options]
    argv += [f'--aptopt=Acquire::http::Proxy "{proxy}"', '--aptopt=Acquire::Languages "none"']
    # A mirror may be a snapshot: a moving suite's Release file is then past its date. Its signature is still checked.
    argv += ['--aptopt=Acquire::Check-Valid-Until "false"', "--dpkgopt=force-unsafe-io"]
    argv += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
    argv += ["--dpkgopt=path-exclude=/usr/share/locale/*", suite, str(tree)]
    if mirror.url:
        # http towards our proxy, which itself speaks the mirror's scheme
        argv.append("http://" + mirror.url.partition("://")[2])
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            while process.poll() is None:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    say(f"building {label}: {time.monotonic() - started:.0f} s")
                if time.monotonic() - started > 1800:
                    raise LabError(f"building {label}: no end after 30 minutes")
        finally:
            if process.poll() is None:
                process.terminate()  # mmdebstrap unmounts what it mounted
                process.wait()
        log.seek(0)
        if process.returncode:
            raise LabError(f"building {label}: mmdebstrap failed:\n" + "".join(log.readlines()[-15:]))


def _write_files(tree: Path, files: dict[str, tuple[int, str]]) -> None:
    for name, (mode, text) in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(mode)


def _ssh_keys() -> None:
    for key in (KEY, HOST_KEY):
        if not key.exists():
            key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "microvm-lab", "-f", str(key))


def _kernels() -> list[Kernel]:
    found = [Kernel(path, (path / "version").read_text()) for path in CACHE.glob("kernel-*") if path.is_dir()]
    return sorted(found, key=lambda kernel: kernel.root.stat().st_mtime)


def _build_kernel(mirror: Mirror, proxy: str) -> Kernel:
    problems = []
    for suite in KERNEL_SUITES:
        with _scratch() as scratch:
            tree = scratch / "tree"
            try:
                include = ("user-mode-linux",)
                label = f"kernel from {suite}"
                _mmdebstrap(tree, suite, include, mirror, proxy, label, "--variant=extract")
            except LabError as error:
                problems.append(str(error))
                continue
            # extracted without base-files: give the tree the merged-/usr links that the dynamic loader's path needs
            for name in ("bin", "lib", "lib64", "sbin"):
                if not (tree / name).exists():
                    (tree / name).symlink_to(f"usr/{name}")
            for name in ("proc", "sys", "dev", "tmp", "cache", "disks"):
                (tree / name).mkdir(exist_ok=True)
            version = next((tree / "usr/lib/uml/modules").iterdir()).name
            (tree / "version").write_text(version)
            target = CACHE / f"kernel-{version}"
            if target.exists():
                shutil.rmtree(target)
            os.rename(tree, target)
            if suite == "trixie":
                say("remark: only trixie's User Mode Linux could be had; hosts will boot, but slowly")
            return Kernel(target, version)
    raise LabError("no User Mode Linux kernel could be fetched:\n" + "\n".join(problems))


def kernel_version() -> str | None:
    """Version of the cached kernel labs boot, None when none is cached."""
    kernels = _kernels()
    return kernels[-1].version if kernels else None


def _host_image(recipe: Recipe, kernel: Kernel) -> Path:
    key = recipe.key(kernel.version, KEY.with_suffix(".pub").read_text())
    return CACHE / f"{recipe.label}-{kernel.version}-{key}.img"


def _mask_generators(tree: Path) -> None:
    masks = tree / "etc/systemd/system-generators"
    masks.mkdir(parents=True, exist_ok=True)
    for generator in (tree / "usr/lib/systemd/system-generators").iterdir():
        if generator.name != KEPT_GENERATOR:
            (masks / generator.name).symlink_to("/dev/null")


def _build_host(recipe: Recipe, kernel: Kernel, mirror: Mirror, proxy: str) -> Path:
    with _scratch() as scratch:
        tree = scratch / "tree"
        options = ("--variant=minbase", "--skip=cleanup/apt/lists")
        _mmdebstrap(tree, recipe.suite, recipe.packages, mirror, proxy, recipe.label, *options)
        shutil.copytree(kernel.modules, tree / "lib/modules" / kernel.modules.name, symlinks=True)
        (tree / "etc/apt/apt.conf.d/99mmdebstrap").unlink()  # our --aptopt: the proxy of this build
        _write_files(tree, HOST_FILES)
        for suffix in ("", ".pub"):
            shutil.copy(HOST_KEY.with_suffix(suffix), tree / f"etc/ssh/ssh_host_ed25519_key{suffix}")
        for unwanted in ("rsa", "ecdsa"):
            for path in (tree / "etc/ssh").glob(f"ssh_host_{unwanted}_key*"):
                path.unlink()
        chroot = ("chroot", str(tree))
        run(*chroot, "useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", HOST_USER)
        run(*chroot, "systemctl", "mask", *MASKED)
        run(*chroot, "systemctl", "enable", *ENABLED)
        if recipe.variant in ("prepared", "machines"):
            _mask_generators(tree)
        run(*chroot, "systemctl", "set-default", "multi-user.target")
        run(*chroot, "apt-cache", "gencaches")
        for home, owner in (("root", "root"), (f"home/{HOST_USER}", HOST_USER)):
            keys = tree / home / ".ssh/authorized_keys"
            keys.parent.mkdir(mode=0o700, exist_ok=True)
            shutil.copy(KEY.with_suffix(".pub"), keys)
            run(*chroot, "chown", "-R", f"{owner}:{owner}", f"/{home}/.ssh")
        (tree / "etc/hosts").unlink(missing_ok=True)  # written by lab-network
        (tree / "etc/hostname").unlink(missing_ok=True)
        for stamp in ("etc/.updated", "var/.updated"):  # newer than /usr: no update services at the first boot
            (tree / stamp).touch()
        disk = scratch / "disk.img"
        with disk.open("wb") as file:
            file.truncate(DISK_BYTES)
        run("mke2fs", "-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=1", "-d", str(tree), str(disk), timeout=300)
        target = _host_image(recipe, kernel)
        os.rename(disk, target)
        return target


def _nas_tree(recipe: Recipe) -> Path:
    return CACHE / f"{recipe.label}-{recipe.key()}"


def _target(recipe: Recipe, kernel: Kernel) -> Path:
    return _host_image(recipe, kernel) if recipe.kind == "host" else _nas_tree(recipe)


def _build_nas(recipe: Recipe, mirror: Mirror, proxy: str) -> Path:
    with _scratch() as scratch:
        tree = scratch / "tree"
        _mmdebstrap(tree, recipe.suite, recipe.packages, mirror, proxy, recipe.label, "--variant=minbase")
        _write_files(tree, SERVER_FILES[recipe.variant])
        target = _nas_tree(recipe)
        os.rename(tree, target)
        return target


def ensure_images(recipes: list[Recipe]) -> tuple[Kernel, dict[Recipe, Path]]:
    """The kernel and every image asked for, built now where the cache has none. LabError when a build fails."""
    with _build_lock():
        _ssh_keys()
        kernels = _kernels()
        if kernels:
            kernel = kernels[-1]
            built = {recipe: _target(recipe, kernel) for recipe in recipes}
            if all(path.exists() for path in built.values()):
                return kernel, built
        for left in CACHE.glob(".build-*"):  # of a build that was killed; we hold the lock
            shutil.rmtree(left)
        mirror = read_mirror()
        started = time.monotonic()
        with _package_proxy(mirror) as proxy, concurrent.futures.ThreadPoolExecutor(2) as pool:
            kernel = kernels[-1] if kernels else _build_kernel(mirror, proxy)

            def build(recipe: Recipe) -> Path:
                path = _target(recipe, kernel)
                if path.exists():
                    return path
                say(f"building {recipe.label} (once; kept in {CACHE})")
                if recipe.kind == "host":
                    return _build_host(recipe, kernel, mirror, proxy)
                return _build_nas(recipe, mirror, proxy)

            wanted = list(dict.fromkeys(recipes))
            built = dict(zip(wanted, pool.map(build, wanted), strict=True))
        say(f"images ready after {time.monotonic() - started:.0f} s")
        return kernel, built


def remove_cache() -> None:
    """Remove everything cached; the next lab builds it anew."""
    with _build_lock():
        shutil.rmtree(CACHE)


def proxy_arguments() -> tuple[str, str]:
    """The last two arguments of proxy.py for this machine: package cache, mirror as JSON."""
    return str(PACKAGES), json.dumps(dataclasses.asdict(read_mirror()))
