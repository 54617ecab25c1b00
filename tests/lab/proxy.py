# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small HTTP proxy for apt: lab hosts reach Debian's packages through it, by the way this machine reaches them.

Run as a program: proxy.py ADDRESS PORT CACHE MIRROR-JSON. Only the mirror's own host is served. Files under pool/ never
change, so they are kept in CACHE.
"""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import ssl
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

PASSED_ON = ("If-Modified-Since", "Range", "If-Range", "Cache-Control")
RETURNED = ("Content-Length", "Content-Type", "Content-Range", "Last-Modified", "Accept-Ranges")


class PackageProxy(http.server.ThreadingHTTPServer):
    """Forwards GET requests of apt. `mirror` holds url, proxies and ca_file as mirror.Mirror does."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], cache: Path, mirror: dict) -> None:
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)
        upstream = urllib.parse.urlsplit(mirror.get("url") or "")
        self.only_host, self.scheme = upstream.netloc, upstream.scheme or "http"
        context = ssl.create_default_context(cafile=mirror.get("ca_file"))
        handlers: list = [urllib.request.HTTPSHandler(context=context)]
        if mirror.get("proxies"):
            handlers.append(urllib.request.ProxyHandler(mirror["proxies"]))
        self.opener = urllib.request.build_opener(*handlers)
        super().__init__(address, _Request)


class _Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PackageProxy

    def log_message(self, format: str, *args: object) -> None:
        """Keep no access log."""

    def _refuse(self, status: int, reason: str) -> None:
        body = f"{reason}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        if url.scheme != "http" or (self.server.only_host and url.netloc != self.server.only_host):
            self._refuse(403, "this proxy serves the Debian mirror only")
            return
        kept = None
        if "/pool/" in url.path and url.path.endswith(".deb"):
            kept = self.server.cache / urllib.parse.quote(url.path.lstrip("/"), safe="")
            if kept.exists():
                self._send_kept(kept)
                return
        headers = {name: self.headers[name] for name in PASSED_ON if self.headers[name]}
        target = urllib.parse.urlunsplit((self.server.scheme, url.netloc, url.path, url.query, ""))
        try:
            with self.server.opener.open(urllib.request.Request(target, headers=headers), timeout=60) as answer:
                self._forward(answer, kept if answer.status == 200 and "Range" not in headers else None)
        except urllib.error.HTTPError as error:
            if error.code == 304:
                self.send_response(304)
                self.end_headers()
            else:
                self._refuse(error.code, str(error.reason))
        except OSError as error:
            self._refuse(502, str(error))

    def _send_kept(self, kept: Path) -> None:
        with kept.open("rb") as source:
            self.send_response(200)
            self.send_header("Content-Length", str(os.fstat(source.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(source, self.wfile, 1 << 16)

    def _forward(self, answer: Any, kept: Path | None) -> None:
        self.send_response(answer.status)
        for name in RETURNED:
            if answer.headers[name]:
                self.send_header(name, answer.headers[name])
        length = answer.headers["Content-Length"]
        if not length:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        copy = tempfile.NamedTemporaryFile(dir=self.server.cache, delete=False) if kept and length else None
        try:
            received = 0
            while chunk := answer.read(1 << 16):
                self.wfile.write(chunk)
                received += len(chunk)
                if copy:
                    copy.write(chunk)
            if copy and kept and received == int(length):
                copy.close()
                os.replace(copy.name, kept)
            elif length and received != int(length):
                self.close_connection = True
        finally:
            if copy:
                copy.close()
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(copy.name)


def main() -> None:
    """Serve until killed."""
    address, port, cache, mirror = sys.argv[1:5]
    PackageProxy((address, int(port)), Path(cache), json.loads(mirror)).serve_forever()


if __name__ == "__main__":
    main()
