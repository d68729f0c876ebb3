#!/usr/bin/env bash
# What the tests drive beyond Python packages, from Debian: sshd (DVC over SSH), btrfs (reflinks), Chromium
# (pages). The tests start their own; nothing is left running. Where this cannot run, those tests skip and say so.
set -euo pipefail
packages=()
[ -x /usr/sbin/sshd ] || packages+=(openssh-server)
[ -x /usr/sbin/mkfs.btrfs ] || [ -x /sbin/mkfs.btrfs ] || packages+=(btrfs-progs)
command -v chromium >/dev/null || packages+=(chromium)
[ "${#packages[@]}" -gt 0 ] || exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "not installed (needs root and apt-get): ${packages[*]}" >&2
    exit 0
fi
# RUNLEVEL=1: no service is started.
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
