# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network: a bridge with a free subnet of its own, taps for hosts, namespaces for servers.

Addresses in 10.77.N.0/24 and fd77:6d76:N::/64, N the lab's number: .1 the machine, .11-.59 hosts, .61-.69 filers,
.71-.99 servers, .128-.254 dead (they swallow every packet).
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass

from tests.lab.machine import LabError, run

DEAD = range(129, 255)


def free_number(taken: set[int]) -> int:
    """A lab number whose subnet no route or address of this machine overlaps and no other lab has."""
    used = []
    for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")):
        if route["dst"] != "default":
            used.append(ipaddress.ip_network(route["dst"], strict=False))
    for number in range(256):
        if number not in taken and not any(Network(number).ipv4.overlaps(other) for other in used):
            return number
    raise LabError("no free subnet in 10.77.0.0/16")


@dataclass(frozen=True)
class Network:
    """Names and addresses of lab number `number`."""

    number: int

    @property
    def bridge(self) -> str:
        """Name of the bridge."""
        return f"mvlab{self.number}"

    @property
    def ipv4(self) -> ipaddress.IPv4Network:
        """The lab's IPv4 subnet."""
        return ipaddress.IPv4Network(f"10.77.{self.number}.0/24")

    @property
    def gateway(self) -> str:
        """The machine's own address in the lab."""
        return self.address(1)

    def address(self, member: int) -> str:
        """IPv4 address of member 1-254."""
        return str(self.ipv4[member])

    def address6(self, member: int) -> str:
        """IPv6 address of member 1-254."""
        return str(ipaddress.IPv6Address(f"fd77:6d76:{self.number:x}::{member:x}"))

    def mac(self, member: int) -> str:
        """Ethernet address of a host: the same at every boot, or neighbours would send to the old one for a minute."""
        return f"52:4d:56:00:{self.number:02x}:{member:02x}"

    def tap(self, member: int) -> str:
        """Name of a host's tap on the machine."""
        return f"{self.bridge}t{member}"

    def veth(self, member: int) -> str:
        """Name of the machine's end of a server's cable."""
        return f"{self.bridge}v{member}"

    def namespace(self, name: str) -> str:
        """Name of a server's network namespace."""
        return f"{self.bridge}-{name}"

    def ensure_bridge(self) -> None:
        """Create the bridge and the dead addresses unless they are there."""
        if self.bridge not in _links():
            run("ip", "link", "add", self.bridge, "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
            run("ip", "address", "add", f"{self.gateway}/24", "dev", self.bridge)
            run("ip", "-6", "address", "add", f"{self.address6(1)}/64", "dev", self.bridge, "nodad", check=False)
            run("ip", "link", "set", self.bridge, "up")
        if self.namespace("dead") not in _namespaces():
            self._add_black_hole()

    def _add_black_hole(self) -> None:
        """A namespace that answers ARP for 10.77.N.128/25 and routes it into a tun that nobody reads.

        Without it a host gives up after three ARP requests with EHOSTUNREACH, which is kinder than a dead server.
        """
        namespace = self.namespace("dead")
        self.ensure_namespace("dead", 100)
        inside = ("ip", "netns", "exec", namespace)
        link = "eth0"
        for key, value in (
            ("net/ipv4/ip_forward", "1"),
            (f"net/ipv4/conf/{link}/proxy_arp", "1"),
            (f"net/ipv4/neigh/{link}/proxy_delay", "0"),
            (f"net/ipv4/conf/{link}/rp_filter", "0"),
            (f"net/ipv4/conf/{link}/send_redirects", "0"),
        ):
            run(*inside, "sh", "-c", f"echo {value} > /proc/sys/{key}")
        run(*inside, "ip", "tuntap", "add", "hole", "mode", "tun")
        run(*inside, "ip", "link", "set", "hole", "up")
        run(*inside, "ip", "route", "add", f"{self.address(128)}/25", "dev", "hole")

    def dead_addresses(self, count: int) -> list[str]:
        """`count` IPv4 addresses on which packets vanish without any answer; LabError beyond 126."""
        if count > len(DEAD):
            raise LabError(f"a lab has {len(DEAD)} dead addresses, not {count}")
        return [self.address(member) for member in DEAD][:count]

    def ensure_tap(self, member: int) -> None:
        """Create a host's tap, plugged in."""
        if self.tap(member) not in _links():
            run("ip", "tuntap", "add", self.tap(member), "mode", "tap")
            run("ip", "link", "set", self.tap(member), "master", self.bridge, "up")

    def ensure_namespace(self, name: str, member: int) -> None:
        """Create a server's namespace with eth0 on the bridge."""
        namespace, veth = self.namespace(name), self.veth(member)
        if namespace in _namespaces():
            return
        run("ip", "netns", "add", namespace)
        run("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        run("ip", "link", "set", veth, "master", self.bridge, "up")
        inside = ("ip", "-netns", namespace)
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "address", "add", f"{self.address(member)}/24", "dev", "eth0")
        run(*inside, "-6", "address", "add", f"{self.address6(member)}/64", "dev", "eth0", "nodad")
        run(*inside, "route", "add", "default", "via", self.gateway)

    def set_cable(self, link: str, plugged: bool) -> None:
        """Cut or join a tap or veth: packets vanish both ways, the other side is told nothing.

        The bridge's port is disabled (state 0) or forwarding (3); a tap set down would give the host write errors,
        after which its driver sends nothing more.
        """
        run("bridge", "link", "set", "dev", link, "state", "3" if plugged else "0")

    def remove(self) -> None:
        """Remove every link and namespace of this lab."""
        for namespace in _namespaces():
            if namespace.startswith(self.bridge + "-"):
                run("ip", "netns", "delete", namespace)
        for link in _links():
            if link.startswith((self.bridge + "t", self.bridge + "v")):
                # a deleted namespace takes its cable along, so this one may be gone meanwhile
                run("ip", "link", "delete", link, check=False)
        if self.bridge in _links():
            run("ip", "link", "delete", self.bridge)


def _links() -> set[str]:
    return {link["ifname"] for link in json.loads(run("ip", "-json", "link", "show"))}


def _namespaces() -> set[str]:
    text = run("ip", "-json", "netns", "list").strip()
    return {entry["name"] for entry in json.loads(text)} if text else set()
