#!/bin/bash
# SPDX-License-Identifier: MIT
# run.sh: build and run every benchmark, print one table, write results.md and results.svg beside this file.
#
# usage: run.sh [--quick] [--only GROUP] [--no-install] [--no-rt]
#   --quick       about 3 minutes: fewer repetitions, smaller sizes (default: all, some 10 minutes)
#   --only GROUP  alloc, ref, queue, names, recover, grow, files, tree, fio; may be given more than once.
#                 Its table goes to the build directory; results.md is only written by a run of everything
#   --no-install  do not apt-get missing peers (it is done as root only)
#   --no-rt       ordinary priority; as root, programs and daemons otherwise run above ordinary processes
#                 (SCHED_RR), so that whatever else this machine does shows less
#
# Environment: BENCH_BUILD build directory (default: $TMPDIR/cxlshm-bench-build), BENCH_DIR a tmpfs to work in
# (default: /dev/shm).
#
# Everything runs in a new directory of BENCH_DIR (as root, a tmpfs mounted there), which is removed at the end, however this ends; mounts are
# unmounted and daemons waited for.  FUSE daemons and the program that measures them are pinned to one
# processor: waking another, idle one takes so long in a virtual machine that it would be all one sees.
set -u -o pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=${BENCH_BUILD:-${TMPDIR:-/tmp}/cxlshm-bench-build}
quick= only=() install=1 rt=1
all_groups=(alloc ref queue names recover grow files tree fio)

while [ $# -gt 0 ]; do
	case $1 in
	--quick) quick=-q ;;
	--only)
		[ $# -gt 1 ] || { echo "run.sh: --only needs a group" >&2; exit 2; }
		[[ " ${all_groups[*]} " = *" $2 "* ]] || { echo "run.sh: no group '$2' (${all_groups[*]})" >&2; exit 2; }
		only+=("$2")
		shift
		;;
	--no-install) install= ;;
	--no-rt) rt= ;;
	-h | --help) sed -n '3,/^set/p' "$0" | sed 's/^# \{0,1\}//;$d'; exit 0 ;;
	*) echo "run.sh: unknown option '$1' (try --help)" >&2; exit 2 ;;
	esac
	shift
done
[ ${#only[@]} -gt 0 ] && groups=("${only[@]}") || groups=("${all_groups[@]}")
wanted() { [[ " ${groups[*]} " = *" $1 "* ]]; }
say() { printf '== %s (%s s)\n' "$*" "$SECONDS" >&2; }

# ---- what it needs, and peers ----
if [ -n "$install" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	missing=()
	for p in meson ninja-build gcc g++ pkg-config libnuma-dev libfuse3-dev fuse3 libcmocka-dev python3 git \
		libmimalloc2.0 libjemalloc2 fio gnuplot-nox; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
	done
	if [ ${#missing[@]} -gt 0 ]; then
		say "installing ${missing[*]}"
		apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
			{ apt-get update && apt-get install -y --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 ||
			say "could not install: what is missing is skipped"
	fi
fi
for c in meson ninja gcc python3; do
	command -v $c >/dev/null || { echo "run.sh: $c is missing" >&2; exit 1; }
done

# ---- build ----
say "building in $build"
if [ ! -f "$build/build.ninja" ]; then
	meson setup --buildtype=release "$build" "$root" >"$build.log" 2>&1 ||
		{ tail -n 20 "$build.log"; echo "run.sh: meson setup failed" >&2; exit 1; }
fi
programs=()
for p in alloc ref ref_static queue names recover grow clients files requests writeback; do programs+=("tests/bench/bench_$p"); done
ninja -C "$build" "${programs[@]}" >"$build.log" 2>&1 ||
	{ tail -n 30 "$build.log"; echo "run.sh: the build failed" >&2; exit 1; }
have_daemon= have_fuse_min=
ninja -C "$build" fs/cxlshmfs >>"$build.log" 2>&1 && have_daemon=1
ninja -C "$build" tests/bench/fuse_min >>"$build.log" 2>&1 && have_fuse_min=1
bin=$build/tests/bench

# ---- a place of our own ----
work=$(mktemp -d "${BENCH_DIR:-/dev/shm}/cxlshm-bench-run-XXXXXX") || exit 1
export BENCH_DIR=$work
# As root, a tmpfs of our own, with huge pages as mkfs.cxlshm asks for; for pools and peers alike.
own_tmpfs=
[ "$(id -u)" = 0 ] && mount -t tmpfs -o size=90%,huge=within_size,mode=700 cxlshm-bench "$work" 2>/dev/null &&
	own_tmpfs=1
daemons=()
cleanup() {
	local m p
	trap - EXIT INT TERM HUP
	for m in "$work"/mnt.*; do
		[ -d "$m" ] && mountpoint -q "$m" && { umount "$m" 2>/dev/null || umount -l "$m"; }
	done
	for p in "${daemons[@]}"; do
		kill "$p" 2>/dev/null
		wait "$p" 2>/dev/null
	done
	rm -rf --one-file-system "${work:?}"/*
	[ -z "$own_tmpfs" ] || umount "$work" 2>/dev/null || umount -l "$work"
	rm -rf --one-file-system "$work"
}
trap cleanup EXIT
trap 'cleanup; exit 130' INT TERM HUP
lines=$work/lines.tsv
: >"$lines"
collect() {	# group, then a program to run: keep its lines, show them
	local group=$1
	shift
	timeout 900 "$@" | tee -a "$lines" | awk -F '\t' '
		$1 == "R" { printf "  %-52s %-18s %12.2f %s\n", $3 ($4 ? " " $4 : ""), $5, $7, $6 }
		$1 == "S" { printf "  %-52s %-18s skipped: %s\n", $3, $5, $6 }' >&2 ||
		printf 'S\t%s\tall\t0\tall\tit ended with an error\n' "$group" >>"$lines"
}
skip() { printf 'S\t%s\t%s\t0\t%s\t%s\n' "$1" "${4:-all}" "$2" "$3" | tee -a "$lines" >&2; }	# group, variant, why, case

priority=()
[ -n "$rt" ] && chrt -r 2 true 2>/dev/null && priority=(chrt -r 2)
# Of huge pages a tmpfs has less to give back: once more without.
if wanted alloc; then
	if [ -n "$own_tmpfs" ] && mkdir "$work/mnt.small" &&
		mount -t tmpfs -o size=3G,huge=never,mode=700 cxlshm-bench "$work/mnt.small" 2>/dev/null; then
		export BENCH_SMALL_PAGES=$work/mnt.small
	else
		skip alloc cxlshm "mounting a tmpfs without huge pages needs root" "trim of 32 segments, 4 KiB pages"
	fi
fi
for g in alloc ref queue names recover grow; do
	wanted $g || continue
	say "$g"
	collect $g "${priority[@]}" "$bin/bench_$g" -m $quick
	case $g in
	ref)
		collect $g "${priority[@]}" "$bin/bench_ref_static" -m $quick
		collect $g "$bin/bench_writeback" -m $quick
		;;
	grow) collect $g "${priority[@]}" "$bin/bench_clients" -m $quick ;;
	esac
done

# ---- file systems: each a daemon in the foreground, on processor 0 ----
declare -A commands	# of start, by label
targets=() by_name=() by_path=()	# by_name: files only, and there by name only; by_path: libfuse's passthrough
example() {	# build one of libfuse's
	# shellcheck disable=SC2046
	if [ ! -f "$examples/$1.c" ]; then
		skip files "$1" "its source is not here (libfuse3-dev's examples, apt-get source fuse3)"
	elif ! gcc -O2 -w -D_GNU_SOURCE -DHAVE_UTIMENSAT "$examples/$1.c" -o "$work/$1" \
		$(pkg-config --cflags --libs fuse3) 2>/dev/null; then
		skip files "$1" "$examples/$1.c does not build"
	else
		return 0
	fi
	return 1
}
wait_mounted() {	# mount point, pid
	local i
	for ((i = 0; i < 100; i++)); do
		mountpoint -q "$1" && stat "$1/." >/dev/null 2>&1 && return 0
		kill -0 "$2" 2>/dev/null || return 1
		sleep 0.05
	done
	return 1
}
start() {	# label, command, with @SRC@ and @MNT@
	local label=$1 src=$work/src.$1 mnt=$work/mnt.$1 argument command=()
	shift
	commands[$label]=$(printf '%q ' "$@")
	mkdir -p "$src" "$mnt"
	for argument; do
		argument=${argument//@SRC@/$src}
		command+=("${argument//@MNT@/$mnt}")
	done
	"${priority[@]}" taskset -c 0 "${command[@]}" >"$work/log.$label" 2>&1 &
	daemons+=($!)
	if wait_mounted "$mnt" $!; then
		targets+=("$label=$mnt")
	else
		skip files "$label" "it did not mount: $(head -c 200 "$work/log.$label" | tr '\n\t' '  ')"
		return 1
	fi
}
if wanted files || wanted tree || wanted fio || wanted recover; then
	mkdir -p "$work/tmpfs"
	recovered=
	if [ "$(id -u)" != 0 ] || [ ! -c /dev/fuse ]; then
		skip files all "mounting needs root and /dev/fuse"
	else
		if [ -z "$have_daemon" ]; then
			skip files cxlshm "the daemon does not build"
		elif start cxlshm "$build/fs/cxlshmfs" -f -o size=3G @SRC@ @MNT@; then
			if wanted recover; then
				say "recover, with the daemon"
				recovered=1
				BENCH_DAEMON_POOL=$work/src.cxlshm collect recover "$bin/bench_recover" -m $quick
			fi
		fi
		if wanted files || wanted tree || wanted fio; then
			targets+=("tmpfs=$work/tmpfs")
			if [ -n "$have_fuse_min" ]; then
				start fuse_min "$bin/fuse_min" @SRC@ @MNT@
				# What the kernel's asking again costs, by name: see notes.txt.
				if wanted files && start fuse_min_1s "$bin/fuse_min" @SRC@ @MNT@ 1; then
					by_name+=("+${targets[-1]}")
					unset 'targets[-1]'
				fi
			else
				skip files fuse_min "it does not build: libfuse 3.13 or newer is missing"
			fi
			examples=/usr/share/doc/libfuse3-dev/examples
			if [ ! -f $examples/passthrough_ll.c ] && [ -n "$install" ] && command -v apt-get >/dev/null; then
				(mkdir -p "$work/fuse3" && cd "$work/fuse3" && apt-get source -qq fuse3) >/dev/null 2>&1
				examples=$(dirname "$(find "$work/fuse3" -name passthrough_ll.c 2>/dev/null | head -1)")
			fi
			if example passthrough_ll; then
				start passthrough_ll "$work/passthrough_ll" -f -o source=@SRC@,cache=auto,allow_other @MNT@
			fi
			# libfuse's other one, by paths: no rival for data, and what it has to show there takes long.
			if { wanted files || wanted tree; } && example passthrough && start passthrough "$work/passthrough" \
				-f -o allow_other,modules=subdir,subdir=@SRC@ @MNT@; then
				by_path=("${targets[-1]}")
				by_name+=("+${targets[-1]}")
				unset 'targets[-1]'
			fi
		fi
	fi
	wanted recover && [ -z "$recovered" ] &&
		skip recover cxlshm "there is no daemon (see files)" "SIGKILL to last reference gone, daemon"
	[ ${#targets[@]} -gt 0 ] || targets=("tmpfs=$work/tmpfs")
fi
if wanted files; then
	say files
	clean() {
		local t
		for t in "${targets[@]}" "${by_name[@]}"; do
			t=${t#*=}
			rm -rf "${t:?}"/*
		done
	}
	collect files "${priority[@]}" taskset -c 0 "$bin/bench_files" -m $quick "${targets[@]}" "${by_name[@]}"
	clean
	# And once with nobody pinned.
	for p in "${daemons[@]}"; do taskset -acp "0-$(($(nproc) - 1))" "$p" >/dev/null; done
	BENCH_UNPINNED=1 collect files "${priority[@]}" "$bin/bench_files" -m $quick "${targets[@]}" "${by_name[@]}"
	for p in "${daemons[@]}"; do taskset -acp 0 "$p" >/dev/null; done
	clean
	# How many requests each is sent: the same once more, and they print them.
	say "files, requests"
	timed=("${targets[@]}") logs=() before=${#daemons[@]}
	for t in "${timed[@]}" "${by_name[@]}"; do
		t=${t%%=*} t=${t#+}
		[ -n "${commands[$t]:-}" ] || continue	# no daemon
		eval "start $t.d ${commands[$t]} -d" && logs+=("$t=$work/mnt.$t.d=$work/log.$t.d")
	done
	targets=("${timed[@]}")
	[ ${#logs[@]} = 0 ] || collect files "$bin/bench_requests" -m $quick "${logs[@]}"
	for t in "${logs[@]}"; do
		t=${t#*=}
		umount "${t%%=*}" || umount -l "${t%%=*}"
	done
	for p in "${daemons[@]:before}"; do
		kill "$p" 2>/dev/null
		wait "$p"
	done
	daemons=("${daemons[@]:0:before}")
fi
for g in tree fio; do
	wanted $g || continue
	say $g
	mkdir -p "$work/$g"
	reps=5
	[ -n "$quick" ] && { [ $g = tree ] && reps=3 || reps=1; }
	more=()
	[ $g = tree ] && more=("${by_path[@]}")
	collect $g "${priority[@]}" taskset -c 0 "$here/tree.sh" $g "$work/$g" $reps "${targets[@]}" "${more[@]}"
	rm -rf "${work:?}/$g"
done

# ---- the report ----
out=$here
[ ${#only[@]} -gt 0 ] && out=$build
say "report"
cp "$lines" "$build/results.tsv"
python3 "$here/report.py" "$lines" "$out" "${quick:+quick}" || exit 1
say "written: $out/results.md"
