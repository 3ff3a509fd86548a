#!/bin/bash
# SPDX-License-Identifier: MIT
# tree.sh: real programs on a tree of files: tar x, git clone, cp -r, rm -r; and fio profiles.
# usage: tree.sh tree|fio WORKDIR REPS LABEL=DIRECTORY...
# Lines as described in bench.h; repetitions go round the directories.
set -u
what=$1 work=$2 reps=$3
shift 3
targets=("$@")

median_line() {	# group case variant unit, values on stdin
	sort -g | awk -v OFS='\t' -v g="$1" -v c="$2" -v v="$3" -v u="$4" '
		function q(f,  at, low) { at = f * (n - 1); low = int(at)
			return low + 1 < n ? a[low] + (at - low) * (a[low + 1] - a[low]) : a[low] }
		$1 != "" { a[n++] = $1 }
		END { if (n) print "R", g, c, 0, v, u, q(0.5), q(0.25), q(0.75), n
			else print "S", g, c, 0, v, "no run of it gave a number" }'
}

milliseconds() {	# of a command; prints nothing if it fails
	local t0 t1
	t0=$(date +%s%N)
	"$@" >"$work/out" 2>&1 || return 1
	t1=$(date +%s%N)
	awk -v t=$((t1 - t0)) 'BEGIN { printf "%.3f\n", t / 1e6 }'
}

make_tree() {	# 1000 files of 100 B to 64 KiB in 40 directories, the same every time
	python3 - "$work/tree" <<-'PY'
		import os, random, sys
		random.seed(1)
		for d in range(40):
		    path = os.path.join(sys.argv[1], "dir%02d" % (d % 8), "sub%02d" % d)
		    os.makedirs(path)
		    for f in range(25):
		        size = int(100 * 2 ** random.uniform(0, 9.3))
		        with open(os.path.join(path, "file%02d.txt" % f), "wb") as out:
		            out.write(random.randbytes(size // 2).hex().encode())
	PY
	tar -C "$work" -cf "$work/tree.tar" tree
	git -C "$work/tree" init -q
	git -C "$work/tree" add -A
	git -C "$work/tree" -c user.name=bench -c user.email=bench@localhost commit -qm tree
}

run_tree() {
	make_tree
	local t label dir case r
	for ((r = 0; r < reps; r++)); do
		for t in "${targets[@]}"; do
			label=${t%%=*} dir=${t#*=}
			milliseconds tar -C "$dir" -xf "$work/tree.tar" >>"$work/ms.tar.$label" ||
				printf 'S\ttree\ttar x of 1000 files\t0\t%s\t%s\n' "$label" "$(head -c 200 "$work/out" | tr '\n\t' '  ')"
			milliseconds cp -r "$dir/tree" "$dir/copy" >>"$work/ms.cp.$label" ||
				printf 'S\ttree\tcp -r of it\t0\t%s\t%s\n' "$label" "$(head -c 200 "$work/out" | tr '\n\t' '  ')"
			milliseconds git clone -q "file://$work/tree" "$dir/clone" >>"$work/ms.git.$label" ||
				printf 'S\ttree\tgit clone of it\t0\t%s\t%s\n' "$label" "$(head -c 200 "$work/out" | tr '\n\t' '  ')"
			milliseconds rm -rf "$dir/tree" "$dir/copy" "$dir/clone" >>"$work/ms.rm.$label" ||
				printf 'S\ttree\trm -r of all three\t0\t%s\t%s\n' "$label" "$(head -c 200 "$work/out" | tr '\n\t' '  ')"
		done
	done
	for case in "tar:tar x of 1000 files" "cp:cp -r of it" "git:git clone of it" "rm:rm -r of all three"; do
		for t in "${targets[@]}"; do
			label=${t%%=*}
			median_line tree "${case#*:}" "$label" ms <"$work/ms.${case%%:*}.$label"
		done
	done
}

run_fio() {
	if ! command -v fio >/dev/null; then
		printf 'S\tfio\tall\t0\tall\tfio is not installed\n'
		return
	fi
	local profiles=(
		"random read 4 KiB:--rw=randread --bs=4k --ioengine=psync"
		"random write 4 KiB:--rw=randwrite --bs=4k --ioengine=psync"
		"sequential read 128 KiB:--rw=read --bs=128k --ioengine=psync"
		"sequential write 128 KiB:--rw=write --bs=128k --ioengine=psync"
		"random read 4 KiB, mmap:--rw=randread --bs=4k --ioengine=mmap"
		"random write 4 KiB, mmap:--rw=randwrite --bs=4k --ioengine=mmap"
	)
	local p name r t label dir file
	for p in "${profiles[@]}"; do
		name=${p%%:*}
		for ((r = 0; r < reps; r++)); do
			for t in "${targets[@]}"; do
				label=${t%%=*} dir=${t#*=} file="$work/fio.$label.$r"
				# shellcheck disable=SC2086  # the profile is several words
				fio --name=p --filename="$dir/fio.data" --size=64m --runtime=1 --time_based \
					--invalidate=0 --fsync=0 --output-format=json --output="$file" ${p#*:} \
					>/dev/null 2>"$work/out" ||
					printf 'S\tfio\t%s\t0\t%s\t%s\n' "$name" "$label" "$(head -c 200 "$work/out" | tr '\n\t' '  ')"
			done
		done
		for t in "${targets[@]}"; do
			label=${t%%=*}
			for ((r = 0; r < reps; r++)); do
				python3 - "$work/fio.$label.$r" <<-'PY' 2>/dev/null
					import json, sys
					text = open(sys.argv[1]).read()
					job = json.loads(text[text.index("{"):])["jobs"][0]
					print((job["read"]["bw_bytes"] + job["write"]["bw_bytes"]) / 1e9)
				PY
				rm -f "$work/fio.$label.$r"
			done | median_line fio "$name" "$label" GB/s
		done
	done
	for t in "${targets[@]}"; do
		rm -f "${t#*=}/fio.data"
	done
}

"run_$what"
