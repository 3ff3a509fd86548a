# SPDX-License-Identifier: MIT
# Helpers of the end-to-end scripts, which source this: . "$E2E_LIB/e2e.sh"
#
# What a check's command printed is in $LOG until the next check.
#
# A script is a list of checks.  Each prints a line, `ok` or `FAIL`; a failed one does not end the
# script, because the next ones tell more.  `finish` ends it: unmount everything, fsck every pool made,
# status 1 if anything failed.  A script that never reaches `finish` has failed too.
set -u
: "${E2E_DIR:?run me with tests/lib/e2e-run.sh}"
PATH=$CXLSHM_BUILD/fs:$CXLSHM_BUILD/mount-helper:$CXLSHM_BUILD/tests/e2e:$PATH
export PATH LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH=$CXLSHM_SOURCE/tests/e2e
POOL=$E2E_DIR/pool
MNT=$E2E_DIR/mnt
LOG=$E2E_DIR/log
mkdir -p "$MNT"
checks=0
failures=0
finished=0
pools=()

on_exit() {
	local rc=$?
	[ "$finished" = 1 ] && exit "$rc"
	[ "$rc" = 77 ] && exit 77
	echo "FAIL: the script ended before its end (status $rc)"
	exit 1
}
trap on_exit EXIT

now_ms() { date +%s%3N; }
note() { echo "     $*"; }

# ok TEXT / fail TEXT: one check's outcome.
ok() { checks=$((checks + 1)); echo "ok   $*"; }
fail() { checks=$((checks + 1)); failures=$((failures + 1)); echo "FAIL $*"; }

# check TEXT COMMAND...: the command succeeds.
check() {
	local text=$1 rc; shift
	if "$@" >"$LOG.now" 2>&1; then mv "$LOG.now" "$LOG"; ok "$text"; else
		rc=$?
		mv "$LOG.now" "$LOG"
		fail "$text (status $rc: $*)"
		sed 's/^/     | /' "$LOG" | tail -n 15
		return 1
	fi
}

# check_status TEXT STATUS COMMAND...: the command ends with that exit status.
check_status() {
	local text=$1 want=$2 rc=0; shift 2
	"$@" >"$LOG.now" 2>&1 || rc=$?
	mv "$LOG.now" "$LOG"
	if [ "$rc" = "$want" ]; then ok "$text"; else
		fail "$text (status $rc, not $want: $*)"
		sed 's/^/     | /' "$LOG" | tail -n 15
		return 1
	fi
}

# check_refused TEXT PATTERN COMMAND...: the command fails, not by a signal, and its output matches the
# extended regular expression.
check_refused() {
	local text=$1 pattern=$2 rc=0; shift 2
	"$@" >"$LOG.now" 2>&1 || rc=$?
	mv "$LOG.now" "$LOG"
	if [ "$rc" = 0 ]; then fail "$text (it succeeded: $*)"
	elif [ "$rc" -gt 128 ]; then fail "$text (died of signal $((rc - 128)): $*)"
	elif ! grep -Eiq -- "$pattern" "$LOG"; then fail "$text (output does not match '$pattern': $*)"
	else ok "$text"; return 0; fi
	sed 's/^/     | /' "$LOG" | tail -n 15
	return 1
}

# same TEXT GOT WANTED
same() {
	if [ "$2" = "$3" ]; then ok "$1"; else fail "$1 (got '$2', wanted '$3')"; return 1; fi
}

# matches TEXT GOT PATTERN
matches() {
	if printf '%s\n' "$2" | grep -Eq -- "$3"; then ok "$1"; else fail "$1 (got '$2', wanted /$3/)"; return 1; fi
}

# wait_until SECONDS COMMAND...: try every 5 ms until it succeeds; 1 when the time is over.  A single word is
# a piece of script, for what must be looked at anew each time.
wait_until() {
	local end=$(($(now_ms) + $1 * 1000)); shift
	until if [ $# = 1 ]; then eval "$1"; else "$@"; fi >/dev/null 2>&1; do
		[ "$(now_ms)" -lt "$end" ] || return 1
		sleep 0.005
	done
}

# skip TEXT: this machine does not let it be tested, the whole script or (skipped) a part of it.  A failure where all must run.
skip() {
	echo "SKIP: $*"
	[ "${CXLSHM_REQUIRE_FUSE:-0}" = 1 ] && { fail "CXLSHM_REQUIRE_FUSE=1 does not let it be skipped"; finished=1; exit 1; }
	exit 77
}
skipped() {
	note "SKIPPED: $*"
	[ "${CXLSHM_REQUIRE_FUSE:-0}" != 1 ] || fail "CXLSHM_REQUIRE_FUSE=1 does not let it be skipped: $*"
}

# need PROGRAM...: a program of the distribution that run.sh installs.
need() {
	local program
	for program in "$@"; do
		command -v "$program" >/dev/null && continue
		skip "$program is not installed"
	done
}

# make_pool [POOL [SIZE [OPTIONS...]]]: a pool in a tmpfs of its own.
make_pool() {
	local pool=${1:-$POOL} size=${2:-256M}
	shift $(($# > 2 ? 2 : $#))
	mkdir -p "$pool"
	if ! mkfs.cxlshm --size="$size" "$@" "$pool" >"$LOG" 2>&1; then
		fail "mkfs.cxlshm --size=$size $* $pool (status $?)"
		sed 's/^/     | /' "$LOG"
		finished=1
		exit 1
	fi
	pools+=("$pool")
}

# mount_pool [POOL [MNT [OPTIONS]]]
mount_pool() {
	local pool=${1:-$POOL} mnt=${2:-$MNT}
	mkdir -p "$mnt"
	if ! timeout 30 mount.cxlshm "$pool" "$mnt" ${3:+-o "$3"} >"$LOG" 2>&1; then
		fail "mount.cxlshm $pool $mnt ${3:+-o $3}"
		sed 's/^/     | /' "$LOG"
		finished=1
		exit 1
	fi
}

# mounted MNT: is a cxlshm file system there?
mounted() { grep -q " $1 fuse\.cxlshm " /proc/self/mounts; }

# daemon_of MNT: the process id of the daemon that serves it (by its command line).
daemon_of() {
	local link
	for link in /proc/[0-9]*/exe; do
		case $(readlink "$link" 2>/dev/null) in */cxlshmfs | */cxlshmfs' (deleted)')
			link=${link%/exe}
			tr '\0' '\n' <"$link/cmdline" 2>/dev/null | grep -qxF -- "$1" && echo "${link#/proc/}" ;;
		esac
	done
}

# unmount_pool MNT: unmount, and wait until its daemon has gone.
unmount_pool() {
	local mnt=${1:-$MNT} pid
	pid=$(daemon_of "$mnt")
	umount "$mnt" || return 1
	for pid in $pid; do
		wait_until 10 test ! -e "/proc/$pid" || { echo "the daemon $pid is still there"; return 1; }
	done
}

# fsck_clean POOL: fsck finds nothing to say, as soon as the last client has left.
fsck_clean() {
	local rc=0 try
	for try in $(seq 50); do
		rc=0
		timeout 60 fsck.cxlshm "$1" >"$LOG.fsck" 2>&1 || rc=$?
		[ "$rc" = 0 ] && return 0
		grep -Eiq 'in use|busy' "$LOG.fsck" || break
		sleep 0.1
	done
	cat "$LOG.fsck"
	return 1
}

# Extended attribute NAME of FILE, without quotes.
xattr() { getfattr --absolute-names --only-values -n "$2" "$1" 2>/dev/null; }

# column FILE NAME: the values of the column headed NAME in a table of the .cxlshm tree.
column() {
	awk -v name="$2" '!col { for (i = 1; i <= NF; i++) if (tolower($i) == name) col = i; next } { print $col }' "$1"
}

# field FILE NAME: the value behind NAME in a file of "name value" lines of the .cxlshm tree.
field() { awk -v name="$2" '{ key = $1; sub(/[:=]$/, "", key) } key == name { $1 = ""; sub(/^[ :=]+/, ""); print; exit }' "$1"; }

# fill FILE: with all the room there is.
fill() { yes Z 2>/dev/null | tr -d '\n' 2>&1 >"$1" | grep 'No space left'; }

passthrough() { # is mmap of a file object direct on this kernel?
	grep -q 'CONFIG_FUSE_PASSTHROUGH=y' <(zcat /proc/config.gz 2>/dev/null) && return 0
	! grep -qi 'passthrough.*\(off\|no\|without\)' "$MNT/.cxlshm/pool" 2>/dev/null
}

finish() {
	local mnt pool
	cd / || exit 1
	for mnt in $(awk '$3 == "fuse.cxlshm" { print $2 }' /proc/self/mounts | tac); do
		check "unmount $mnt" unmount_pool "$mnt" || umount -l "$mnt"
	done
	for pool in ${pools[@]+"${pools[@]}"}; do
		[ -e "$pool/heap" ] || continue
		check "fsck finds $pool clean" fsck_clean "$pool"
	done
	finished=1
	echo "$checks checks, $failures failed"
	[ "$checks" -gt 0 ] || exit 1
	[ "$failures" = 0 ] || exit 1
	exit 0
}
