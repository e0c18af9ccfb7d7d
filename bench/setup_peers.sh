#!/bin/sh
# Installs what the auditor is compared with: nfstream in a venv of its own, tshark, argus and ndpiReader from Debian, Suricata 7 from its backports.
# A peer that cannot be installed is left out with a word why; bench/run.py then names it as absent.
set -u
here=$(cd "$(dirname "$0")" && pwd)
venv="$here/out/venv"
mkdir -p "$here/out"

if ! "$venv/bin/python" -c 'import nfstream' 2>/dev/null; then
    echo "nfstream: into $venv"
    "${PYTHON:-python3}" -m venv "$venv" && "$venv/bin/python" -m pip install --quiet 'nfstream==6.6.0' ||
        echo "nfstream: not installed (see pip's words above)" >&2
fi

missing=""
command -v tshark >/dev/null || missing="$missing tshark"
command -v argus >/dev/null || missing="$missing argus-server argus-client"
command -v ndpiReader >/dev/null || missing="$missing libndpi-bin"
command -v suricata >/dev/null || missing="$missing suricata"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -eq 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    . /etc/os-release
    apt-get update -qq
    for package in $missing; do
        release=""
        [ "$package" = suricata ] && release="-t $VERSION_CODENAME-backports" # Debian's backports have to be among the sources of apt
        # shellcheck disable=SC2086  # nothing, or an option and its value
        apt-get install $release -y -qq --no-install-recommends "$package" >/dev/null || echo "$package: not installed (see apt's words above)" >&2
    done
else
    echo "as root: apt-get install$missing" >&2
fi
