#!/bin/sh
# Installs what the slow tests need beside Python: Chromium for the dashboard, PostgreSQL for shared studies.
# For Debian and its kin; as root, or through sudo. What is there already is left as it is.
# The tests start and stop both themselves: no server needs to run.
set -eu

missing=""
if command -v chromium >/dev/null 2>&1; then
    echo "chromium: $(command -v chromium)"
else
    # with a font, so that the screenshots have letters
    missing="$missing chromium fonts-liberation"
fi
if postgres=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null || command -v initdb); then
    echo "postgresql: $(dirname "$postgres" | tail -n 1)"
else
    missing="$missing postgresql"
fi
if [ -z "$missing" ]; then
    echo "nothing to install"
    exit 0
fi

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo"
fi
echo "installing:$missing"
$as_root apt-get update
# word splitting is meant: a package a word
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing
echo "installed:$missing"
