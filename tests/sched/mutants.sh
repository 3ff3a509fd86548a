#!/bin/bash
# SPDX-License-Identifier: MIT
# Does the interleaving test find mistakes?  Takes single lines of the protocol out of a copy of shm/, builds the test
# against it, and expects a failure.  Exit 0: each mutant was caught; 1: not; 77: no compiler.
#
#   mutants.sh [SECONDS_EACH] [NAME...]        CC, CFLAGS and JOBS are heeded
#
# Without arguments and with CXLSHM_TEST_LENGTH set to anything but long it is skipped.
set -u
[ $# -gt 0 ] || [ "${CXLSHM_TEST_LENGTH:-long}" = long ] || { echo "in the long form only"; exit 77; }
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
seconds=${1:-30}
shift || true
cc=${CC:-cc}
command -v "$cc" >/dev/null || { echo "no $cc here"; exit 77; }
work=$(mktemp -d "${TMPDIR:-/tmp}/cxlshm-mutants-XXXXXX")
trap 'rm -rf "$work"' EXIT
flags="-std=gnu11 -O2 -g -w -D_GNU_SOURCE -U_FORTIFY_SOURCE -fno-strict-aliasing -fno-common ${CFLAGS:-}"
[ "$(uname -m)" = x86_64 ] && flags+=" -mcx16"
base=$work/base
mkdir -p "$base/o"
cp "$root"/shm/*.[ch] "$here"/*.[ch] "$base"
sed -i 's/^#define POLLS .*/#define POLLS 1u/' "$base/api_queue.c"
mkdir "$work/lib"
cp "$here"/../lib/*.h "$work/lib"	# "../lib" of every copy

# As meson.build has it: what is followed, and what is not.
flags_of() {
	case $(basename "$1") in
	check*|numa*|pool*|main.c|explore.c|fiber.c|linear.c|memory.c|pairs.c|search.c|world.c) ;;
	*) echo "-fsanitize=thread -fno-tree-loop-distribute-patterns -include $(dirname "$1")/standins.h" ;;
	esac
}

# name | area, or pair, to look in | files | perl -0 expression, which must change each of them
#
# bump_or_unseal takes out two lines: the bump after an exchange was given up (rule 3), and the unsealing of a record before
# it is filled anew.  Each makes up for the other, as long as no operation that its seal commits comes in between.
mutants() {
	cat <<'LIST'
publish_before_overwrite|cell|era.h|s/(int era_cas_if\(.*?\n)\tera_publish\(c, old\.stamp, host\);\n/$1/s
cell_checked_again|cell|cell.c|s/if \(again\.value != seen->word\.value \|\| again\.stamp != seen->word\.stamp\)/if (0)/
expose_before_giving|cell|ref.c|s/(void ref_expose\(.*?\n)\tif \(old\.value & OBJECT_EXPOSED\)/$1\tif (1)/s
recovery_bumps|export|recover.c|s/\tera_bump\(c\);\t[^\n]*always[^\n]*\n//
bump_or_unseal|export|cell.c redo.h|s/(\tif \(!era_cas\(c, &cell->word, seen, mine\)\) \{\n)\t\tera_bump\(c\);\n/$1/; s/a64_store_relaxed\(&r->era, 0\);/;/
row_before_word|cell|era.c|s/\tif \(word && a128_load_acquire\(word\)\.stamp == stamp_make\(cid, era\)\)\n\t\treturn 1;\n//
zero_is_noted|ref|ref.c|s/\t+r->phase = 1;\n//g
limbo_is_not_free|memory|page.h|s/a128_store_value_then_stamp\(&object->word, 0, run->free\);/a128_store_value_then_stamp(&object->word, 0, 0);/
readers_are_waited_for|trim.clear+read|segment.c|s/segment_quiet\(c\) \? 0 : UINT32_MAX/0/
push_looks_at_owner|memory|page_remote.c|s/\tpage_look\(c, segment\);\n//
retiring_looks_at_list|memory|page_adopt.c|s/\t\tpage_look\(c, s\);[^\n]*\n//
recovery_looks_again|memory.free_all+leave|recover.c|s/\tlook_again\(c\);\n//
look_outlives_claim|memory.free_all+leave|segment.c|s/(static int claim_word\(.*?)\tredo_seal\(c, r\);\n/$1\tr->look = 0;\n\tredo_seal(c, r);\n/s
claim_is_logged|memory|segment.c|s/(static int claim_word\(.*?)\tredo_seal\(c, r\);\n/$1/s
collect_names_chain|memory|page_remote.c|s/(int page_collect\(.*?)\t\tredo_seal\(c, r\);\n/$1/s
late_detach_looks|memory.free_all+leave|ref.c|s/\tif \(segment_readable\(c->pool, r->word\)\)\n(\t\tnow = )/$1/
record_in_window|memory.free_all+leave|recover.c|s/\tclient_read_begin\(c\);\n\tfence_seq_cst\(\);\n(\tlanded = )/$1/; s/(\t\tapply\(c, r\);\n)\tclient_read_end\(c\);\n/$1/
roots_before_segments|memory|recover.c|s/\tpage_retire\(c\);\n//; s/\troot_each\(c, drop_row, NULL\);\n/\tpage_retire(c);\n\troot_each(c, drop_row, NULL);\n/
tail_read_again|queue|queue.c|s/\t\tif \(a64_load_acquire\(&q->tail\) != tail\)\n\t\t\tcontinue;\n//
waiting_looks_again|wait_empty.receive_wait+send|api_queue.c|s/(queue_announce\(c, queue, side\);\n.*?)\t\trc = transfer_later\(c, queue, row, side\);\n\t\tif \(rc != -EAGAIN\)\n\t\t\treturn rc;\n/$1/s
waiting_is_cleared_first|wait_empty.receive_wait2+send2|queue.c|s/\ta32_store_release\(waiting, 0\);\n(.*?\ta32_add_acq_rel\(futex, 1\);\n)/$1\ta32_store_release(waiting, 0);\n/s
waiting_word_counts|wait_empty.receive_wait+send|queue.c|s/\ta32_add_acq_rel\(futex, 1\);\n//
room_wakes_senders|wait_full.send_wait+receive|queue.c|s/\t\twake\(c, &queue->q->send_waiting, &queue->q->send_futex\);/\t\t;/
leaving_wakes|join.leave+wait|recover.c|s/(\ta32_add_acq_rel\(&pool->shared->clients_sequence, 1\);\n)\tsyscall\(SYS_futex[^\n]*\n/$1/
role_names_incarnation|sender_left|queue.c|s/client_claimed\(c->pool, cid\) &&\n\t       client_incarnation\(c->pool, cid\) == value >> 12;/client_claimed(c->pool, cid);/
sender_is_settled|sender_begun|queue.c|s/\t\tsettle_sender\(c, queue\);\n/\t\t;\n/
receiver_is_settled|receiver_begun|queue.c|s/\t\tsettle_receiver\(c, queue\);\n/\t\t;\n/
sender_reads_cell_first|sender_filled|queue.c|s/\|\| (a128_load_acquire\(&cell_at\(queue, tail - 1\)->word\)\.value) \|\|\n\t    (a64_load_acquire\(&queue->q->head\) >= tail)\)/|| $2 || $1)/
receiver_reads_cell_first|receiver_emptied|queue.c|s/!head \|\| (!a128_load_acquire\(&cell_at\(queue, head - 1\)->word\)\.value) \|\|\n\t    (a64_load_acquire\(&queue->q->tail\) >= head \+ queue->capacity)\)/!head || $2 || $1)/
insert_raises_first|names|names_ops.c|s/if \(s\.found == NAMES_EMPTY && !names_owes\(c, entries\)\)/if (0)/
removed_stays_removed|names|names_todo.c|s/\t\tif \(seen\.value & COUNTER_REMOVED\)\n\t\t\treturn -ENOENT;\n//
rename_only_same_entry|names|names_todo.c|s/if \(s\.entry != old\) \{/if (!s.entry) {/
rename_takes_back|names|names_todo.c|s/return undo\(c, renamed, plan, rows\);/break;/
debts_are_paid|names|names_todo.c|s/\t\twhile \(c->slot->todo\.debt\[i\]\)\n\t\t\tnames_lower[^\n]*\n/\t\tc->slot->todo.debt[i] = 0;\n/
displaced_is_no_loop|across.xch_xe+xch_dy|names_rename.c|s/if \(!rc && r->exchange_directory\)\n\t\trc = is_above[^\n]*\n/;/
exchanged_one_at_a_time|across.xch_xe+xch_dy|names_rename.c|s/if \(!rc && \(r->directory \|\| r->exchange_directory\)\) \{\n\t\tclient_read_end/if (!rc && r->directory) {\n\t\tclient_read_end/; s/if \(!rc && \(r->directory \|\| r->exchange_directory\) && !a64/if (!rc && r->directory && !a64/
displaced_has_parent|across.xch_xe+look_x|names_todo.c|s/\t\tif \(!rc && plan->put\)\n\t\t\trc = set_parent\(c, plan->put, dir, rows\);\n//
displaced_is_put_back|across.xch_ax+take|names_todo.c|s/\t\tif \(!rc && s\.entry != entry && plan->put\)\n\t\t\treturn put_displaced[^\n]*\n//
edges_are_read_in_place|nodes|names.c|s/\t\tif \(!in_place\(s\)\)\n\t\t\treturn -EAGAIN;\n//
nodes_are_frozen|nodes|names.c|s/\t\tif \(!era_cas\(c, &cells\[i\]\.word, seen\[i\], EDGE_FROZEN\)\)\n\t\t\tbreak;\n//
frozen_is_thawed|frozen|names.c|s/if \(s->word\.value == EDGE_FROZEN && !thaw\(c, s\)\)/if (0)/
frozen_anew|frozen|names.c|s/if \(!era_cas\(c, &cells\[i\]\.word, seen\[i\], EDGE_FROZEN\)\)/if (seen[i].value != EDGE_FROZEN && !era_cas(c, &cells[i].word, seen[i], EDGE_FROZEN))/
edges_have_stamps|nodes|names.c|s/\t\ta128_store_stamp_release\(&cells\[k\]\.word, era_stamp\(c\)\);\n/\t\t;\n/; s/ \|\| !seen\[i\]\.stamp//
rmdir_looks_again|names|names_ops.c|s/\tif \(edge\.value != s\.word\.value \|\| edge\.stamp != s\.word\.stamp\)\n\t\treturn -EAGAIN;\n//
owner_is_two_halves|attr.uid+gid|inode.c|s/while \(!a64_cas_acq_rel\((word), old, (.*?)\)\);/while (a64_store_release($1, $2), 0);/
LIST
}

build() { # DIR: compile what is newer than its object, link
	local dir=$1 object
	for source in "$dir"/*.c; do
		object=$dir/o/$(basename "$source" .c).o
		[ "$object" -nt "$source" ] && [ -z "${2:-}" ] && continue
		echo "$(flags_of "$source") -c $source -o $object"
	done | xargs -r -P"${JOBS:-2}" -I{} sh -c "$cc $flags -I$root/include -I$dir {}" &&
		$cc $flags "$dir"/o/*.o -lpthread -lnuma -o "$dir/sched"
}

build "$base" || exit 1
caught=0
missed=0
while IFS='|' read -r name area files expression; do
	[ $# -gt 0 ] && case " $* " in *" $name "*) ;; *) continue ;; esac
	dir=$work/$name
	cp -a "$base" "$dir"
	changed=1
	for file in $files; do
		perl -0pi -e "$expression" "$dir/$file"
		cmp -s "$base/$file" "$dir/$file" && changed=0
	done
	if [ $changed -eq 0 ]; then
		echo "MISSED  $name: its line is no longer in $files"
		missed=$((missed + 1))
		continue
	fi
	# A changed header changes all that includes it.
	if ! case $files in *.h*) build "$dir" all ;; *) build "$dir" ;; esac; then
		echo "MISSED  $name: does not compile"
		missed=$((missed + 1))
		continue
	fi
	case $area in *.*) where=--pair ;; *) where=--area ;; esac
	from=$(date +%s)
	out=$(timeout -k 5 $((seconds * 3 + 30)) "$dir/sched" --long --stop --seconds "$seconds" $where "$area" 2>&1)
	rc=$?
	took=$(($(date +%s) - from))
	if [ $rc -ne 0 ] && grep -q '^FAILED' <<<"$out"; then
		caught=$((caught + 1))
		printf 'caught  %-26s %3s s  %s\n' "$name" "$took" "$(grep -m1 '^FAILED' <<<"$out" | cut -c8-110)"
	else
		missed=$((missed + 1))
		printf 'MISSED  %-26s %3s s  %s\n' "$name" "$took" "$(tail -1 <<<"$out")"
	fi
	rm -rf "$dir"
done < <(mutants)
echo "mutants: $caught caught, $missed missed"
[ $missed -eq 0 ]
