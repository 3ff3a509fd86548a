#!/bin/bash
# SPDX-License-Identifier: MIT
# Checks the models beside this file exhaustively at small sizes, and shows that
# removing any rule is caught: the checker then finds a counterexample.
#
#   check.sh [quick|full]     time and memory: README.md
#
# One line a run: verdict, what was expected, states, model, switches.  Where the verdict is another one, a second line,
# "replay: ", has the command that searches again and, if there is a counterexample, shows it step by step.
# Exit: 0 all as expected, 1 not, 2 usage, 77 no spin or no C compiler here.
set -u
export LC_ALL=C
mode=${1:-quick}
case $mode in
quick) memory_mib=3000 ;;
full) memory_mib=8000 ;;
*) echo "usage: check.sh [quick|full]" >&2; exit 2 ;;
esac
skip() { # where nothing may be skipped, it has failed
	echo "model: skipped, $1"
	[ "${CXLSHM_REQUIRE_FUSE:-0}" != 1 ] || { echo "model: FAILED: CXLSHM_REQUIRE_FUSE=1 does not let it be skipped"; exit 1; }
	exit 77
}
command -v spin >/dev/null || skip "spin is not installed (Debian: apt-get install spin)"
compiler=${CC:-gcc}
for tool in gcc $compiler; do	# spin itself preprocesses with gcc
	command -v "$tool" >/dev/null || skip "$tool is not installed"
done

models=$(cd "$(dirname "$0")" && pwd) || exit 1
scratch=$(mktemp -d) || exit 1
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT TERM
cd "$scratch" || exit 1

compile=(-w -DSAFETY -DNOFAIR -DCOLLAPSE -DVECTORSZ=2048 -DMEMLIM="$memory_mib" -o pan pan.c)
search=(-m400000 -w22)
failed=0 states_total=0 rules=() caught=()

# verify MODEL OPTIMISE SWITCHES: sets verdict (holds, breaks, unfinished, error) and states
verify() {
	local model=$1 optimise=$2
	shift 2
	rm -f pan* out ./*.trail
	verdict=error states=0
	spin -a "$@" "$models/$model" >out 2>&1 && [ -f pan.c ] || return
	$compiler "$optimise" "${compile[@]}" >>out 2>&1 || return
	nice -n 10 ./pan "${search[@]}" >out 2>&1
	states=$(awk '/states, stored/ { print $1; exit }' out)
	states=${states:-0}
	if grep -q '^pan:.*assertion violated' out; then
		verdict=breaks
	elif grep -q -e '^pan:[0-9]' -e 'Search not completed' -e 'max search depth too small' -e 'out of memory' out; then
		verdict=unfinished		# also a deadlock of the model itself
	elif grep -q 'errors: 0$' out; then
		verdict=holds
	fi
}

# replay MODEL OPTIMISE SWITCHES: the command that does the same again, in a folder of its own, and shows the counterexample
replay() {
	local model optimise=$2 trail=$1.trail
	model=$(printf '%q' "$models/$1")
	shift 2
	echo "replay: (cd \$(mktemp -d) && spin -a $* $model && $compiler $optimise ${compile[*]} &&" \
		"./pan ${search[*]}; spin -t -k $trail -p -g -l $* $model)"
}

# run EXPECTED OPTIMISE MODEL SWITCHES
run() {
	local expected=$1 optimise=$2 model=$3 switch
	shift 3
	verify "$model" "$optimise" "$@"
	printf '%-10s expected %-6s %10s states  %s %s\n' "$verdict" "$expected" "$states" "$model" "$*"
	states_total=$((states_total + states))
	if [ "$verdict" != "$expected" ]; then
		failed=1
		[ "$verdict" != error ] || cat out
		replay "$model" "$optimise" "$@"
	fi
	for switch in "$@"; do
		case $switch in
		-DBUG_* | -DHOLE_*)
			rules+=("$switch")
			[ "$verdict" != breaks ] || caught+=("$switch")
			;;
		esac
	done
}
holds() { run holds -O0 "$@"; }
breaks() { run breaks -O0 "$@"; }
holds_big() { [ "$mode" != full ] || run holds -O2 "$@"; }
in_full() { [ "$mode" != full ] || "$@"; }

# counts: rules 1 to 8, that a slot's era and row outlive its owner, the orders of an allocation and of a release, what its
# seal commits, and how to tell that something landed
holds era.pml -DCRASHES=0 -DOPS=2
holds era.pml -DCRASHES=1 -DOPS=1 -DTWO_RECOVERERS
holds era.pml -DCRASHES=0 -DOPS=2 -DBY_NUMBER
holds era.pml -DCRASHES=1 -DOPS=0 -DOPS2=3
breaks era.pml -DBUG_1_NO_BUMP -DCRASHES=1 -DOPS=0 -DOPS2=3
breaks era.pml -DBUG_2_NO_PUBLISH -DCRASHES=1 -DOPS=1
breaks era.pml -DBUG_3_NO_BUMP -DSTART_HELD -DCRASHES=1 -DOPS=1 -DOPS2=2
breaks era.pml -DBUG_4_NO_BUMP -DSTART_HELD -DCRASHES=2 -DOPS=0 -DOPS2=1
breaks era.pml -DBUG_5_NO_RECHECK -DCRASHES=0 -DOPS=2
breaks era.pml -DBUG_6_COUNT_ONE -DCRASHES=0 -DOPS=2
breaks era.pml -DBUG_6_NO_EXPOSE -DCRASHES=0 -DOPS=1 -DOPS2=3
holds era.pml -DWATCH_LIFE -DCRASHES=0 -DOPS=4 -DOPS2=1
breaks era.pml -DWATCH_LIFE -DBUG_6_EXPOSE_NO_STAMP -DCRASHES=0 -DOPS=4 -DOPS2=1
breaks era.pml -DBUG_7_RAISE_ZERO -DBY_NUMBER -DCRASHES=0 -DOPS=1
breaks era.pml -DBUG_7_CHARGE_LATE -DCRASHES=1 -DOPS=1
breaks era.pml -DBUG_8_NO_LOCK -DTWO_RECOVERERS -DCRASHES=1 -DOPS=1
breaks era.pml -DBUG_ROW_CLEARED -DCRASHES=1 -DOPS=1
breaks era.pml -DBUG_ERA_RESTARTS -DLIVES=1 -DCRASHES=1 -DOPS=1
breaks era.pml -DBUG_ALLOC_LIVE_FIRST -DCRASHES=1 -DOPS=0 -DOPS2=1
breaks era.pml -DBUG_FREE_ROOT_COUNTS -DCRASHES=1 -DOPS=0 -DOPS2=1
breaks era.pml -DBUG_RELEASE_ROOT_FIRST -DCRASHES=1 -DOPS=3 -DOPS2=0
breaks era.pml -DBUG_4_NO_FINISH -DCRASHES=1 -DOPS=0 -DOPS2=1
breaks era.pml -DBUG_6_STORE_TORN -DSTART_HELD -DCRASHES=1 -DOPS=0 -DOPS2=1
breaks era.pml -DBUG_MOVE_UNSEALED -DCRASHES=1 -DOPS=0 -DOPS2=2
breaks era.pml -DBUG_MOVE_NOT_REPEATED -DCRASHES=1 -DOPS=0 -DOPS2=2
in_full holds era.pml -DLANDED_IN_STEPS -DCRASHES=1 -DOPS=1
breaks era.pml -DBUG_LANDED_ROWS_FIRST -DCRASHES=1 -DOPS=1
breaks era.pml -DBUG_LANDED_WORD_ONLY -DCRASHES=1 -DOPS=1
breaks era.pml -DBUG_LANDED_ROWS_ONLY -DCRASHES=1 -DOPS=1

# the dead list
holds reclaim.pml -DCRASHES=2
holds reclaim.pml -DCRASHES=2 -DPARENT_IN=2 -DCHILD_IN=1
breaks reclaim.pml -DBUG_NO_PHASE -DCRASHES=2
breaks reclaim.pml -DBUG_POP_UNLOGGED -DCRASHES=1
breaks reclaim.pml -DBUG_POP_WITH_FIELDS -DCRASHES=0
breaks reclaim.pml -DBUG_LINKED_TWICE -DCRASHES=1
breaks reclaim.pml -DBUG_DEAD_LIST_FORGOTTEN -DCRASHES=1
breaks reclaim.pml -DBUG_PUSH_UNLOGGED -DCRASHES=1

# segments
holds segment.pml -DCRASHES=1
holds segment.pml -DCRASHES=1 -DONE_SEGMENT
holds segment.pml -DSTART_HELD -DONE_SEGMENT -DCRASHES=1 -DOPS1=1 -DOPS2=2
breaks segment.pml -DBUG_FREE_DESPITE_LIMBO -DCRASHES=0 -DLIVES=1
breaks segment.pml -DBUG_ADOPT_TAKES_LIMBO -DCRASHES=0 -DLIVES=1
breaks segment.pml -DBUG_CLAIM_UNLOGGED -DCRASHES=1
breaks segment.pml -DBUG_GIVE_UP_UNLOGGED -DCRASHES=1
breaks segment.pml -DBUG_COLLECT_FORGETS -DCRASHES=1
breaks segment.pml -DBUG_COLLECT_ZEROES -DSTART_HELD -DONE_SEGMENT -DCRASHES=1 -DOPS1=1 -DOPS2=2
breaks segment.pml -DBUG_SEGMENTS_FIRST -DCRASHES=0
breaks segment.pml -DHOLE_PUNCH_ALL -DCRASHES=0
breaks segment.pml -DBUG_2_NO_PUBLISH -DCRASHES=1

# freed memory is zeroed before it is another client's
holds zero.pml
in_full holds zero.pml -DCRASHES=2 -DOPS=2
breaks zero.pml -DBUG_ADOPTER_LEAVES_BYTES
breaks zero.pml -DBUG_PUSH_LEAVES_BYTES
breaks zero.pml -DBUG_POP_LEAVES_BYTES
breaks zero.pml -DBUG_LIMBO_BEFORE_ZEROS

# files of file objects
holds extent.pml
breaks extent.pml -DBUG_FILE_BEFORE_OWNER
breaks extent.pml -DBUG_BLOCK_FIRST
breaks extent.pml -DBUG_ID_REUSED

# who pushes and who orphans look at each other
holds looks.pml -DCRASHES=1 -DOPS=0 -DOWNER2=2
in_full holds looks.pml -DCRASHES=1 -DOPS=0 -DONE_SEGMENT -DKEEPS=0
in_full holds looks.pml -DCRASHES=1 -DOPS=0 -DOWNER2=2 -DLOOK_AFTER_SEAL
breaks looks.pml -DBUG_NO_LOOK_PUSH -DCRASHES=0
breaks looks.pml -DBUG_NO_LOOK_ORPHAN -DCRASHES=0
breaks looks.pml -DBUG_NO_LOOK_RECORD -DCRASHES=1 -DOPS=0
breaks looks.pml -DBUG_LOOK_CLEARED_BY_CLAIM -DCRASHES=1 -DOPS=0
breaks looks.pml -DBUG_LOOK_AFTER_CAS -DCRASHES=1 -DOPS=0
breaks looks.pml -DBUG_LOOK_LATE -DCRASHES=1 -DOPS=0
in_full breaks looks.pml -DBUG_LOOK_BEFORE_PUSH -DCRASHES=0
in_full breaks looks.pml -DBUG_LOOK_BEFORE_ORPHAN -DCRASHES=0
in_full breaks looks.pml -DBUG_NOTE_ONLY_PUSH -DCRASHES=1 -DOPS=0
in_full breaks looks.pml -DBUG_NOTE_ONLY_ORPHAN -DCRASHES=1 -DOPS=0
in_full breaks looks.pml -DBUG_LOOK_BEFORE_BUMP -DCRASHES=2 -DOPS=0 -DOWNER2=2

# spans of segments
holds spans.pml -DCRASHES=1 -DSTART_SPAN -DOPS=1
holds spans.pml -DCRASHES=2 -DOPS=1 -DOPS2=0
in_full holds spans.pml -DCRASHES=1 -DSTART_SPAN -DOPS=1 -DS=3
breaks spans.pml -DBUG_BODY_BY_OWN_WORD -DCRASHES=0 -DSTART_SPAN -DOPS=1
breaks spans.pml -DBUG_NO_STAMP_RECHECK -DCRASHES=0 -DSTART_SPAN -DOPS=1
breaks spans.pml -DBUG_GROW_WHILE_OWNED -DCRASHES=0 -DOPS=1
breaks spans.pml -DBUG_SHRINK_WHILE_OWNED -DCRASHES=0 -DSTART_SPAN -DOPS=1
breaks spans.pml -DBUG_PUNCH_WHILE_READ -DCRASHES=0 -DSTART_SPAN -DOPS=1
breaks spans.pml -DBUG_READ_UNANNOUNCED -DCRASHES=0 -DSTART_SPAN -DOPS=1
breaks spans.pml -DBUG_GROW_UNLOGGED -DCRASHES=1 -DOPS=1
breaks spans.pml -DBUG_SHRINK_UNLOGGED -DCRASHES=1 -DSTART_SPAN -DOPS=1
breaks spans.pml -DBUG_SHRINK_BLIND -DCRASHES=1 -DSTART_SPAN -DOPS=1
in_full breaks spans.pml -DBUG_QUIET_FIRST -DCRASHES=0 -DSTART_SPAN -DOPS=1
in_full breaks spans.pml -DBUG_DIRTY_UNASKED -DCRASHES=0 -DSTART_SPAN -DOPS=1
in_full breaks spans.pml -DBUG_FREE_BEFORE_PUNCH -DCRASHES=0 -DSTART_SPAN -DOPS=1
in_full breaks spans.pml -DBUG_HEAD_FIRST -DCRASHES=0 -DSTART_SPAN -DOPS=1

# names
holds names.pml -DCRASHES=2 -DOP1=REN_AB -DWATCH
breaks names.pml -DCRASHES=0 -DOP1=RM_A -DWATCH	# the watcher does see a name go
holds names.pml -DCRASHES=1 -DOP1=REN_AB -DB_TAKEN -DWATCH_B
holds names.pml -DCRASHES=1 -DOP1=REN_AB -DOP2=REN_AC
holds names.pml -DCRASHES=1 -DOP1=REN_AB -DOP2=REN_AC -DB_TAKEN
holds names.pml -DCRASHES=1 -DOP1=REN_AB -DOP2=RM_A -DTHEN2=INS_A
holds names.pml -DCRASHES=1 -DOP1=REN_AB -DOP2=RMDIR_A -DTHEN2=RMDIR_B -DKIND=2
holds names.pml -DCRASHES=1 -DOP1=REN_AB -DOP2=INS_C -DTHEN2=RM_C -DKIND=2
holds names.pml -DCRASHES=2 -DOP1=INS_C -DOP2=RMDIR_A -DKIND=2
holds names.pml -DCRASHES=1 -DOP1=INS_C -DTHEN1=RM_C -DOP2=RMDIR_A -DKIND=2
breaks names.pml -DBUG_2_NO_PUBLISH -DCRASHES=1 -DOP1=INS_C -DOP2=RM_A
breaks names.pml -DBUG_RAISE_LATE -DCRASHES=0 -DOP1=INS_C -DOP2=RMDIR_A -DKIND=2
breaks names.pml -DBUG_RAISE_REMOVED -DCRASHES=0 -DOP1=INS_C -DOP2=RMDIR_A -DKIND=2
breaks names.pml -DBUG_OLD_FIRST -DCRASHES=0 -DOP1=REN_AB -DWATCH	# holds without the watcher; so does the next
breaks names.pml -DBUG_REPLACED_FIRST -DCRASHES=0 -DOP1=REN_AB -DB_TAKEN -DWATCH_B
breaks names.pml -DBUG_LOWER_EARLY -DCRASHES=0 -DOP1=INS_C -DTHEN1=RM_C -DOP2=RMDIR_A -DKIND=2
breaks names.pml -DBUG_RMDIR_NO_MARK -DCRASHES=0 -DOP1=INS_C -DOP2=RMDIR_A -DKIND=2
breaks names.pml -DBUG_DEBT_FORGOTTEN -DCRASHES=1 -DOP1=INS_C
breaks names.pml -DBUG_INTENT_FORGOTTEN -DCRASHES=1 -DOP1=REN_AB
breaks names.pml -DBUG_RENAME_REMOVES_ANY -DCRASHES=0 -DOP1=REN_AB -DOP2=RM_A -DTHEN2=INS_A
breaks names.pml -DBUG_RENAME_HOLDS_NOTHING -DCRASHES=0 -DOP1=REN_AB -DOP2=RM_A -DTHEN2=INS_A
breaks names.pml -DHOLE_RENAME_NO_UNDO -DCRASHES=0 -DOP1=REN_AB -DOP2=REN_AC
breaks names.pml -DHOLE_RENAME_NO_PIN -DCRASHES=0 -DOP1=REN_AB -DOP2=RMDIR_A -DKIND=2
breaks names.pml -DHOLE_RMDIR_NO_RECHECK -DCRASHES=0 -DOP1=REN_AB -DOP2=RMDIR_A -DKIND=2
breaks names.pml -DN=3 -DCRASHES=0 -DOP1=REN_AB -DOP2=REN_AC -DOP3=REN_BA	# what undo does not mend: README.md

# renames of directories, one at a time
holds moves.pml -DCRASHES=2
in_full holds moves.pml -DCRASHES=1 -DTHEN1=A_BACK
holds moves.pml -DCRASHES=1 -DOP2=A_TO_C -DTHEN2=B_TO_A
breaks moves.pml -DBUG_MOVE_TOGETHER -DCRASHES=0
breaks moves.pml -DBUG_LOOP_LOOKED_FOR_FIRST -DCRASHES=0
breaks moves.pml -DBUG_TURN_UNLOGGED -DCRASHES=1
breaks moves.pml -DBUG_TURN_KEPT -DCRASHES=1
breaks moves.pml -DBUG_TURN_STOLEN -DCRASHES=1
breaks moves.pml -DBUG_TURN_GIVEN_FIRST -DCRASHES=0
breaks moves.pml -DBUG_PARENT_LAST -DCRASHES=1
breaks moves.pml -DBUG_SLOT_BEFORE_RECORD -DCRASHES=0

# a directory that another is renamed over
holds replace.pml
holds replace.pml -DWATCH
breaks replace.pml -DBUG_REPLACED_OPEN -DCRASHES=0
breaks replace.pml -DBUG_REPLACED_HIDDEN -DWATCH -DCRASHES=0
breaks replace.pml -DBUG_REVIVE_FORGOTTEN

# exchanges of two names
holds exchange.pml
in_full holds exchange.pml -DCOMES_BACK
holds exchange.pml -DWATCH -DCRASHES=2 -DOPS=0
breaks exchange.pml -DBUG_DISPLACED_DROPPED
breaks exchange.pml -DBUG_NO_OWN_NAME
breaks exchange.pml -DBUG_OWN_NAME_UNNOTED
breaks exchange.pml -DBUG_PLACED_UNLOGGED
breaks exchange.pml -DBUG_EXCHANGE_FORGOTTEN -DOPS=0
breaks exchange.pml -DBUG_EXCHANGE_NOT_RAISED -DCRASHES=0
breaks exchange.pml -DBUG_EXCHANGE_TAKES_ANY -DCRASHES=0
breaks exchange.pml -DBUG_UNDO_ANY -DCRASHES=0
breaks exchange.pml -DBUG_DISPLACED_NO_PARENT -DCRASHES=0 -DOPS=0
breaks exchange.pml -DBUG_UNDO_KEEPS_PARENT -DCRASHES=0
holds swaps.pml -DCRASHES=1
in_full holds swaps.pml -DCRASHES=1 -DEMPTY_3
holds swaps.pml -DN=3 -DOP2=X23 -DOP3=T1 -DCRASHES=1
breaks swaps.pml -DBUG_DISPLACED_DROPPED -DN=3 -DOP2=X23 -DOP3=T1

# inner nodes that come and go
holds nodes.pml -DOP1=RM_0 -DOP2=INS_1 -DOP3=LOOK_1 -DCRASHES=1
holds nodes.pml -DOP1=RM_0 -DTHEN1=INS_0 -DOP2=INS_1 -DTHEN2=RM_1 -DOP3=USE -DSTART_FROZEN
holds nodes.pml -DOP1=RM_0 -DTHEN1=USE -DOP2=INS_1 -DTHEN2=RM_1 -DOP3=LOOK_1
breaks nodes.pml -DBUG_NO_FREEZE -DOP1=RM_0 -DOP2=INS_1
breaks nodes.pml -DBUG_NO_THAW -DOP1=RM_0 -DOP2=INS_1 -DSTART_FROZEN
breaks nodes.pml -DBUG_FROZEN_KEPT -DOP1=RM_0 -DOP2=INS_1 -DSTART_FROZEN
breaks nodes.pml -DBUG_READ_OUT_OF_PLACE -DOP1=RM_0 -DOP2=LOOK_1 -DOP3=USE
breaks nodes.pml -DBUG_FREEZE_OUT_OF_PLACE -DOP1=RM_0 -DOP2=INS_1 -DTHEN2=RM_1 -DOP3=USE
breaks nodes.pml -DBUG_EDGE_NO_STAMP -DOP1=RM_0 -DOP2=INS_1 -DOP3=INS_0

# listing a directory that changes
holds list.pml
holds list.pml -DSTAYS=1
holds list.pml -DSTAYS=3
breaks list.pml -DBUG_POSITION_IS_COUNT
breaks list.pml -DBUG_READ_OUT_OF_PLACE
breaks list.pml -DBUG_SPLIT_EMPTY

# queues
holds queue.pml -DSENDERS=1 -DRECEIVERS=1
holds queue.pml -DSENDERS=2 -DRECEIVERS=1 -DTRIES=1
holds queue.pml -DSENDERS=1 -DRECEIVERS=2 -DTRIES=1
breaks queue.pml -DBUG_ORDER
breaks queue.pml -DBUG_EARLY
breaks queue.pml -DBUG_FULL
holds queue.pml -DONE -DCRASHES=2 -DTRIES=3
holds queue.pml -DONE -DCRASHES=2 -DTRIES=3 -DN=1
breaks queue.pml -DONE -DBUG_NOSETTLE
breaks queue.pml -DONE -DBUG_LATE
holds_big queue.pml -DTRIES=1
holds_big queue.pml -DSENDERS=2 -DRECEIVERS=1

# plain stores into a queue's cells
holds spsc.pml -DCRASHES=1
in_full holds spsc.pml -DCRASHES=1 -DCAP=1
holds spsc.pml -DCRASHES=2 -DOBJECTS=2
breaks spsc.pml -DBUG_2_STORE_NO_PUBLISH -DCRASHES=1

# waiting at a queue
holds wait.pml
holds wait.pml -DFENCED
holds wait.pml -DSENDERS=2 -DRECEIVERS=1 -DSENDS=1 -DRECEIVES=2
holds wait.pml -DRECEIVERS=1 -DRECEIVES=2 -DCRASHES=1
breaks wait.pml -DBUG_NO_SECOND_LOOK
breaks wait.pml -DBUG_WORD_READ_LATE
breaks wait.pml -DBUG_CLEARED_LAST
breaks wait.pml -DBUG_NOT_COUNTED
breaks wait.pml -DBUG_ONE_WOKEN
breaks wait.pml -DBUG_ROOM_WAKES_NOBODY
breaks wait.pml -DBUG_NO_MEMBARRIER
breaks wait.pml -DFENCED -DBUG_WAKER_UNFENCED
breaks wait.pml -DFENCED -DBUG_SLEEPER_UNFENCED
breaks wait.pml -DBUG_NO_TIMEOUT -DCRASHES=1

# lost write-backs
holds host.pml -DCRASHES=2 -DOPS=1
holds host.pml -DCRASHES=1 -DOPS=2
breaks host.pml -DBUG_LOSE_RECORD -DCRASHES=1 -DOPS=1
breaks host.pml -DBUG_LOSE_ROW -DCRASHES=2 -DOPS=1
breaks host.pml -DBUG_LOSE_WORD -DCRASHES=1 -DOPS=1
breaks host.pml -DBUG_LOSE_PHASE -DCRASHES=1 -DOPS=1
breaks host.pml -DBUG_LOSE_ROOT -DCRASHES=1 -DOPS=1
breaks host.pml -DBUG_LOSE_ERA -DCRASHES=1 -DOPS=1

# the same, larger
holds_big era.pml -DCRASHES=1 -DOPS=2
holds_big era.pml -DCRASHES=2 -DOPS=1
holds_big era.pml -DCRASHES=1 -DOPS=1 -DLIVES=1
holds_big era.pml -DCRASHES=2 -DOPS=1 -DTWO_RECOVERERS
holds_big reclaim.pml -DCRASHES=3 -DOPS=3
holds_big segment.pml -DCRASHES=2 -DONE_SEGMENT
holds_big segment.pml -DCRASHES=0 -DLIVES=1
holds_big segment.pml -DCRASHES=1 -DONE_SEGMENT -DLIVES=1 -DOPS1=1
holds_big looks.pml -DCRASHES=1
holds_big looks.pml -DCRASHES=2 -DOPS=0 -DOWNER2=2
holds_big looks.pml -DCRASHES=0 -DOPS=0 -DN=3 -DONE_SEGMENT
holds_big spans.pml -DCRASHES=1 -DOPS=1
holds_big spans.pml -DCRASHES=2 -DSTART_SPAN -DOPS=1
holds_big names.pml -DCRASHES=2 -DOP1=REN_AB -DOP2=REN_AC
holds_big names.pml -DCRASHES=1 -DOP1=REN_AB -DOP2=REN_BA -DB_TAKEN
holds_big names.pml -DCRASHES=1 -DOP1=REN_AB -DOP2=REN_AB -DKIND=2
holds_big moves.pml -DCRASHES=2 -DTHEN1=A_BACK -DTHEN2=B_BACK
holds_big exchange.pml -DCOMES_BACK -DCRASHES=2 -DOPS=4
holds_big swaps.pml -DN=3 -DOP2=X23
holds_big nodes.pml -DOP1=RM_0 -DTHEN1=INS_0 -DOP2=INS_1 -DTHEN2=RM_1 -DOP3=LOOK_1 -DCRASHES=1
holds_big nodes.pml -DOP1=RM_0 -DOP2=INS_1 -DTHEN2=RM_1 -DOP3=INS_0 -DTHEN3=USE -DCRASHES=2 -DSTART_FROZEN
holds_big wait.pml -DCRASHES=1
holds_big list.pml -DOPS=5
holds_big host.pml -DCRASHES=2 -DOPS=2

distinct() { printf '%s\n' "$@" | sort -u | wc -l; }
rule_count=$(distinct "${rules[@]}") caught_count=$(distinct "${caught[@]}")
echo "model: $states_total states, $rule_count rules, $caught_count counterexamples"
[ "$rule_count" = "$caught_count" ] || failed=1
exit $failed
