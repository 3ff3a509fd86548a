#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Build the fuzz targets with clang, ASan and UBSan, and run each on its corpus.
#
#   run.sh [--seconds N] [--long] [TARGET...]      targets: pool options fuse
#   run.sh --replay TARGET FILE                    one input
#
# Short: every file of the corpus, then N (20) seconds of new inputs a target.  --long: an hour a target.  A finding is an
# input that crashes, hangs for 20 s, leaks, or that a sanitizer reports; it is left in $CXLSHM_FUZZ_FOUND (default: the
# present folder's fuzz-found/) with the command that replays it.  Once mended it belongs into corpus/TARGET/.
# Prints `fuzz TARGET: N executions, N findings`.  Status: 0, 1 findings, 77 no clang or no libFuzzer here.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source=$(cd "$here/../.." && pwd)
case ${CXLSHM_TEST_LENGTH:-normal} in quick) seconds=10 ;; long) seconds=3600 ;; *) seconds=20 ;; esac
targets=
replay=
while [ $# -gt 0 ]; do
	case $1 in
	--seconds) seconds=$2; shift ;;
	--long) seconds=3600 ;;
	--replay) targets=$2 replay=$(realpath "$3"); shift 2 ;;
	pool | options | fuse) targets+=" $1" ;;
	*) sed -n '3,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
	esac
	shift
done
[ -n "$targets" ] || { targets="pool options"; [ -f "$here/fuzz_fuse.c" ] && targets+=" fuse"; }

work=$(mktemp -d "${TMPDIR:-/tmp}/cxlshm-fuzz.XXXXXX") || exit 1
CXLSHM_DAMAGE_DIR=$(mktemp -d /dev/shm/cxlshm-fuzz.XXXXXX) || CXLSHM_DAMAGE_DIR=$work
export CXLSHM_DAMAGE_DIR
trap 'rm -rf "$work" "$CXLSHM_DAMAGE_DIR"' EXIT
trap 'exit 130' INT TERM
# pointer-overflow: an offset may become a pointer before it is checked; it is not followed.
flags=(-std=gnu11 -O1 -g -D_GNU_SOURCE -DCXLSHM_CRASH_POINTS -fno-strict-aliasing -fno-omit-frame-pointer
	-fsanitize=address,undefined -fno-sanitize=pointer-overflow -fno-sanitize-recover=undefined
	-I"$source/include" -I"${CXLSHM_FUZZ_SHM:-$source/shm}" -I"$source/fs" -I"$source/mount-helper" -I"$here")
echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 1u << 30; }' >"$work/probe.c"
command -v clang >/dev/null && clang -fsanitize=fuzzer,address "$work/probe.c" -o "$work/probe" 2>/dev/null ||
	{ echo "SKIP: no clang with libFuzzer (Debian: clang libclang-rt-dev)"; exit 77; }

compile() { # compile NAME FILE...: an object each, two at a time
	local file; shift
	for file; do
		printf '%s\0' "$file"
	done | xargs -0 -P 2 -I{} sh -c 'exec clang "$@" -c "{}" -o "$0/$(basename "{}" .c).o"' "$work/o" \
		"${flags[@]}" -fsanitize=fuzzer-no-link $fuse_flags
}

build() { # build TARGET
	local extra=()
	fuse_flags=
	mkdir -p "$work/o"
	case $1 in
	pool)
		compile pool "${CXLSHM_FUZZ_SHM:-$source/shm}"/*.c "$here/damage.c" "$here/fuzz_pool.c" || return 1
		clang "${flags[@]}" -fsanitize=fuzzer "$work"/o/*.o -lnuma -lpthread -o "$work/$1" || return 1 ;;
	options)
		clang "${flags[@]}" -fsanitize=fuzzer "$here/fuzz_options.c" "$source/fs/options.c" -o "$work/$1" || return 1 ;;
	fuse)
		fuse_flags="-DFUSE_USE_VERSION=314 $(pkg-config --cflags fuse3)"
		rm -f "$work"/o/fuzz_pool.o
		local file fs=()
		for file in "$source"/fs/*.c; do case $file in */main.c) ;; *) fs+=("$file") ;; esac; done
		[ -f "$work/o/ref.o" ] || compile pool "${CXLSHM_FUZZ_SHM:-$source/shm}"/*.c || return 1
		compile fuse "$here/damage.c" "$here/fuzz_fuse.c" "${fs[@]}" || return 1
		rm -f "$work/o/options.o"
		clang "${flags[@]}" -fsanitize=fuzzer "$work"/o/*.o "$source/fs/options.c" -lnuma -lpthread $(pkg-config --libs fuse3) \
			-o "$work/$1" || return 1 ;;
	esac
}

export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
found=${CXLSHM_FUZZ_FOUND:-$PWD/fuzz-found}
failed=0
for target in $targets; do
	build "$target" >"$work/log" 2>&1 || { cat "$work/log"; echo "fuzz $target: does not build"; failed=1; continue; }
	if [ -n "$replay" ]; then
		"$work/$target" -timeout=20 "$replay" || failed=1
		continue
	fi
	mkdir -p "$found" "$work/corpus" "$here/corpus/$target"
	echo "fuzz $target: $(ls "$here/corpus/$target" | wc -l) files, then $seconds s"
	rc=0
	"$work/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=400 -close_fd_mask=1 -print_final_stats=1 \
		-artifact_prefix="$found/$target-" "$work/corpus" "$here/corpus/$target" >"$work/log" 2>&1 </dev/null || rc=$?
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
	rm -rf "$work/corpus"
	if [ $rc != 0 ]; then
		grep -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE|pulse|RELOAD)' "$work/log" | tail -n 60
		input=$(sed -n 's/.*Test unit written to //p' "$work/log" | tail -n 1)
		echo "replay: tests/fuzz/run.sh --replay $target ${input:-?}"
		failed=1
	fi
	echo "fuzz $target: ${runs:-0} executions, $((rc != 0)) findings"
done
rmdir "$found" 2>/dev/null
exit $failed
