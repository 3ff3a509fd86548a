#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# kill -9 of a process that holds things: its references are gone soon, and nothing else notices.  How soon is printed,
# and measured by tests/bench.
. "$E2E_LIB/e2e.sh"
. "$E2E_LIB/native.sh"
make_pool "$POOL" 128M
mount_pool

clients_of() { awk -v p="$1" 'NR > 1 && $3 == p' "$MNT/.cxlshm/clients" | wc -l; }
# Milliseconds from the kill until `gone PID` succeeds; the limit is generous, the time is reported and judged.
kill_and_time() { # TEXT PID COMMAND...
	local text=$1 pid=$2 start took; shift 2
	start=$(date +%s%N)
	kill -9 "$pid"
	if wait_until 10 "$@"; then
		took=$((($(date +%s%N) - start) / 1000))
		times+=("$took")
		ok "$text: gone $took us after the kill"
	else
		fail "$text: not gone after 10 s"
	fi
}
times=()
no_client() { [ "$(clients_of "$1")" = 0 ]; }

native_start "$POOL" neighbour
neighbour_in=$native_in neighbour_out=$native_out neighbour_pid=$native_pid
native_do heap 100 "stays" && native_do link stays || fail "the neighbour's object"
for count in 0 1000 100000; do
	native_start "$POOL" victim
	native_do create "file$count" 65536 && native_do attach "$count" || fail "the victim holds $count references"
	check "a client with $((count + 1)) references is in .cxlshm/clients" test "$(clients_of "$native_pid")" = 1
	matches "with its name, references and state" "$(awk -v p="$native_pid" '$3 == p { print $2, $6, $NF }' "$MNT/.cxlshm/clients")" "^alive [0-9]+ victim$"
	held=$(awk -v p="$native_pid" '$3 == p { print $6 }' "$MNT/.cxlshm/clients")
	check "it holds them ($held)" test "$held" -ge "$count"
	slot=$(native_do slot)
	matches "and the file's xattr names it" "$(xattr "$MNT/file$count" user.cxlshm.holders)" "(^|,)$slot:"
	kill_and_time "kill -9 with $((count + 1)) references" "$native_pid" no_client "$native_pid"
	same "the file's xattr no longer names it" "$(xattr "$MNT/file$count" user.cxlshm.holders | tr , '\n' | grep -c "^$slot:")" 0
	same "the file is unharmed" "$(stat -c %s "$MNT/file$count")" 65536
done
# Eleven more, for the spread.
for turn in $(seq 11); do
	native_start "$POOL" victim
	native_do create "turn$turn" 4096 && native_do attach 100
	pid=$native_pid
	start=$(date +%s%N)
	kill -9 "$pid"
	wait_until 10 no_client "$pid" || fail "turn $turn: not gone after 10 s"
	spread[turn]=$((($(date +%s%N) - start) / 1000))
done
middle=$(printf '%s\n' "${spread[@]}" | sort -n | sed -n 6p)
note "11 kills, us until the references are gone: $(printf '%s\n' "${spread[@]}" | sort -n | tr '\n' ' ')"
# The monitor looks every second without being told: the middle one must have been told.
check "the median of 11 kills ($middle us) is less than the second between the monitor's rounds" test "$middle" -lt 900000

# A nameless object goes with its holder.
native_start "$POOL" victim
native_do extent 1048576 || fail "an extent object"
extents=$(ls "$POOL/x" | wc -l)
one_less() { [ "$(ls "$POOL/x" | wc -l)" = $((extents - 1)) ]; }
kill_and_time "kill -9 of the only holder of an object: its extent" "$native_pid" one_less

native_start "$POOL" victim
native_do open file1000 && native_do map && native_do unlink file1000 || fail "the victim maps and unlinks"
extents=$(ls "$POOL/x" | wc -l)
kill_and_time "kill -9 of the last one to map an unlinked file: its extent" "$native_pid" one_less

# A process that holds a file of the mount, not a client: the kernel closes and unmaps for it.
for mode in open shared; do
	dd if=/dev/urandom of="$MNT/mapped" bs=64k count=1 status=none
	hold "$MNT/mapped" $mode
	id=$(xattr "$MNT/mapped" user.cxlshm.id)
	rm "$MNT/mapped"
	extents=$(ls "$POOL/x" | wc -l)
	sleep 0.3
	same "an unlinked file, with nothing of it left but that" "$(uses "$hold_pid" "$MNT/")" "1 mapped, $([ $mode = open ] && echo 1 || echo 0) open"
	same "is seen as mapped" "$(field "$MNT/.cxlshm/objects/$id" mapped)" 1
	same "keeps its extent and bytes" "$(ls "$POOL/x" | wc -l) $(ask_holder check)" "$extents same"
	kill_and_time "kill -9 of a process that has it mapped$([ $mode = open ] && echo " and open"): its extent" "$hold_pid" one_less
	exec {hold_in}>&- {hold_out}<&-
done

# The same of very many files, beside as many that somebody else has mapped (and did not open: its parent did).
many() { for i in $(seq "$2" "$3"); do printf '%s\n' "$MNT/$1$i"; done; }
MANY=1500
mapfile -t theirs < <(many theirs 1 $MANY)
mapfile -t others < <(many others 1 $MANY)
for path in "${theirs[@]}" "${others[@]}"; do echo "$path" >"$path"; done
hold "${others[0]}" fork "${others[@]:1}"
others_in=$hold_in others_out=$hold_out others_pid=$hold_pid
hold "${theirs[0]}" shared "${theirs[@]:1}"
rm "${theirs[@]}" "${others[@]}"
extents=$(ls "$POOL/x" | wc -l)
so_many_less() { [ "$(ls "$POOL/x" | wc -l)" = $((extents - MANY)) ]; }
so_many_gone() { [ "$(ls "$POOL/x" | wc -l)" = $((extents - 2 * MANY)) ]; }
sleep 1
kill_and_time "kill -9 of a process that has $MANY files mapped, as many are by another: their extents" "$hold_pid" so_many_less
exec {hold_in}>&- {hold_out}<&-
hold_in=$others_in hold_out=$others_out
same "the other still has all of its mapped, with their bytes" "$(ls "$POOL/x" | wc -l) $(uses "$others_pid" "$MNT/") $(ask_holder check)" "$((extents - MANY)) $MANY mapped, 0 open same"
kill_and_time "kill -9 of that one: their extents" "$others_pid" so_many_gone
exec {hold_in}>&- {hold_out}<&-

# A client in another PID namespace may have the number of a process here that has nothing to do with it.
sleep 1000 & bystander=$!
elsewhere() { # the process id of the native client there must be $1
	exec unshare --pid --fork --kill-child bash -c 'echo $(($1 - 1)) >/proc/sys/kernel/ns_last_pid
		native "$2" elsewhere <&0 & echo "$!"; wait' - "$1" "$POOL"
}
peer_start elsewhere "$bystander"
same "a client in another PID namespace is process $bystander there, as a process here is" "$({ peer_ask ""; peer_ask ""; } | grep -v ready)" "$bystander"
same "and in .cxlshm/clients" "$(awk '$NF == "elsewhere" { print $3 }' "$MNT/.cxlshm/clients")" "$bystander"
kill "$bystander"
wait "$bystander" 2>/dev/null
sleep 1
switches() { awk '$1 == "voluntary_ctxt_switches:" { sum += $2 } END { print sum }' /proc/"$(daemon_of "$MNT")"/task/*/status; }
before=$(switches)
sleep 2
woken=$(($(switches) - before))
check "that one's death wakes the daemon once, and not on and on ($woken wake-ups in 2 s)" test "$woken" -lt 60
no_elsewhere() { ! grep -q ' elsewhere$' "$MNT/.cxlshm/clients"; }
kill_and_time "kill -9 of the client: by the round each second" "$peer_pid" no_elsewhere

native_in=$neighbour_in native_out=$neighbour_out native_pid=$neighbour_pid
same "the neighbour noticed nothing" "$(native_do load 0 5)" stays
check "and works on" native_do attach 10
check "and ends well" native_stop
finish
