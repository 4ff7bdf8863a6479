#!/bin/sh
# The programs the test suite starts (PostgreSQL, Redis, a browser, synthesisers) and recordings of people that
# it listens to. Installs what is missing when run as root.
set -eu

missing=""
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || missing="$missing postgresql"
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v chromium >/dev/null || missing="$missing chromium"
command -v flite >/dev/null || missing="$missing flite"
command -v espeak-ng >/dev/null || missing="$missing espeak-ng"
ls /usr/share/asterisk/sounds/en_US_f_Allison/*.wav >/dev/null 2>&1 || missing="$missing asterisk-core-sounds-en-wav"

[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "The suite needs these packages; install them as root: apt-get install$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086  # a list of package names
apt-get install -y -qq --no-install-recommends $missing >/dev/null
