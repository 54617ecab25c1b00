# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Orders to a running hypervisor, over its socket. Private to microvm.host.

QEMU speaks QMP (docs/interop/qmp-spec of QEMU), Firecracker and Cloud Hypervisor HTTP, each with its own API.
"""

from __future__ import annotations

import json
import socket
import time
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

ANSWER_SECONDS = 5.0
SHOWN_STATES = {"running": "running", "paused": "paused", "Running": "running", "Paused": "paused"}
"""What the three call a state; others (prelaunch, Not started, Created) are ``starting``."""


class Control(t.Protocol):
    """One hypervisor. All methods raise HostError: ``not_found`` when nothing listens, ``timeout``, ``refused``."""

    def state(self) -> str:
        """running, paused or starting."""

    def pause(self) -> None:
        """Stop its virtual processors."""

    def resume(self) -> None:
        """Let them go on."""

    def press_power_button(self) -> None:
        """Ask the guest to power off; whether it does is seen when the socket closes."""

    def quit(self) -> bool:
        """End the hypervisor in order, whatever the guest does; False when it has no such order."""

    def grow_disk(self, disk: str, path: str, size: int) -> None:
        """Tell the guest that the disk of that id, the file ``path``, has ``size`` bytes now."""

    def balloon(self, memory: int, target: int) -> None:
        """Have the guest do with ``target`` bytes of its ``memory``."""


def connect(kind: str, path: str) -> Control:
    """The hypervisor of a kind that listens at ``path``."""
    kinds: dict[str, type[Qmp | Firecracker | CloudHypervisor]] = {
        "qemu": Qmp,
        "firecracker": Firecracker,
        "cloud_hypervisor": CloudHypervisor,
    }
    return kinds[kind](path)


def wait_closed(path: str, seconds: float) -> bool:
    """Wait for the end of whoever listens at ``path``: its connections close then. False after ``seconds``."""
    try:
        connection = _connected(path)
    except HostError as error:
        return error.kind == "not_found"
    until = time.monotonic() + seconds
    with connection:
        while time.monotonic() < until:
            connection.settimeout(max(0.001, until - time.monotonic()))
            try:
                if not connection.recv(65536):
                    return True
            except socket.timeout:
                return False
            except OSError:
                return True
    return False


class Qmp:
    """QEMU. A connection lives for one order: the socket serves one client at a time."""

    def __init__(self, path: str) -> None:
        self.path = path

    def state(self) -> str:
        return SHOWN_STATES.get(str(self.order("query-status")["status"]), "starting")

    def pause(self) -> None:
        self.order("stop")

    def resume(self) -> None:
        self.order("cont")

    def press_power_button(self) -> None:
        self.order("system_powerdown")

    def quit(self) -> bool:
        self.order("quit")
        return True

    def grow_disk(self, disk: str, path: str, size: int) -> None:
        self.order("block_resize", device=disk, size=size)

    def balloon(self, memory: int, target: int) -> None:
        self.order("balloon", value=target)

    def order(self, command: str, **arguments: t.Any) -> t.Any:
        """One command and what it returns."""
        with _connected(self.path) as connection, connection.makefile("rwb", buffering=0) as stream:
            try:
                self._answer(stream, "QMP")
                self._send(stream, {"execute": "qmp_capabilities"})
                self._send(stream, {"execute": command, **({"arguments": arguments} if arguments else {})})
                self._answer(stream, "return")
                return self._answer(stream, "return")
            except socket.timeout:
                raise _slow(self.path, command) from None
            except (OSError, ValueError) as error:
                raise HostError("refused", "QEMU at %s: %s" % (self.path, error)) from None

    def _send(self, stream: t.Any, message: dict[str, t.Any]) -> None:
        stream.write(json.dumps(message).encode() + b"\n")

    def _answer(self, stream: t.Any, key: str) -> t.Any:
        """The next answer; events in between are not for us."""
        while True:
            line = stream.readline()
            if not line:
                raise HostError("interrupted", "QEMU at %s ended before it answered" % self.path, "see its journal")
            message = json.loads(line)
            if "error" in message:
                raise HostError("refused", "QEMU at %s: %s" % (self.path, message["error"].get("desc")))
            if key in message:
                return message[key]


class _Http:
    """A hypervisor with an HTTP API on a UNIX socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    def order(self, method: str, url: str, body: dict[str, t.Any] | None = None) -> t.Any:
        """One request and its JSON answer, None for an empty one."""
        # A tenth of what host_info takes to load, and only machines of this sort need it.
        import http.client

        connection = http.client.HTTPConnection("localhost", timeout=ANSWER_SECONDS)
        connection.sock = _connected(self.path)
        try:
            headers = {"Accept": "application/json", "Content-Type": "application/json"}
            connection.request(method, url, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            data = answer.read()
        except socket.timeout:
            raise _slow(self.path, url) from None
        except (OSError, http.client.HTTPException) as error:
            raise HostError("refused", "%s at %s: %s" % (url, self.path, error)) from None
        finally:
            connection.close()
        if answer.status >= 300:
            text = data.decode(errors="replace").strip()
            raise HostError("refused", "%s at %s: %d %s" % (url, self.path, answer.status, text))
        return json.loads(data) if data else None


class Firecracker(_Http):
    """Firecracker's API (src/firecracker/swagger/firecracker.yaml)."""

    def state(self) -> str:
        return SHOWN_STATES.get(str(self.order("GET", "/")["state"]), "starting")

    def pause(self) -> None:
        self.order("PATCH", "/vm", {"state": "Paused"})

    def resume(self) -> None:
        self.order("PATCH", "/vm", {"state": "Resumed"})

    def press_power_button(self) -> None:
        self.order("PUT", "/actions", {"action_type": "SendCtrlAltDel"})

    def quit(self) -> bool:
        return False

    def grow_disk(self, disk: str, path: str, size: int) -> None:
        self.order("PATCH", "/drives/" + disk, {"drive_id": disk, "path_on_host": path})  # it reads the size anew

    def balloon(self, memory: int, target: int) -> None:
        self.order("PATCH", "/balloon", {"amount_mib": (memory - target) >> 20})


class CloudHypervisor(_Http):
    """Cloud Hypervisor's API (vmm/src/api/openapi/cloud-hypervisor.yaml)."""

    def state(self) -> str:
        return SHOWN_STATES.get(str(self.order("GET", "/api/v1/vm.info")["state"]), "starting")

    def pause(self) -> None:
        self.order("PUT", "/api/v1/vm.pause")

    def resume(self) -> None:
        self.order("PUT", "/api/v1/vm.resume")

    def press_power_button(self) -> None:
        self.order("PUT", "/api/v1/vm.power-button")

    def quit(self) -> bool:
        self.order("PUT", "/api/v1/vmm.shutdown")
        return True

    def grow_disk(self, disk: str, path: str, size: int) -> None:
        self.order("PUT", "/api/v1/vm.resize-disk", {"id": disk, "desired_size": size})

    def balloon(self, memory: int, target: int) -> None:
        self.order("PUT", "/api/v1/vm.resize", {"desired_balloon": memory - target})


def _connected(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_SECONDS)
    try:
        connection.connect(path)
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        raise HostError("not_found", "nothing listens at %s" % path, "is the machine running?") from None
    except socket.timeout:
        connection.close()
        raise _slow(path, "a connection") from None
    except OSError as error:
        connection.close()
        raise HostError("refused", "%s: %s" % (path, error)) from None
    return connection


def _slow(path: str, what: str) -> HostError:
    text = "no answer to %s from %s within %g s" % (what, path, ANSWER_SECONDS)
    return HostError("timeout", text, "does it wait for a dead server?")
