# SPDX-FileCopyrightText: 2026 microvm.host contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker Engine and podman on a lab host."""

from __future__ import annotations

# The host's kernel is User Mode Linux, which has no iptables and no seccomp.
INSTALL = """
set -e
export DEBIAN_FRONTEND=noninteractive
mkdir -p /etc/docker
echo '{"iptables": false, "ip6tables": false, "bridge": "none"}' > /etc/docker/daemon.json
if ! command -v dockerd podman curl busybox > /dev/null; then
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends docker.io docker-cli podman runc busybox-static curl > /dev/null
fi
mkdir -p /etc/containers/containers.conf.d
cd /etc/containers/containers.conf.d
printf '[containers]\\ndefault_ulimits=[]\\n[engine]\\nruntime="runc"\\n' > 00-lab.conf
systemctl reset-failed docker || true
systemctl start docker
if ! docker image inspect alpine > /dev/null 2>&1; then
    tree=$(mktemp -d)
    mkdir -p $tree/bin $tree/etc $tree/mnt
    cp /bin/busybox $tree/bin/
    for name in sh cat cp date dd df echo id ls mount mkdir rm sleep sync tail test touch true; do
        ln -s busybox $tree/bin/$name
    done
    echo 'root:x:0:0::/:/bin/sh' > $tree/etc/passwd
    tar -C $tree -c . | docker import - alpine:latest
fi
podman image exists docker.io/library/alpine || docker save alpine:latest | podman load
"""
