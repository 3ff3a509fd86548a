#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Random operations agree with a model byte for byte: fsx.sh one|two|small|timeouts.  FSX_SEED repeats a run.
. "$E2E_LIB/e2e.sh"
operations=${FSX_OPERATIONS:-6000}
[ "${CXLSHM_TEST_LENGTH:-normal}" = quick ] && operations=2000
[ "${CXLSHM_TEST_LENGTH:-normal}" = long ] && operations=200000
seed=${FSX_SEED:-$(($(date +%s%N) % 1000000007))}
two=
options=
make_pool "$POOL" 64M
case ${1:-one} in
one) ;;
two) two=$E2E_DIR/mnt2 ;;
small) length=262144 ;;
timeouts) options=attr_timeout=1,entry_timeout=1 ;;
*) echo "fsx.sh one|two|small|timeouts"; exit 2 ;;
esac
mount_pool "$POOL" "$MNT" $options
[ -z "$two" ] || mount_pool "$POOL" "$two"
note "seed $seed; FSX_SEED=$seed repeats it"
check "$operations operations, ${1:-one}" fsx -s "$seed" -n "$operations" -l "${length:-1048576}" "$MNT/fsx" ${two:+"$two/fsx"}
if [ "${1:-one}" = two ]; then
	# Two files at once, four processes' worth of load.
	fsx -s $((seed + 1)) -n "$operations" "$MNT/f1" "$two/f1" >"$LOG.1" 2>&1 & one=$!
	fsx -s $((seed + 2)) -n "$operations" "$two/f2" "$MNT/f2" >"$LOG.2" 2>&1 & other=$!
	check "beside another one: the first" wait $one || cat "$LOG.1"
	check "beside another one: the second" wait $other || cat "$LOG.2"
fi
rm -f "$MNT"/*
check "the extents go with the names" wait_until 5 'test -z "$(ls "$POOL/x")"'
finish
