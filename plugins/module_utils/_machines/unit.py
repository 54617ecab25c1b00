# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything a machine is on disk: its units, its configuration, the script for people. Private to microvm.host.

Wants= and After= order a machine behind its mounts, taps and shares. Requires= or RequiresMountsFor= would fail it once
and for all when a server or a bridge is late; so its start fails by itself (GATE), and systemd tries again.
"""

from __future__ import annotations

import json
import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host import names, systemd
from ansible_collections.microvm.host.plugins.module_utils._machines import (
    by_hand,
    cloud_hypervisor,
    disks,
    firecracker,
    network,
    overlays,
    places,
    qemu,
)
from ansible_collections.microvm.host.plugins.module_utils._machines.definition import MIB, Config, digest
from ansible_collections.microvm.host.plugins.module_utils._machines.hypervisor import Chosen
from ansible_collections.microvm.host.plugins.module_utils._shares import virtiofs

GIVE_UP = 30
"""Seconds that systemd leaves to a stop beyond the guest's own time."""
ORDER_SECONDS = 30.0
"""For systemctl, which only gives an order, and for programs that change users."""
DEVICES = ("/dev/kvm", "/dev/net/tun", "/dev/vhost-net", "/dev/vhost-vsock")
GATE = '/usr/bin/systemctl --quiet is-active "$0" || { echo "$0 does not run: journalctl -u $0 tells why"; exit 1; }'
"""No start without a service, whose name is the argument."""
LINK = ("/usr/bin/ln", "-sfT")
"""As root it follows nothing that the machine's user put there; to harden it like the machine takes longer than it."""
HIDDEN = ("/home", "/root", "/run/user")
UNJAILED = ("CapabilityBoundingSet=", "RestrictNamespaces=yes")
JAILED = (
    "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SYS_CHROOT CAP_SETUID CAP_SETGID CAP_MKNOD CAP_CHOWN"
    " CAP_DAC_OVERRIDE CAP_FOWNER",
    "RestrictNamespaces=mnt",
    "DeviceAllow=/dev/userfaultfd rwm",
)
"""What the jailer makes a jail with: device nodes, mounts and a root of its own; it keeps none of it."""
HARDENING = """\
NoNewPrivileges=yes
ProtectSystem=strict
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_VSOCK
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
DevicePolicy=closed""".splitlines()


def command_line(config: Config, name: str, chosen: Chosen) -> list[str]:
    """The words that start a machine, whatever runs it."""
    if chosen.kind == "firecracker":
        return firecracker.command_line(config, name, chosen)
    hypervisor = qemu if chosen.kind == "qemu" else cloud_hypervisor
    return network.with_files(config, name, hypervisor.command_line(config, name, chosen))


def machine_text(config: Config, name: str, chosen: Chosen, mounts: t.Sequence[str]) -> str:
    """The machine's service. ``mounts``: the mount units that its disks and shares need."""
    needs = ["%s.socket" % places.fs_unit(name, share["tag"]) for share in _virtiofs(config)]
    musts = [places.net_unit(name)] if network.taps(config, name) else []
    musts += [places.lock_unit(name)] if disks.written(config) else []
    needs += [*musts, *mounts]
    stop = [systemd.TOOL, "vm-stop", chosen.kind, places.stop_socket(name), "%d" % config["stop_timeout"]]
    if chosen.kind != "qemu":
        stop[3] = places.control_socket(name)
    lines = [
        "[Unit]",
        "Description=microVM %s (microvm.host)" % name,
        "After=network.target",
        *["Wants=" + each for each in needs],
        *["After=" + each for each in needs],
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        "Slice=microvm.slice",
        *_user(name, chosen),
        "UMask=0007",
        "RuntimeDirectory=microvm/" + name,
        "RuntimeDirectoryMode=0750",
        "RuntimeDirectoryPreserve=yes",  # the sockets of its shares are there
        "StateDirectory=microvm/machines/%s/log" % name,
        *(["StateDirectory=microvm/machines/%s/jail" % name] if chosen.jailer else []),
        "StateDirectoryMode=0750",
        "WorkingDirectory=" + places.logs(name),
        *["LoadCredential=%s:%s" % (key, systemd.literal(path)) for key, path in _credentials(config).items()],
        *["ExecStartPre=+" + systemd.command_line(["/bin/sh", "-c", GATE, each]) for each in musts],
        *["ExecStartPre=+" + systemd.command_line(["/usr/bin/chgrp", names.GROUP, each]) for each in _devnodes(config)],
        *["ExecStartPre=+" + systemd.command_line([systemd.TOOL, "vm-fresh", each]) for each in _emptied(config)],
        *_cleared(name, chosen),
        "ExecStartPre=+" + systemd.command_line([*LINK, digest(config), places.booted(name)]),
        *_log(name, chosen),
        "ExecStart=" + systemd.command_line([*into_console(name, chosen), *command_line(config, name, chosen)]),
        *_balloon(config, name, chosen),
        "ExecStop=" + systemd.command_line(stop),
        "TimeoutStartSec=90",
        "TimeoutStopSec=%d" % (config["stop_timeout"] + GIVE_UP),
        "KillMode=mixed",
        "Restart=" + config["restart_policy"],
        "RestartSec=5",
        "LimitNOFILE=1048576",
        *_limits(config),
        *(JAILED if chosen.jailer else UNJAILED),
        *HARDENING,
        *["DeviceAllow=%s %s" % (device, "rwm" if chosen.jailer else "rw") for device in _devices(config)],
        *_seen(config),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    if chosen.accelerator == "kvm" and not chosen.jailer:
        lines.insert(lines.index("UMask=0007"), "SupplementaryGroups=kvm")
    return network.unit(lines)


def _emptied(config: Config) -> list[str]:
    return overlays.emptied(config["overlays"], config["disks"])


def _user(name: str, chosen: Chosen) -> list[str]:
    """The jailer is root, and becomes the machine's user in the jail."""
    return [] if chosen.jailer else ["User=" + places.user(name), "Group=" + names.GROUP]


def _devnodes(config: Config) -> list[str]:
    """The devices that are volumes: after each boot they belong to root."""
    return [disk["path"] for dummy, disk in disks.of(config) if disk["path"].startswith("/dev/")]


def _credentials(config: Config) -> dict[str, str]:
    """Name and path of what systemd reads for the machine."""
    return {firecracker.METADATA: config["metadata"]} if config["metadata"] else dict(config["credentials"])


def into_console(name: str, chosen: Chosen) -> list[str]:
    """The words before Firecracker's, whose standard output is the guest's console.

    The machine's user opens the file. systemd would do that as root, and follow a link that this user has put there.
    """
    if chosen.kind != "firecracker":
        return []
    return ["/bin/sh", "-c", 'exec "$@" >>"$0"', places.logs(name) + "/console.log"]


def _cleared(name: str, chosen: Chosen) -> list[str]:
    """What the last start left, which the hypervisor would stumble on. QEMU takes its sockets away by itself."""
    if chosen.kind == "qemu":
        return []
    return ["ExecStartPre=/usr/bin/rm -f %s %s" % (places.control_socket(name), places.vsock_socket(name))]


def _log(name: str, chosen: Chosen) -> list[str]:
    """Firecracker's own log is made anew; that of the last start is kept beside it."""
    if chosen.kind != "firecracker":
        return []
    words = ["/usr/bin/install", "--backup=simple", "--suffix=.old", "--group=" + names.GROUP, "--mode=0660"]
    return ["ExecStartPre=" + systemd.command_line([*words, "/dev/null", firecracker.log_file(name)])]


def _balloon(config: Config, name: str, chosen: Chosen) -> list[str]:
    """QEMU is told once it runs; the others begin with it."""
    if not config["balloon_target"] or chosen.kind != "qemu":
        return []
    words = [systemd.TOOL, "vm-balloon", places.stop_socket(name), "%d" % config["balloon_target"]]
    return ["ExecStartPost=-" + systemd.command_line(words)]


def _locking(config: Config, name: str) -> list[str]:
    """The words that hold the locks of a machine's disks."""
    words = [systemd.TOOL, "lock", "--holder", places.holder(name)]
    return words + [word for volume in disks.written(config) for word in ("--volume", volume)]


def lock_text(config: Config, name: str, mounts: t.Sequence[str]) -> str:
    """The service that holds the locks of the disks, from before the machine starts until after it ended.

    When it ends first, a lock is lost: the machine is killed at once; one that is asked to end writes out what it has.
    It is killed twice: a service that failed may have been killed together with its ExecStopPost=.
    """
    lines = [
        "[Unit]",
        "Description=Locks of the disks of the microVM %s (microvm.host)" % name,
        "PartOf=" + places.unit(name),
        "StopWhenUnneeded=yes",
        "OnFailure=" + places.lost_unit(name),
        *["Wants=" + each for each in mounts],
        *["After=" + each for each in mounts],
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        "Slice=microvm.slice",
        "ExecStart=" + systemd.command_line(_locking(config, name)),
        "ExecStopPost=" + _kill(name),
        "KillMode=mixed",  # to stop is for the one that waits for a signal, not for the one that holds the locks
        "TimeoutStartSec=150",
        "TimeoutStopSec=30",
        "NoNewPrivileges=yes",
        "ProtectKernelModules=yes",
        "RestrictRealtime=yes",
        "LockPersonality=yes",
        "",
    ]
    return network.unit(lines)


def lost_text(name: str) -> str:
    """The service that kills the machine when that of its locks failed, in a control group of its own."""
    lines = [
        "[Unit]",
        "Description=The microVM %s has lost its locks (microvm.host)" % name,
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=oneshot",
        "Slice=microvm.slice",
        "ExecStart=" + _kill(name),
        "TimeoutStartSec=30",
        "NoNewPrivileges=yes",
        "",
    ]
    return network.unit(lines)


def _kill(name: str) -> str:
    """The hypervisor may have ended by itself, which is no failure."""
    return "-/usr/bin/systemctl kill --signal=KILL " + places.unit(name)


def files(
    config: Config, name: str, chosen: Chosen, mounts: t.Callable[[str], list[str]], daemon: virtiofs.Daemon | None
) -> dict[str, str]:
    """Path to text of all that a machine is. ``mounts`` gives the mount units that a path needs.

    ``daemon`` may be None for a machine without virtiofs.
    """
    paths = [each["path"] for each in config["disks"]] + [each["source"] for each in config["shares"]]
    paths += [path for path in (config["kernel"], config["initrd"]) if path]
    needed = sorted({unit for path in paths for unit in mounts(path)})
    machine = places.unit(name)
    found = {places.unit_file(machine): machine_text(config, name, chosen, needed)}
    if disks.written(config):
        own = [disk["path"] for disk in config["disks"] if disk["volume"]]
        locked = sorted({unit for path in own for unit in mounts(path)})
        found[places.unit_file(places.lock_unit(name))] = lock_text(config, name, locked)
        found[places.unit_file(places.lost_unit(name))] = lost_text(name)
    taps = network.unit_text(config, name)
    if taps is not None:
        found[places.unit_file(places.net_unit(name))] = taps
    daemons = {}
    for share in _virtiofs(config):
        if daemon is None:
            raise ValueError("a virtiofs share without a daemon")
        unit = places.unit_file(places.fs_unit(name, share["tag"]))
        listen = places.share_socket(name, share["tag"])
        argv = virtiofs.arguments(daemon, share)
        found[unit + ".socket"] = virtiofs.socket_text(machine, listen, places.user(name), share["tag"])
        found[unit + ".service"] = virtiofs.service_text(machine, argv, share, mounts(share["source"]))
        daemons[share["tag"]] = (argv, share["source"] if share["read_only"] else "")
    if chosen.kind == "firecracker":
        text = json.dumps(firecracker.configuration(config, name, chosen.kernel), indent=2, sort_keys=True)
        found[firecracker.config_file(config, name)] = text + "\n"
    found[os.path.join(places.directory(name), by_hand.RUN)] = _script(config, name, chosen)
    if daemons:
        found[os.path.join(places.directory(name), by_hand.VIRTIOFSD)] = by_hand.virtiofsd(name, daemons)
    return found


def _script(config: Config, name: str, chosen: Chosen) -> str:
    words = command_line(config, name, chosen)
    if chosen.kind == "qemu":
        at = words.index("-chardev", words.index("chardev=stop,mode=control"))
        words = [*words[:at], "-serial", "mon:stdio", *words[at + 4 :]]
    if chosen.kind == "firecracker":  # its log is for the terminal too
        log = firecracker.log_file(name)
        words = [word for index, word in enumerate(words) if log not in words[index : index + 2]]
    locks = _locking(config, name) if disks.written(config) else []
    tags = [share["tag"] for share in _virtiofs(config)]
    net = bool(network.taps(config, name))
    # The jailer is root, and becomes the machine's user by itself.
    words = words if chosen.jailer else ["", *words]
    return by_hand.machine(name, words, locks, net, tags, _devnodes(config))


def _virtiofs(config: Config) -> list[dict[str, t.Any]]:
    return [share for share in config["shares"] if share["proto"] == "virtiofs"]


def _limits(config: Config) -> list[str]:
    found = ["CPUQuota=%d%%" % config["cpu_limit"]] if config["cpu_limit"] else []
    return found + (["MemoryMax=%dM" % (config["memory_limit"] // MIB)] if config["memory_limit"] else [])


def _devices(config: Config) -> list[str]:
    """The device nodes it may open: the usual ones, and disks that are none of our business but are block devices."""
    macvtap = ["char-macvtap"] if any(each["type"] == "macvtap" for each in config["interfaces"]) else []
    return [*DEVICES, *macvtap, *sorted({disk["path"] for disk in config["disks"] if disk["path"].startswith("/dev/")})]


def _seen(config: Config) -> list[str]:
    """What of the file system it may write to; homes are hidden unless something of it is there."""
    written = [disk for disk in config["disks"] if not disk["read_only"]]
    disks = [disk["path"] if disk["volume"] else os.path.dirname(disk["path"]) for disk in written]
    nine_p = [share["source"] for share in config["shares"] if share["proto"] == "9p" and not share["read_only"]]
    writable = sorted({path for path in disks + nine_p if path and not path.startswith("/dev")})
    every = writable + [each["path"] for each in config["disks"]] + [config["kernel"], config["initrd"]]
    every += [share["source"] for share in config["shares"]]
    found = ["ReadWritePaths=" + systemd.quoted("-" + path) for path in writable]
    if not any(path.startswith(hidden) for path in every for hidden in HIDDEN):
        found.append("ProtectHome=yes")
    if any(path.startswith(("/tmp", "/var/tmp")) for path in every):
        found.append("PrivateTmp=no")
    return found
