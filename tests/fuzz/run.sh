#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Build the fuzz targets with clang, ASan and UBSan, and run each on its corpus.
#
#   run.sh [--seconds N] [--long] [TARGET...]      targets: pool options requests
#   run.sh --replay TARGET FILE                    one input
#
# Short: every file of the corpus, then N (20) seconds of new inputs a target.  --long: an hour a target.  A finding is an
# input that crashes, hangs for 20 s, leaks, or that a sanitizer reports; it is left in $CXLSHM_FUZZ_FOUND (default: the
# present folder's fuzz-found/), and the command that replays it has it whole.  Once mended it belongs into corpus/TARGET/.
# Each minute it prints where the fuzzer is, and last `fuzz TARGET: N executions, N findings`.
# Status: 0, 1 findings, or a target that ran nothing, 77 no clang or no libFuzzer here.
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
	pool | options | requests) targets+=" $1" ;;
	*) sed -n '3,12s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
	esac
	shift
done
targets=${targets:-pool options requests}

work=$(mktemp -d "${TMPDIR:-/tmp}/cxlshm-fuzz.XXXXXX") || exit 1
CXLSHM_DAMAGE_DIR=$(mktemp -d /dev/shm/cxlshm-fuzz.XXXXXX) || CXLSHM_DAMAGE_DIR=$work
export CXLSHM_DAMAGE_DIR
fuzzer=
clean() {
	[ -z "$fuzzer" ] || { kill -KILL "$fuzzer"; wait "$fuzzer"; } 2>/dev/null
	rm -rf "$work" "$CXLSHM_DAMAGE_DIR"
}
trap clean EXIT
trap 'exit 130' INT TERM
# pointer-overflow: an offset may become a pointer before it is checked; it is not followed.
flags=(-std=gnu11 -O1 -g -D_GNU_SOURCE -DCXLSHM_CRASH_POINTS -fno-strict-aliasing -fno-omit-frame-pointer
	-fsanitize=address,undefined -fno-sanitize=pointer-overflow -fno-sanitize-recover=undefined
	-I"$source/include" -I"${CXLSHM_FUZZ_SHM:-$source/shm}" -I"$source/fs" -I"$source/mount-helper" -I"$here")
echo 'int LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return d && n > 1u << 30; }' >"$work/probe.c"
command -v clang >/dev/null && clang -fsanitize=fuzzer,address "$work/probe.c" -o "$work/probe" 2>/dev/null ||
	{
		echo "SKIP: no clang with libFuzzer (Debian: clang libclang-rt-dev)"
		[ "${CXLSHM_REQUIRE_FUSE:-0}" != 1 ] || { echo "FAILED: CXLSHM_REQUIRE_FUSE=1 does not let it be skipped"; exit 1; }
		exit 77
	}

compile() { # compile FOLDER FILE...: an object each, two at a time, unless they are there
	local file folder=$work/$1; shift
	mkdir -p "$folder"
	for file; do
		[ -f "$folder/$(basename "$file" .c).o" ] || printf '%s\0' "$file"
	done | xargs -0 -r -P 2 -I{} sh -c 'exec clang "$@" -c "{}" -o "$0/$(basename "{}" .c).o"' "$folder" \
		"${flags[@]}" -fsanitize=fuzzer-no-link $fuse_flags
}

# tests/fuzz/meson.build has the same list, and device.c what stands behind it.
wraps=
for name in open open64 read write writev ioctl clock_gettime mount umount2 geteuid fuse_session_mount fuse_session_unmount; do
	wraps+=" -Wl,--wrap=$name"
done

build() { # build TARGET
	local file fs=()
	fuse_flags=
	case $1 in
	pool)
		compile shm "${CXLSHM_FUZZ_SHM:-$source/shm}"/*.c && compile damage "$here/damage.c" "$here/damage_use.c" "$here/change.c" &&
			compile pool "$here/fuzz_pool.c" &&
			clang "${flags[@]}" -fsanitize=fuzzer "$work"/{shm,damage,pool}/*.o -lnuma -lpthread -o "$work/$1-fuzzer" ;;
	options)
		clang "${flags[@]}" -fsanitize=fuzzer "$here"/{fuzz_options,options_mkfs,options_fsck}.c "$source/fs/options.c" -o "$work/$1-fuzzer" ;;
	requests)
		for file in "$source"/fs/*.c; do [ "$file" = "$source/fs/main.c" ] || fs+=("$file"); done
		compile shm "${CXLSHM_FUZZ_SHM:-$source/shm}"/*.c && compile damage "$here/damage.c" "$here/damage_use.c" "$here/change.c" || return 1
		fuse_flags="-DFUSE_USE_VERSION=314 $(pkg-config --cflags fuse3)" || return 1
		compile fs "${fs[@]}" && compile requests "$here"/{device,kernel,requests,script,fuzz_requests}.c &&
			clang "${flags[@]}" -fsanitize=fuzzer $wraps "$work"/{shm,damage,fs,requests}/*.o -lnuma -lpthread \
				$(pkg-config --libs fuse3) -o "$work/$1-fuzzer" ;;
	esac
}

export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
found=${CXLSHM_FUZZ_FOUND:-$PWD/fuzz-found}
failed=0
for target in $targets; do
	build "$target" >"$work/log" 2>&1 || { cat "$work/log"; echo "fuzz $target: does not build"; failed=1; continue; }
	if [ -n "$replay" ]; then
		"$work/$target-fuzzer" -timeout=20 "$replay" || failed=1
		continue
	fi
	mkdir -p "$found" "$work/corpus" "$here/corpus/$target"
	echo "fuzz $target: $(ls "$here/corpus/$target" | wc -l) files, then $seconds s"
	rc=0
	# A sequence of requests is worth nothing until it is long.
	[ $target = requests ] && grow=-len_control=0 || grow=
	# A parser complains each time: in an hour to a log of gigabytes.
	[ $target = options ] && mute=3 || mute=1
	"$work/$target-fuzzer" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=400 $grow -close_fd_mask=$mute \
		-print_final_stats=1 -artifact_prefix="$found/$target-" "$work/corpus" "$here/corpus/$target" \
		>"$work/log" 2>&1 </dev/null &
	fuzzer=$! word=$((SECONDS + 60))
	# Not in the foreground, where a signal would wait for its end.
	while sleep 0.5; kill -0 "$fuzzer" 2>/dev/null; do
		[ $SECONDS -ge $word ] || continue
		word=$((SECONDS + 60))
		last=$(grep -a '^#[0-9]' "$work/log" | tail -n 1 | tr '\t' ' ')
		echo "fuzz $target: ${last:-still in its corpus}"
	done
	wait "$fuzzer" || rc=$?
	fuzzer=
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
	rm -rf "$work/corpus"
	if [ $rc != 0 ]; then
		grep -vE '^#[0-9]+[[:space:]]+(NEW|REDUCE|pulse|RELOAD)' "$work/log" | tail -n 60
		input=$(sed -n 's/.*Test unit written to //p' "$work/log" | tail -n 1)
		# Whole, for the folder it lies in may be gone by the time that this is read.
		if [ -f "$input" ]; then
			echo "replay: base64 -d <<<$(base64 -w 0 "$input") >/tmp/fuzz-input && tests/fuzz/run.sh --replay $target /tmp/fuzz-input"
		else
			echo "replay: there is no input; tests/fuzz/run.sh $target fails again?"
		fi
		failed=1
	fi
	echo "fuzz $target: ${runs:-0} executions, $((rc != 0)) findings"
	[ "${runs:-0}" -gt 0 ] || { tail -n 20 "$work/log"; echo "fuzz $target: nothing was executed"; failed=1; }
done
rmdir "$found" 2>/dev/null
exit $failed
