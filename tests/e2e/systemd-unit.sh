#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The templated systemd unit: systemd-analyze finds nothing wrong in it.
. "$E2E_LIB/e2e.sh"
unit=$(ls "$CXLSHM_SOURCE"/mount-helper/*@.service* "$CXLSHM_SOURCE"/mount-helper/*/*@.service* 2>/dev/null | head -n 1)
check "there is a templated unit" test -n "$unit"
command -v systemd-analyze >/dev/null || { [ "$failures" = 0 ] && { echo "SKIP: systemd-analyze is not installed"; exit 77; }; finish; }
mkdir "$E2E_DIR/units" "$E2E_DIR/bin"
ln -s "$(command -v cxlshmfs)" "$(command -v mkfs.cxlshm)" "$(command -v mount.cxlshm)" "$(command -v fsck.cxlshm)" "$E2E_DIR/bin/"
name=$(basename "${unit%.in}")
# systemd-analyze wants the programs to exist where they would be installed: here in the build.
sed -E "s,(@[a-zA-Z_]+@|/usr/local/s?bin|/usr/s?bin|/s?bin)/(cxlshmfs|mkfs\.cxlshm|mount\.cxlshm|fsck\.cxlshm),$E2E_DIR/bin/\2,g" "$unit" >"$E2E_DIR/units/$name"
instance=${name/@./@run-cxlshm-pool.}
cp "$E2E_DIR/units/$name" "$E2E_DIR/units/$instance"
check "systemd-analyze verify" systemd-analyze verify --man=no "$E2E_DIR/units/$instance"
# Of other units on the machine it may complain; of this one it may not.
same "says nothing about it" "$(grep -c cxlshm "$LOG")" 0 || cat "$LOG"
printf '[Service]\nType=notify\nExecStart=%s/bin/nosuch\n' "$E2E_DIR" >"$E2E_DIR/units/broken.service"
check_refused "and it does see what is wrong" "broken" systemd-analyze verify --man=no "$E2E_DIR/units/broken.service"
check "it is of Type=notify" grep -q '^Type=notify' "$unit"
check "its programs are there" bash -c 'for p in $(sed -nE "s/^Exec[A-Za-z]*=[-+!@:]*([^ ]+).*/\1/p" "$1" | grep "$2"); do test -x "$p" || exit 1; done' - "$E2E_DIR/units/$name" "$E2E_DIR"
finish
