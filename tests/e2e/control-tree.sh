#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The .cxlshm tree: what is in it, its formats (fs/README.md documents them), and Prometheus text.
. "$E2E_LIB/e2e.sh"
. "$E2E_LIB/native.sh"
make_pool "$POOL" 64M
mount_pool
C=$MNT/.cxlshm

echo text >"$MNT/file"
same "ls shows the user's files only" "$(ls "$MNT")" file
matches "ls -a shows .cxlshm" "$(ls -a "$MNT" | tr '\n' ' ')" '\.cxlshm'
same "what is in it" "$(ls "$C" | tr '\n' ' ')" "clients metrics objects pool stats version "
check_refused "it cannot be written" "denied|permitted|read-only|not supported" bash -c 'echo x >"$1/pool"' - "$C"
check_refused "nor added to" "denied|permitted|read-only|not supported" touch "$C/new"
check_refused "nor removed" "denied|permitted|read-only|not supported|not empty" rm -rf "$C"
check_refused "nor renamed" "denied|permitted|read-only|not supported|busy|invalid" mv "$C" "$MNT/x"
check_refused "nor hidden by a file" "exist|denied|permitted|directory" mkdir "$MNT/.cxlshm"

matches "version" "$(cat "$C/version")" 'cxlshm [0-9]+\.[0-9]+\.[0-9]+'
for name in uuid size_bytes free_bytes heap_bytes segment_bytes page_bytes client_slots failure_domain numa format_version; do
	matches "pool: $name" "$(field "$C/pool" $name)" '.'
done
same "pool: path" "$(field "$C/pool" path)" "$POOL"
matches "pool: uuid" "$(field "$C/pool" uuid)" '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
same "pool: failure domain" "$(field "$C/pool" failure_domain)" process
same "pool: every line is a name and a value" "$(grep -Evc '^[a-z_]+ .+$' "$C/pool")" 0
same "stats: every line is a name and a number" "$(grep -Evc '^[a-z_]+ [0-9]+(\.[0-9]+)?$' "$C/stats")" 0
same "stats: files" "$(field "$C/stats" files)" 1

same "clients: the heading" "$(head -n 1 "$C/clients")" "SLOT STATE PID JOINED ERA REFS SEGMENTS ALLOCS FREES ATTACHES RECOVERIES NAME"
same "clients: every row is complete" "$(awk 'NR > 1 && NF < 12' "$C/clients" | wc -l)" 0
daemon=$(daemon_of "$MNT")
check "clients: the daemon's are there" test "$(awk -v p="$daemon" '$3 == p && $2 == "alive"' "$C/clients" | wc -l)" -ge 1
native_start "$POOL" "my program"
same "clients: a native client, the blank in its name made a _" "$(awk -v p="$native_pid" '$3 == p { print $NF }' "$C/clients")" my_program
before=$(awk -v p="$native_pid" '$3 == p { print $6 }' "$C/clients")
native_do heap 100 x && native_do attach 50
same "clients: its references" "$(awk -v p="$native_pid" '$3 == p { print $6 }' "$C/clients")" $((before + 51))
id=$(native_do id)
same "objects/ID: kind" "$(field "$C/objects/$id" kind)" heap
same "objects/ID: size" "$(field "$C/objects/$id" size_bytes)" 100
same "objects/ID: refs" "$(field "$C/objects/$id" refs)" 51
matches "objects/ID: its holder" "$(grep '^holder' "$C/objects/$id")" "^holder client $(native_do slot) 51$"
native_do drop
check "objects/ID goes with the object" test ! -e "$C/objects/$id"
file=$(xattr "$MNT/file" user.cxlshm.id)
check "objects lists the file" test -n "$(ls "$C/objects" | grep -x "$file")"
same "its kind" "$(field "$C/objects/$file" kind)" file
same "its size" "$(field "$C/objects/$file" size_bytes)" 5
check_refused "no such object" "no such" cat "$C/objects/1"
check_refused "not a number" "no such" cat "$C/objects/nonsense"
# One of that name in the pool is only for native clients.
check "native: a file named .cxlshm in the root" native_do create .cxlshm 10
same "is not listed beside the tree" "$(ls -a "$MNT" | grep -cx '\.cxlshm')" 1
same "nor is it seen instead of it" "$(ls "$C" | grep -cx pool)" 1
check "native: unlink it" native_do unlink .cxlshm
native_do drop
check "the native client ends well" native_stop
check "clients: it left" test "$(awk -v p="$native_pid" '$3 == p' "$C/clients" | wc -l)" = 0

check "tar of the whole mount" tar -cf "$E2E_DIR/all.tar" -C "$MNT" .
check "with the file in it" tar -df "$E2E_DIR/all.tar" -C "$MNT" ./file

cp "$C/metrics" "$E2E_DIR/metrics"
check "metrics: valid Prometheus text" python3 "$CXLSHM_SOURCE/tests/e2e/prometheus.py" "$E2E_DIR/metrics"
check "the checker of it can fail" bash -c '! printf "# TYPE a counter\na{x=y} 1\n" | python3 "$1" /dev/stdin' - "$CXLSHM_SOURCE/tests/e2e/prometheus.py"
if command -v promtool >/dev/null; then
	promtool check metrics <"$E2E_DIR/metrics" >"$LOG" 2>&1
	rc=$?
	check "metrics: promtool takes it ($rc)" test "$rc" = 0 -o "$rc" = 3	# 3: advice only
else
	note "SKIPPED: promtool is not installed"
fi
for metric in cxlshm_size_bytes cxlshm_free_bytes cxlshm_clients cxlshm_allocations_total cxlshm_clients_recovered_total; do
	check "metrics: $metric" grep -Eq "^$metric [0-9]" "$E2E_DIR/metrics"
done
a=$(awk '$1 == "cxlshm_allocations_total" { print $2 }' "$C/metrics")
for i in $(seq 50); do echo x >"$MNT/n$i"; done
b=$(awk '$1 == "cxlshm_allocations_total" { print $2 }' "$C/metrics")
check "metrics: fifty files are counted ($a, $b)" test "$b" -ge $((a + 50))
for turn in $(seq 20); do cat "$C"/{pool,clients,stats,metrics,version} "$C"/objects/* >/dev/null 2>&1 & done
for i in $(seq 50); do rm "$MNT/n$i"; done
wait $(jobs -p)
check "read by twenty at once while files go" cat "$C/stats"
finish
