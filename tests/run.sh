#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Install what is missing, build, run every test, and end with one line: N passed, N failed, N skipped.
#
#   tests/run.sh [--quick | --long] [SUITE...]
#
#   style unit crash sched model fuzz faults e2e soak   suites of the ordinary build (gcc, release)
#   clang                             built with clang: unit
#   asan                              built with ASan and UBSan: unit, crash, the cases of fuzz, flips, and e2e with that daemon
#   tsan                              built with TSan: unit, clients as threads, and e2e with one daemon of many threads
#   plain                             built as users get it, without crash points, and installed
#
# Without SUITE: all of them.  --quick: style, unit, crash and e2e only, with short forms; --long: the long
# forms of crash, fsx and whatever reads CXLSHM_TEST_LENGTH (quick, normal, long).
# tests/README.md says what each suite proves.
#
# CXLSHM_BUILD=DIR       keep the builds there (default: a temporary folder)
# CXLSHM_REQUIRE_FUSE=1  tests that need FUSE or privilege fail instead of being skipped
#
# Exit status: 0 if something passed and nothing failed.  As root, everything runs in process and mount
# namespaces of its own, so that nothing it started or mounted is left, however it ends.
set -u
source=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
start=${CXLSHM_RUN_START:-$(date +%s)}
all="style unit crash sched model fuzz faults e2e soak clang asan tsan plain"
length=normal
suites=
for argument; do
	case $argument in
	--quick) length=quick ;;
	--long) length=long ;;
	-h | --help) sed -n '4,/^set -u/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
	*)
		[[ " $all bench " = *" $argument "* ]] || { echo "run.sh: no suite '$argument'; there are: $all" >&2; exit 2; }
		suites+=" $argument" ;;
	esac
done
[ -n "$suites" ] || { suites=$all; [ $length = quick ] && suites="style unit crash e2e"; }

say() { printf '[%4ds] %s\n' $(($(date +%s) - start)) "$*"; }
stamp() { # the time before each line, without meson's empty lines and its sum (the last line here has one of all)
	local line
	while IFS= read -r line; do
		case $line in "" | Ok:* | "Expected Fail:"* | "Unexpected Pass:"* | Fail:* | Skipped:* | Timeout:* | "Summary of Failures:"*) ;;
		*) say "$line" ;; esac
	done
}

# ---------------------------------------------------------------- what is missing
install_packages() {
	local rc=0
	bash "$source/mount-helper/deps.sh" install </dev/null >/tmp/cxlshm-deps.$$ 2>&1 || rc=$?
	stamp </tmp/cxlshm-deps.$$
	rm -f /tmp/cxlshm-deps.$$
	[ $rc = 0 ] || say "mount-helper/deps.sh: status $rc; going on with what there is"
}

if [ -z "${CXLSHM_RUN_INNER:-}" ]; then
	install_packages
	export CXLSHM_RUN_INNER=1 CXLSHM_RUN_START=$start
	if [ "$(id -u)" = 0 ] && unshare --mount --pid --fork true 2>/dev/null; then
		unshare --mount --pid --fork --kill-child --mount-proc --propagation private bash "${BASH_SOURCE[0]}" "$@" </dev/null &
		inner=$!
		trap 'kill -KILL $inner 2>/dev/null; exit 143' INT TERM HUP
		wait $inner
		exit
	fi
	say "no root: no namespaces, and tests that mount are skipped"
fi

# ---------------------------------------------------------------- in the namespaces
if [ -n "${CXLSHM_BUILD:-}" ]; then
	work=$CXLSHM_BUILD
	mkdir -p "$work" || exit 1
	work=$(cd "$work" && pwd)
	keep=1
else
	work=$(mktemp -d /tmp/cxlshm-build-XXXXXX) || exit 1
	keep=0
fi
results=$work/results
: >"$results"
: >"$work/why"	# what each failed test said, once more at the end, where it is found
rm -rf "$work/tmp" "$work/sanitizer"
mkdir -p "$work/tmp" "$work/sanitizer"
chmod 755 "$work"
if [ $$ = 1 ]; then
	mount -t tmpfs -o mode=1777 run-tests "$work/tmp"
	mount -t tmpfs -o mode=1777 run-tests /dev/shm
fi
export TMPDIR=$work/tmp CXLSHM_TEST_LENGTH=$length
stage=
end() {
	local rc=$?
	[ -z "$stage" ] || kill -TERM -- "-$stage" 2>/dev/null
	[ $$ = 1 ] && umount -l "$work/tmp" 2>/dev/null
	rm -rf "$work/tmp"
	[ "$keep" = 1 ] || rm -rf "$work"
	exit $rc
}
trap end EXIT
trap 'exit 143' INT TERM HUP

# result STAGE NAME ok|fail|skip: one line for the sum.
result() { echo "$3 $1/$2" >>"$results"; }

# limited SECONDS COMMAND...: in a session of its own, its output with the time before each line.
limited() {
	local seconds=$1 rc out=$work/tmp/out.$RANDOM; shift
	mkfifo "$out"
	stamp <"$out" &
	local reader=$!
	setsid timeout --kill-after=20 "$seconds" "$@" >"$out" 2>&1 </dev/null &
	stage=$!
	wait $stage
	rc=$?
	kill -KILL -- "-$stage" 2>/dev/null
	stage=
	wait $reader
	rm -f "$out"
	[ $rc != 124 ] && [ $rc != 137 ] || say "stopped after $seconds s: $*"
	return $rc
}

# build NAME MESON-OPTIONS...: configure and compile $work/NAME; counts as a test.
build() {
	local name=$1; shift
	say "---- build $name"
	[ -f "$work/$name/build.ninja" ] || rm -rf "${work:?}/$name"
	if { [ -f "$work/$name/build.ninja" ] ||
		limited 300 meson setup "$work/$name" "$source" "$@" >"$work/$name.setup" 2>&1; } &&
		limited 1200 ninja -C "$work/$name" >"$work/$name.compile" 2>&1; then
		result build "$name" ok
		say "built $name"
		return 0
	fi
	grep -hE 'error|Error|ERROR|FAILED|undefined|warning' "$work/$name.setup" "$work/$name.compile" 2>/dev/null | head -n 30
	tail -n 5 "$work/$name.compile" 2>/dev/null
	result build "$name" fail
	return 1
}

# tests STAGE BUILD SECONDS MULTIPLIER [--suite SUITE | --verbose | NAME]...: run them, and count each one.  A NAME that meson
# does not know, which it passes over in silence, has failed.
tests() {
	local name=$1 build=$2 seconds=$3 multiplier=$4 log=$work/$2/meson-logs/$1.json; shift 4
	[ -f "$work/$build/build.ninja" ] || return 1
	[ $length = long ] && { seconds=$((seconds * 20)); multiplier=$((multiplier * 20)); }
	say "---- $name"
	rm -f "$log"
	limited "$seconds" meson test -C "$work/$build" --no-rebuild --print-errorlogs --num-processes 2 \
		--timeout-multiplier "$multiplier" --logbase "$name" "$@"
	case $? in 124 | 137) result "$name" stopped-before-its-end fail ;; esac
	python3 - "$log" "$name" "$work/why" "$@" >>"$results" <<'P'
import json, sys
words = {"OK": "ok", "EXPECTEDFAIL": "ok", "SKIP": "skip"}
given = sys.argv[4:]
names = {one for before, one in zip([""] + given, given) if before != "--suite" and not one.startswith("-")}
seen = 0
try:
    for line in open(sys.argv[1]):
        one = json.loads(line)
        seen += 1
        word = words.get(one["result"], "fail")
        short = one["name"].split(" / ")[-1]
        names.discard(short)
        test = f"{sys.argv[2]}/{short}"
        print(word, test)
        if word != "fail":
            continue
        text = (one.get("stdout") or "").splitlines() + (one.get("stderr") or "").splitlines()
        named = [i for i, at in enumerate(text) if "FAIL" in at or "rror" in at][:5]
        shown = sorted({j for i in named for j in range(i, min(i + 6, len(text)))} or range(len(text)))[-40:]
        with open(sys.argv[3], "a") as why:
            print(f'{test}: {one["result"]} after {one["duration"]:.0f} s', *(f"     | {text[j]}" for j in shown), sep="\n", file=why)
except OSError:
    pass
for name in sorted(names):
    print(f"fail {sys.argv[2]}/{name}-did-not-run")
if not seen and not names:
    print(f"fail {sys.argv[2]}/no-test-ran")
P
}

want() { [[ " $suites " = *" $1 "* ]]; }
export ASAN_OPTIONS=log_path=$work/sanitizer/asan:detect_leaks=1:abort_on_error=0
export UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1:log_path=$work/sanitizer/ubsan
export TSAN_OPTIONS=halt_on_error=0:second_deadlock_stack=1:log_path=$work/sanitizer/tsan:die_after_fork=0

# reports NAME: what a sanitizer wrote anywhere, also in a daemon, is a failure.
reports() {
	local file found=0
	for file in "$work/sanitizer/$2"*; do
		[ -s "$file" ] || continue
		found=1
		say "a report: $file"
		head -n 40 "$file" | sed 's/^/     | /'
	done
	result "$1" no-sanitizer-report "$([ $found = 0 ] && echo ok || echo fail)"
	rm -f "$work/sanitizer/$2"*
}

say "suites:$(printf ' %s' $suites); length $length; $(nproc) processors; work folder $work"
for suite in style unit crash sched model fuzz faults e2e soak bench; do
	want $suite && { build gcc --buildtype=release || suites=; break; }
done
# sched and model take one processor each: side by side.
for group in style unit crash "sched model" fuzz faults e2e soak; do
	chosen=
	for suite in $group; do
		case $suite in fuzz | sched | faults | soak) [ -f "$source/tests/$suite/meson.build" ] || continue ;; esac
		want $suite && chosen+=" $suite"
	done
	[ -n "$chosen" ] || continue
	case $chosen in " style") seconds=300 ;; " e2e") seconds=1500 ;; *) seconds=900 ;; esac
	tests "$(tr ' ' - <<<"${chosen# }")" gcc $seconds 2 $(printf -- '--suite %s ' $chosen) $([ "$chosen" = " model" ] && echo --verbose)
done
if want bench; then limited 1800 meson test -C "$work/gcc" --no-rebuild --benchmark --verbose; fi

if want clang; then
	CC=clang CXX=clang++ build clang --buildtype=release && tests clang clang 600 2 --suite unit
fi
# The sanitizers' runs are the short forms: each step takes them ten times as long.
[ $length = long ] || export CXLSHM_TEST_LENGTH=quick
if want asan; then
	if build asan --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false -Dwerror=false; then
		tests asan asan 1200 4 --suite unit
		tests asan-crash asan 600 4 crash_points
		tests asan-e2e asan 900 4 mount-helper mount-errors mount-options control-tree enospc native-file native-heap \
			death-daemon fsx-two posix-rename posix-data posix-directories posix-xattr pool-mkfs
		tests asan-fuzz asan 300 4 pool-cases option-cases request-cases request-corners flips
		reports asan asan
		reports asan ubsan
	fi
fi
if want tsan; then
	if build tsan --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false -Dwerror=false; then
		tests tsan tsan 1200 8 --suite unit
		# One daemon, and no other process that writes to its pool: between processes TSan's 16-byte atomics are none.
		tests tsan-e2e tsan 600 8 concurrent fsx-one fsx-timeouts mount-signals control-xattrs
		reports tsan tsan
	fi
fi
export CXLSHM_TEST_LENGTH=$length
if want plain; then
	if build plain --buildtype=release -Dtests=disabled --prefix=/usr; then
		say "---- plain"
		if limited 300 bash "$source/tests/lib/plain.sh" "$work/plain" "$work/tmp/installed"; then
			result plain installed ok
		else
			result plain installed fail
		fi
	fi
fi

passed=$(grep -c '^ok' "$results")
failed=$(grep -c '^fail' "$results")
skipped=$(grep -c '^skip' "$results")
say "---- done"
sed -n 's/^skip /skipped: /p' "$results"
sed -n 's/^fail /FAILED: /p' "$results"
cat "$work/why"
if [ "$failed" -gt 0 ] && [ "$keep" = 0 ]; then
	logs=$(mktemp -d /tmp/cxlshm-logs-XXXXXX)
	cp "$work"/*.setup "$work"/*.compile "$work"/*/meson-logs/*.txt "$logs" 2>/dev/null
	echo "logs: $logs"
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
