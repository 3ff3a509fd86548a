#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Run one end-to-end script where it can leave nothing behind: e2e-run.sh SCRIPT [ARGS...]
#
# The script gets a temporary folder, and mount and process namespaces of its own: its mounts go and
# its processes die with it, however it ends, and no other test sees them.  The mounts themselves are
# real ones.  /run is an empty tmpfs in there; the rest of the machine is the machine.
#
# CXLSHM_BUILD          the build folder with the binaries (needed)
# CXLSHM_REQUIRE_FUSE=1 a missing /dev/fuse or privilege is a failure, not a skip (exit status 77)
# CXLSHM_KEEP=1         leave the temporary folder
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
script=$(realpath "$1") || exit 2
shift

missing() {
	echo "SKIP: $*"
	[ "${CXLSHM_REQUIRE_FUSE:-0}" = 1 ] && { echo "FAIL: CXLSHM_REQUIRE_FUSE=1 does not let it"; exit 1; }
	exit 77
}
[ "$(id -u)" = 0 ] || missing "needs root"
[ -c /dev/fuse ] || missing "there is no /dev/fuse"
unshare --mount --pid --fork true 2>/dev/null || missing "may not make namespaces"

dir=$(mktemp -d "/tmp/cxlshm-e2e-$(basename "$script" .sh).XXXXXX") || exit 1
chmod 755 "$dir"
child=
clean() {
	[ -z "$child" ] || kill -KILL "$child" 2>/dev/null
	[ "${CXLSHM_KEEP:-0}" = 1 ] && { echo "kept $dir"; return; }
	rm -rf "$dir"
}
trap clean EXIT
trap 'exit 143' TERM INT HUP

export CXLSHM_SOURCE CXLSHM_BUILD E2E_DIR=$dir E2E_LIB=$here
CXLSHM_SOURCE=$(cd "$here/../.." && pwd)
CXLSHM_BUILD=$(realpath "${CXLSHM_BUILD:?names the build folder}") || exit 2
# Copies of mounts that others have outside would keep those alive after their umount: away with them.
prepare='mount -t tmpfs -o mode=755 e2e-run /run && cd "$E2E_DIR" &&
	for old in $(awk '"'"'$3 == "fuse.cxlshm" || $1 == "cxlshm" { print $2 }'"'"' /proc/self/mounts | tac); do umount -l "$old"; done'
unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
	bash -c "$prepare"' && exec bash "$@"' - "$script" "$@" </dev/null &
child=$!
wait "$child"
rc=$?
child=
exit "$rc"
