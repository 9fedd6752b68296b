#!/bin/sh
# From nothing to photos on a Debian that has nothing, and install and uninstall there: what changed is compared.
# usage: tests/bare_debian.sh [SUITE]; on demand only: it needs root, debootstrap, package registries and some minutes.
set -eu
SUITE=${1:-bookworm}
LIMIT_S=300 # issue: five minutes from nothing to the demo's table
PROJECT=$(cd "$(dirname "$0")/.." && pwd)

fail() {
    echo "bare_debian: $*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "only root can make a system in a folder"
command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
ROOT=$(mktemp -d)
trap 'rm -rf --one-file-system "$ROOT"' EXIT
trap 'exit 130' INT TERM

# The mirror that this machine uses, and how it reaches registries; certificates of a proxy of its own among it.
# shellcheck disable=SC2016 # apt's own words
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Label: Debian' | head -n 1)
debootstrap --variant=minbase "$SUITE" "$ROOT" "$mirror" >"$ROOT.log" 2>&1 || fail "$(tail -n 5 "$ROOT.log")"
rm -f "$ROOT.log"
cp /etc/resolv.conf "$ROOT/etc/"
certificates=/etc/ssl/certs/ca-certificates.crt
[ ! -e $certificates ] || install -D -m 644 $certificates "$ROOT/root/certificates.crt"
mkdir "$ROOT/root/edenCar"
(cd "$PROJECT" && git ls-files -z | tar -c --null -T -) | tar -x -C "$ROOT/root/edenCar" --no-same-owner

# inside COMMAND: in the new system, in namespaces that take mounts and processes with them when they end.
inside() {
    # shellcheck disable=SC2016 # $1 and $2 are of the shell within
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 ${certificates:+PIP_CERT=/root/certificates.crt} \
        unshare --mount --pid --fork --kill-child --propagation private sh -c '
        mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" sh -euc "$2"' - "$ROOT" "$1"
}

now() { date +%s; }

[ -e "$ROOT/root/certificates.crt" ] || certificates=
port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
begun=$(now)
inside "cd /root/edenCar && ./edencar demo --exit --port $port"
took=$(($(now) - begun))
inside 'head -n 1 /etc/os-release; python3 --version'
echo "bare_debian: $SUITE: from nothing to the demo's table in $took s"
[ $took -le $LIMIT_S ] || fail "that is more than $LIMIT_S s"

# What every real Debian has; then install twice and uninstall twice. Python's caches and logs are not ours to compare.
inside 'apt-get install -qq -y --no-install-recommends systemd udev >/dev/null 2>&1'
snapshot() {
    (cd "$ROOT" && find etc opt usr var/lib/edencar -xdev \( -name __pycache__ -o -path etc/ld.so.cache \) -prune -o \
        ! -type d -printf '%p %m %u %g %s %l\n' -o -printf '%p %m %u %g\n' 2>/dev/null | LC_ALL=C sort)
}
# The user stays: what it made stays, too.
users='^etc/\(passwd\|group\|shadow\|gshadow\|\.pwd\.lock\|subuid\|subgid\)'
compare() {
    if ! printf '%s\n' "$1" | grep -v "$users" | diff - "$ROOT.now"; then
        rm -f "$ROOT.now"
        fail "$2"
    fi
    rm -f "$ROOT.now"
}
before=$(snapshot)
inside '/root/edenCar/edencar install --no-start' | sed 's/[0-9]\{6\}/(PIN)/'
installed=$(snapshot)
[ -z "$(inside '/root/edenCar/edencar install --no-start')" ] || fail "a second install has another PIN to tell"
snapshot | grep -v "$users" >"$ROOT.now"
compare "$installed" "a second install changed something"
inside 'id edencar; mkdir -p /var/lib/edencar/2026-11-22_14-03-12; echo {} >/var/lib/edencar/2026-11-22_14-03-12/recording.json
    /root/edenCar/edencar uninstall; /root/edenCar/edencar uninstall
    cat /var/lib/edencar/2026-11-22_14-03-12/recording.json; rm -r /var/lib/edencar'
snapshot | grep -v "$users" >"$ROOT.now"
compare "$before" "uninstall left something, or took what was not ours"
echo "bare_debian: $SUITE: install and uninstall are idempotent and leave nothing but recordings and their user"
