# SPDX-License-Identifier: MIT
# Drive tests/e2e/native from a script: native_start POOL NAME, native COMMAND..., native_stop.

# native_start POOL [NAME]: join; native_pid is its process.
native_start() {
	coproc NATIVE { exec native "$@" 2>&1; }
	native_in=${NATIVE[1]} native_out=${NATIVE[0]} native_pid=$NATIVE_PID
	local line
	read -r -t 20 line <&"$native_out"
	[ "$line" = "ok ready" ] || { fail "the native client does not start: $line"; return 1; }
}

# native COMMAND...: one command; prints its value, fails with the error name on stderr.
native() {
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
	local pid=$native_pid
	exec {native_in}>&-
	wait "$pid"
}
