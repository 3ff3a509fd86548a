#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# mount-helper/try.sh, as a new user would run it: twice, in a copy of the tree.
. "$E2E_LIB/e2e.sh"
try=$CXLSHM_SOURCE/mount-helper/try.sh
check "there is a try.sh" test -x "$try" || finish
git clone -q "$CXLSHM_SOURCE" "$E2E_DIR/source" 2>"$LOG" || cp -a "$CXLSHM_SOURCE" "$E2E_DIR/source"
# The tree as it is, not only as it was committed.
(cd "$CXLSHM_SOURCE" && git ls-files -co --exclude-standard -z | xargs -0 cp --parents -pt "$E2E_DIR/source" 2>/dev/null)
mkdir "$E2E_DIR/try"
for turn in 1 2; do
	rc=0
	timeout 300 bash "$E2E_DIR/source/mount-helper/try.sh" "$E2E_DIR/try" >"$LOG.try$turn" 2>&1 || rc=$?
	same "try.sh, time $turn" "$rc" 0 || tail -n 30 "$LOG.try$turn"
	check "it prints timings" grep -Eiq '[0-9.]+ ?(ms|us|µs|s)\b' "$LOG.try$turn"
	# .cxlshm/stats behind the kill: the writer's client, with the 1000 that it held.
	check "it shows a client recovered" grep -Eq '^ *clients_recovered[a-z_]* +[1-9]' "$LOG.try$turn"
	check "and its 1000 references" grep -Eq '^ *references_recovered[a-z_]* +[1-9][0-9]{3,}$' "$LOG.try$turn"
	check "and the reader that goes on" grep -q 'the reader goes on, and still sees [1-9]' "$LOG.try$turn"
	check "it says how to unmount" grep -Eq 'umount' "$LOG.try$turn"
done
mnt=$(awk '$3 == "fuse.cxlshm" { print $2 }' /proc/self/mounts | head -n 1)
check "it leaves a mount to play with" test -n "$mnt"
sed 's/^/     | /' "$LOG.try2" | tail -n 25
[ -z "$mnt" ] || check "which works" cp /etc/passwd "$mnt/mine"
finish
