# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's VolumeDriver protocol: what each endpoint takes and answers. Private to microvm.host.

An error is always HTTP 500 with ``{"Err": text}``: of a 200 with an error or without a mount point Docker makes a
container that writes to the host's own disk.
"""

from __future__ import annotations

import errno
import json
import os
import typing as t

from ansible_collections.microvm.host.plugins.module_utils._core.result import sentence
from ansible_collections.microvm.host.plugins.module_utils._docker.server import Answer
from ansible_collections.microvm.host.plugins.module_utils._docker.tasks import Task, Tasks
from ansible_collections.microvm.host.plugins.module_utils._docker.volumes import Volumes
from ansible_collections.microvm.host.plugins.module_utils._host import names
from ansible_collections.microvm.host.plugins.module_utils._host.errors import HostError

SCOPES = ("local", "global")
LONGEST_ID = 1024

Request = dict[str, t.Any]
Reply = t.Callable[[Answer], None]


class Api:
    """The endpoints. ``scope`` says whether a volume of one name is the same one on all hosts of a Swarm."""

    def __init__(self, volumes: Volumes, tasks: Tasks, scope: str) -> None:
        self.volumes = volumes
        self.tasks = tasks
        self.asking: dict[str, t.Callable[[Request], dict[str, t.Any]]] = {
            "/Plugin.Activate": lambda request: {"Implements": ["VolumeDriver"]},
            "/VolumeDriver.Capabilities": lambda request: {"Capabilities": {"Scope": scope}},
            "/VolumeDriver.List": lambda request: volumes.all(),
            "/VolumeDriver.Get": lambda request: volumes.get(_name(request)),
            "/VolumeDriver.Path": lambda request: volumes.path(_name(request)),
        }
        self.changing: dict[str, t.Callable[[str, Request], Task]] = {
            "/VolumeDriver.Create": lambda name, request: volumes.create(name, request.get("Opts")),
            "/VolumeDriver.Remove": lambda name, request: volumes.remove(name),
            "/VolumeDriver.Mount": lambda name, request: volumes.mount(name, _id(request)),
            "/VolumeDriver.Unmount": lambda name, request: volumes.unmount(name, _id(request)),
        }

    def handle(self, path: str, body: bytes, reply: Reply) -> None:
        """Answer a request, now or when its task is done."""
        try:
            if path in self.asking:
                reply(Answer(200, self.asking[path](_object(body, lenient=True))))
            elif path in self.changing:
                request = _object(body)
                name = _name(request)
                task = self.changing[path](name, request)
                self.tasks.add(name, task, self._replying(path, name, request, reply))
            else:
                reply(Answer(404, {"Err": "%s is no method of a volume driver" % names.shown(path)}))
        except HostError as error:
            reply(failed(error))

    def _replying(self, path: str, name: str, request: Request, reply: Reply) -> t.Callable[..., None]:
        def done(result: dict[str, t.Any], error: HostError | None) -> None:
            if error is not None:
                reply(failed(error))
            elif path == "/VolumeDriver.Mount":
                reply(Answer(200, result, lambda: self.volumes.undo(name, _id(request))))
            else:
                reply(Answer(200, result))

        return done


def failed(error: HostError) -> Answer:
    """The answer that tells an error: what, on what, why, the name of the errno, what to do."""
    text = sentence(error)
    name = errno_name(error)
    return Answer(500, {"Err": "%s (%s)" % (text, ", ".join(part for part in (error.kind, name) if part))})


def errno_name(error: HostError) -> str:
    """The name of the errno an error tells of in words, "" when it tells of none."""
    if error.kind == "timeout" or "no answer" in error.message:
        return "ETIMEDOUT"
    said = error.message.lower()
    found = [number for number in errno.errorcode if os.strerror(number).lower() in said]
    return errno.errorcode[max(found, key=lambda number: len(os.strerror(number)))] if found else ""


def _object(body: bytes, lenient: bool = False) -> Request:
    """The JSON object of a body; ``lenient``: what is none is an empty one. Raises ``invalid``."""
    try:
        found = json.loads(body) if body.strip() else None
    except (ValueError, RecursionError):
        found = body
    if isinstance(found, dict):
        return found
    if lenient:
        return {}
    if found is None:
        # Docker does that when the driver died while it was asked: nothing is known of what it wanted.
        raise HostError("invalid", "the request is empty", "try it again")
    raise HostError("invalid", "the request is no JSON object")


def _name(request: Request) -> str:
    found = request.get("Name")
    if not isinstance(found, str) or not found:
        raise HostError("invalid", "the request has no Name", field="Name")
    return found


def _id(request: Request) -> str:
    found = request.get("ID", "")
    if not isinstance(found, str) or len(found) > LONGEST_ID:
        raise HostError("invalid", "%s is no ID" % names.shown(found), field="ID")
    return found
