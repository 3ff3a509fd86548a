#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The proof: everything that is to show that a client may die at any instruction, and one table of it at the end.
#
#   proof.sh [--long [--minutes N] [--damage M]] [--keep-logs DIR] [PART...]   parts: crash host sched wait model soak fuzz flips faults
#
# Builds in a temporary folder ($CXLSHM_BUILD, if set, is a build that exists and is used).  Short: some minutes.
# --long: N minutes (240) are shared by the parts that have no end of their own: sched a half, soak a
# quarter, each target of fuzz a twelfth.  The others run whole: crash, host (its normal form), wait, model, faults and flips, of which flips takes
# most (tests/README.md has the times of a run); with --damage M it takes as many of its cases, in a fixed shuffled order, as M
# minutes allow.  Progress is shown once a minute.
# Every figure in the table is read from this run's own output; `-` stands for a part that was not asked for, or told nothing.
# A failing part shows its output, which has the command that replays the failure; the logs, with what fuzz has found, are
# kept then, and the last line says where.  One whose program is not in the build has
# failed, and so has one that was named and is skipped.
# As root it runs in mount and process namespaces of its own with a /dev/shm of its own: however it ends, nothing is left.
# Status: 0; 1 if any part failed or told no figures, or none passed.
set -u
args=("$@")
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
all="crash host sched wait model soak faults flips fuzz"
long=
minutes=240
damage=
logs=
named=
while [ $# -gt 0 ]; do
	case $1 in
	--long) long=1 ;;
	--minutes)
		minutes=${2:-}
		[[ $minutes =~ ^[1-9][0-9]*$ ]] || { echo "proof: --minutes wants a number of minutes" >&2; exit 2; }
		shift ;;
	--damage)
		damage=${2:-}
		[[ $damage =~ ^[1-9][0-9]*$ ]] || { echo "proof: --damage wants a number of minutes" >&2; exit 2; }
		shift ;;
	--keep-logs) logs=$2; shift ;;
	*)
		[[ " $all " = *" $1 "* ]] || { sed -n '3,/^set -u/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
		named+=" $1" ;;
	esac
	shift
done
parts=${named:-$all}
pid=
if [ -z "${CXLSHM_PROOF_WORK:-}" ]; then
	work=$(mktemp -d "${TMPDIR:-/tmp}/cxlshm-proof.XXXXXX") || exit 1
	trap 'rm -rf "$work"' EXIT
	logs=${logs:-$work/logs}
	mkdir -p "$logs" || exit 1
	if [ "$(id -u)" = 0 ] && unshare --mount --pid --fork true 2>/dev/null; then
		CXLSHM_PROOF_WORK=$work unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
			bash "${BASH_SOURCE[0]}" ${args[@]+"${args[@]}"} </dev/null &
		inner=$!
		# Told to end is the first process in there, which clears up; killed, if it does not, it takes all others with it.
		stop() {
			local first i
			first=$(<"/proc/$inner/task/$inner/children")
			kill -TERM $first 2>/dev/null
			for ((i = 0; i < 100; i++)); do kill -0 $inner 2>/dev/null && sleep 0.1; done
			kill -KILL $first $inner 2>/dev/null
			wait $inner
			exit 130
		}
		trap stop INT TERM HUP
		wait $inner
		exit
	fi
	echo "proof: no root: no namespaces, what needs to mount is skipped, and an interrupted run leaves files in /dev/shm"
else
	work=$CXLSHM_PROOF_WORK
	logs=${logs:-$work/logs}
	unset CXLSHM_PROOF_WORK
	# Folders that were given and are in /dev/shm stay where they are.
	there=() held=()
	for path in "$work" "$logs" "$source" "${CXLSHM_BUILD:-$work}"; do
		path=$(realpath "$path") && [[ $path = /dev/shm/* ]] && exec {fd}<"$path" && there+=("$path") held+=("$fd")
	done
	mount -t tmpfs -o mode=1777 proof /dev/shm || exit 1
	for i in ${there[@]+"${!there[@]}"}; do
		mkdir -p "${there[i]}" && mount --no-canonicalize --bind "/proc/self/fd/${held[i]}" "${there[i]}" || exit 1
		fd=${held[i]}
		exec {fd}<&-
	done
fi
for part in $all; do rm -f "$logs/$part" "$logs/$part.status"; done	# an earlier run's
stop() {
	local i
	[ -z "$pid" ] || kill -TERM -- -$pid 2>/dev/null
	for ((i = 0; i < 50; i++)); do [ -n "$pid" ] && kill -0 $pid 2>/dev/null && sleep 0.1; done
	exit 130
}
trap stop INT TERM HUP
started=$(date +%s)
say() { printf '[%4ds] %s\n' $(($(date +%s) - started)) "$*"; }
[ -n "$long" ] && export CXLSHM_TEST_LENGTH=long || export CXLSHM_TEST_LENGTH=quick

build=${CXLSHM_BUILD:-}
if [ -z "$build" ]; then
	build=$work/build
	say "building"
	meson setup "$build" "$source" --buildtype=release >"$logs/build" 2>&1 && ninja -C "$build" >>"$logs/build" 2>&1 ||
		{ tail -n 30 "$logs/build"; echo "proof: it does not build"; exit 1; }
fi
export CXLSHM_BUILD=$build

failed=()
passed=0
# part NAME BUDGET COMMAND...: run it, its progress on the terminal once a minute, its output in a log.
part() {
	local name=$1 budget=$2 rc=0 last= line; shift 2
	[[ " $parts " = *" $name "* ]] || return 0
	if ! command -v "$1" >/dev/null; then
		failed+=("$name")
		echo absent >"$logs/$name.status"
		say "$name: FAILED: there is no $1"
		return
	fi
	say "$name: $budget"
	setsid "$@" >"$logs/$name" 2>&1 </dev/null &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		for ((i = 0; i < 60; i++)); do kill -0 $pid 2>/dev/null && sleep 1; done
		line=$(tail -c 300 "$logs/$name" 2>/dev/null | tr -d '\0' | tail -n 1)
		[ "$line" = "$last" ] || ! kill -0 $pid 2>/dev/null || say "$name: ... ${line:0:150}"
		last=$line
	done
	wait $pid || rc=$?
	pid=
	echo $rc >"$logs/$name.status"
	case $rc in
	0)
		passed=$((passed + 1))
		say "$name: passed" ;;
	77)
		say "$name: skipped: $(grep -m 1 -i skip "$logs/$name")"
		[ -z "$named" ] || failed+=("$name") ;;
	*)
		failed+=("$name")
		say "$name: FAILED (status $rc)"
		grep -E 'FAIL|replay|Error|error' "$logs/$name" | head -n 40 | sed 's/^/     | /'
		tail -n 5 "$logs/$name" | sed 's/^/     | /' ;;
	esac
}

# share PARTS-OF-TWELVE SHORT: seconds
share() { [ -n "$long" ] && echo $((minutes * 60 * $1 / 12)) || echo "$2"; }
part crash "every crash point, and each in the recovery it causes${long:+ (up to 16 passages of a point in one recovery)}" \
	"$build/tests/crash/crash" ${long:+--long}
part host "the same with what a machine that dies takes along" "$build/tests/crash/crash-host"
part sched "interleavings, $(share 6 120) s" \
	"$build/tests/sched/sched" ${long:+--long --jobs 2} --seconds "$(share 6 120)"
part wait "a neighbour of one who is stopped" "$build/tests/wait/wait" ${long:+--long}
part model "models${long:+, full}" bash "$source/tests/model/check.sh" "$([ -n "$long" ] && echo full || echo quick)"
part soak "soak, $(share 3 30) s" bash "$source/tests/soak/soak.sh" --seconds "$(share 3 30)"
part faults "faults around a pool" "$build/tests/faults/faults"
if [ -n "$long" ] && [ -z "$damage" ]; then
	part flips "damage, every byte and word" "$build/tests/fuzz/flips" --long
else
	seconds=50
	[ -z "$long" ] || seconds=$((damage * 60))
	part flips "damage, $seconds s" "$build/tests/fuzz/flips" --seconds "$seconds"
fi
part fuzz "libFuzzer, $(share 1 20) s a target" \
	env CXLSHM_FUZZ_FOUND="$logs/fuzz-found" bash "$source/tests/fuzz/run.sh" --seconds "$(share 1 20)"

# ---------------------------------------------------------------- the table
# figure NAME REGULAR-EXPRESSION: the last line of the log that matches, its groups.
figure() { sed -nE "s/.*$2.*/$3/p" "$logs/$1" 2>/dev/null | tail -n 1; }
missing=0
row() { # row PART TEXT FIGURES
	local status verdict=-
	if [ -f "$logs/$1.status" ]; then
		status=$(<"$logs/$1.status")
		case $status in 0) verdict=passed ;; 77) verdict=skipped ;; *) verdict=FAILED ;; esac
		if [ "$status" = 0 ] && [ -z "$3" ]; then verdict="no figures"; missing=1; fi
	fi
	printf '| %-48s | %-44s | %-10s |\n' "$2" "${3:--}" "$verdict"
}
dead='crash: ([0-9]+) points listed, ([0-9]+) reached, ([0-9]+) of them inside recovery, ([0-9]+) deaths, ([0-9]+) second deaths, ([0-9]+) failures'
echo
printf '| %-48s | %-44s | %-10s |\n' "" "this run" ""
printf '|%s|%s|%s|\n' "$(printf -- '-%.0s' {1..50})" "$(printf -- '-%.0s' {1..46})" "$(printf -- '-%.0s' {1..12})"
row crash "crash points listed / reached / in recovery" "$(figure crash "$dead" '\1 \/ \2 \/ \3')"
row crash "deaths / second deaths, in recovery / failures" "$(figure crash "$dead" '\4 \/ \5 \/ \6')"
row crash "rounds of a live neighbour beside the dead" "$(figure crash "$dead, .* ([0-9]+) rounds of the neighbour" '\7')"
row host "host: deaths / second deaths / failures" "$(figure host "$dead" '\4 \/ \5 \/ \6')"
whole='sched: ([0-9]+) pairs, ([0-9]+) disjoint; whole with 2 preemptions ([0-9]+), 3: ([0-9]+), any: ([0-9]+); beside a death at any step 0: ([0-9]+), 1: ([0-9]+), 2: ([0-9]+), 3: ([0-9]+),.*'
row sched "pairs / disjoint" "$(figure sched "$whole" '\1 \/ \2')"
row sched "whole with 2 / 3 / any number of preemptions" "$(figure sched "$whole" '\3 \/ \4 \/ \5')"
row sched "whole beside a death, with 0 / 1 / 2 / 3 preemptions" "$(figure sched "$whole" '\6 \/ \7 \/ \8 \/ \9')"
triples=${whole/pairs/triples}
row sched "triples / whole with 2 / 3 preemptions" "$(figure sched "$triples" '\1 \/ \3 \/ \4')"
row sched "triples whole beside a death, with 0 / 1" "$(figure sched "$triples" '\6 \/ \7')"
schedules='sched: ([0-9]+) states, ([0-9]+) schedules, ([0-9]+) crashes, ([0-9]+) histories checked, ([0-9]+) failures'
row sched "states / schedules that end differently / with a death / failures" "$(figure sched "$schedules" '\1 \/ \2 \/ \3 \/ \5')"
row wait "crash points stopped at" "$(figure wait 'wait: stopped at ([0-9]+) of ([0-9]+) crash points.*' '\1 of \2')"
row wait "slowest survivor" "$(figure wait 'slowest survivor ([0-9.]+ us \([^)]*\)).*' '\1')"
states='([0-9]+) runs, ([0-9]+) states.*'
row model "model runs as expected / states" "$(awk '/^(holds|breaks) / { if ($1 == $3) ok++; runs++; states += $4 }
	END { if (runs) printf "%d of %d / %d", ok, runs, states }' "$logs/model" 2>/dev/null)"
row model "rules taken away with a counterexample" "$(awk '/^[a-z]+ +expected breaks/ && / -D(BUG|HOLE)_/ {
	n = $0; sub(/.* -D(BUG|HOLE)_/, "", n); sub(/ .*/, "", n); all[n] = 1; if ($1 == "breaks") hit[n] = 1 }
	END { for (n in all) a++; for (n in hit) h++; if (a) printf "%d of %d", h, a }' "$logs/model" 2>/dev/null)"
soak='soak: ([0-9]+) rounds, ([0-9]+) kills survived, ([0-9]+) of the daemon, ([0-9]+) stopped, ([0-9]+) KiB in use after the first round, at most ([0-9]+) later.*'
row soak "soak: kills survived / of the daemon / stopped" "$(figure soak "$soak" '\2 \/ \3 \/ \4')"
row soak "memory in use after the first round / at most" "$(figure soak "$soak" '\5 \/ \6 KiB')"
row faults "faults: cases passed / failed / skipped" "$(figure faults 'faults: ([0-9]+) passed, ([0-9]+) failed, ([0-9]+) skipped' '\1 \/ \2 \/ \3')"
flips='flips: ([0-9]+) of ([0-9]+) cases, ([0-9]+) refused, ([0-9]+) found, ([0-9]+) repaired, ([0-9]+) beyond[^,]*, ([0-9]+) harmless, ([0-9]+) wrongly[^,]*, ([0-9]+) crashes, ([0-9]+) hangs.*'
row flips "bytes and words damaged, of all there are" "$(figure flips "$flips" '\1 of \2')"
row flips "refused / repaired / reported / harmless" "$(figure flips "$flips" '\3 \/ \5 \/ \6 \/ \7')"
row flips "falsely repaired / crashes / hangs" "$(figure flips "$flips" '\8 \/ \9 \/ HANGS' | sed "s/HANGS/$(figure flips '.* ([0-9]+) hangs.*' '\1')/")"
row flips "damaged pools mounted: served / refused" "$(figure flips 'flips: daemon: ([0-9]+) served, ([0-9]+) refused.*' '\1 \/ \2')"
for target in pool options requests; do
	grep -q "^fuzz $target:" "$logs/fuzz" 2>/dev/null || continue
	row fuzz "fuzz $target: executions / findings" "$(figure fuzz "fuzz $target: ([0-9]+) executions, ([0-9]+) findings" '\1 \/ \2')"
done
echo
kept=
if [ ${#failed[@]} -gt 0 ] && [ "$logs" = "$work/logs" ]; then
	kept=$(mktemp -d /tmp/cxlshm-proof-logs-XXXXXX) && cp -r "$logs/." "$kept"
fi
say "$passed parts passed, ${#failed[@]} failed${failed[0]:+: ${failed[*]}}${kept:+; their logs are in $kept}"
[ $passed -gt 0 ] && [ ${#failed[@]} = 0 ] && [ $missing = 0 ]
