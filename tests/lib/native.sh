# SPDX-License-Identifier: MIT
# Talk to a process over its standard input and output, a line each way: peer_start COMMAND...; for tests/e2e/holder: hold
# FILE MODE, ask_holder LINE; for tests/e2e/native: native_start POOL NAME, native_do COMMAND..., native_stop.  (Not coproc:
# its descriptors are not there in subshells, and go with the process.)
peer_count=0

# peer_start COMMAND...: peer_in and peer_out are descriptors, peer_pid its process.
peer_start() {
	local fifo
	peer_count=$((peer_count + 1))
	fifo=$E2E_DIR/peer.$peer_count
	mkfifo "$fifo.in" "$fifo.out"
	"$@" <"$fifo.in" >"$fifo.out" 2>&1 &
	peer_pid=$!
	disown "$peer_pid"	# no word from bash when it is killed
	exec {peer_in}>"$fifo.in" {peer_out}<"$fifo.out"
}

# peer_ask LINE: say LINE (none: "") and print the answer.
peer_ask() {
	local line
	[ -z "$1" ] || echo "$1" >&"$peer_in"
	IFS= read -r -t 30 line <&"$peer_out" || { echo "no answer to '$1'"; return 1; }
	echo "$line"
}

# hold FILE MODE: tests/e2e/holder has it mapped; hold_pid is its process.  ask_holder LINE: its answer.
hold() {
	peer_start holder "$@"
	hold_in=$peer_in hold_out=$peer_out
	hold_pid=$(peer_ask "")
	[[ $hold_pid =~ ^[0-9]+$ ]] || { fail "holder $*: $hold_pid"; return 1; }
	[ "$2" != fork ] || wait_until 10 test ! -e "/proc/$peer_pid" || fail "holder $*: the parent stays"
}
ask_holder() { peer_in=$hold_in peer_out=$hold_out; peer_ask "$1"; }

# uses PID PART: how many files with that in their path the process has mapped, and open.
uses() {
	echo "$(grep -cF "$2" "/proc/$1/maps") mapped, $(find "/proc/$1/fd" -lname "*$2*" | wc -l) open"
}

# native_start POOL [NAME]: join; native_pid is its process.  To go on with an earlier one, put back its
# native_in, native_out and native_pid.
native_start() {
	local line
	peer_start native "$@"
	native_in=$peer_in native_out=$peer_out native_pid=$peer_pid
	line=$(peer_ask "")
	[ "$line" = "ok ready" ] || { fail "the native client does not start: $line"; return 1; }
}

# native_do COMMAND...: one command; prints its value, fails with the error name.
native_do() {
	local line
	echo "$*" >&"$native_in" || return 1
	IFS= read -r -t 30 line <&"$native_out" || { echo "no answer to '$*'" >&2; return 1; }
	case $line in
	ok) ;;
	"ok "*) echo "${line#ok }" ;;
	*) echo "native $*: $line" >&2; return 1 ;;
	esac
}

# native_stop: it leaves; fails if it does not say that it dropped all and left, and end, within ten seconds.
native_stop() {
	local rest
	echo quit >&"$native_in"
	exec {native_in}>&-
	rest=$(timeout 10 cat <&"$native_out")
	exec {native_out}<&-
	[ "$rest" = "ok bye" ] || { echo "the native client says at its end: $rest"; return 1; }
	wait_until 10 test ! -e "/proc/$native_pid"
}
