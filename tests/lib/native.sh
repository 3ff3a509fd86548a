# SPDX-License-Identifier: MIT
# Drive tests/e2e/native from a script: native_start POOL NAME, native COMMAND..., native_stop.
native_count=0

# native_start POOL [NAME]: join; native_pid is its process.  To go on with an earlier one, put back its
# native_in, native_out and native_pid.
native_start() {
	local line fifo
	native_count=$((native_count + 1))
	fifo=$E2E_DIR/native.$native_count
	mkfifo "$fifo.in" "$fifo.out"
	native "$@" <"$fifo.in" >"$fifo.out" 2>&1 &
	native_pid=$!
	exec {native_in}>"$fifo.in" {native_out}<"$fifo.out"
	IFS= read -r -t 20 line <&"$native_out"
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

native_stop() {
	echo quit >&"$native_in"
	exec {native_in}>&- {native_out}<&-
	wait "$native_pid"
}
