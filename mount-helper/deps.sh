#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The one list of Debian packages that cxlshm needs.
#
#   deps.sh list [build]       print them
#   deps.sh install [build]    install the ones that are missing (with sudo if not root)
#   deps.sh missing [build]    print the ones that are missing
#
# With `build` only what building, mounting and try.sh need; without, what the tests and benchmarks need too.
set -eu

build="gcc libc6-dev meson ninja-build pkg-config libfuse3-dev fuse3 libnuma-dev python3 attr mount psmisc procps"
tests="g++ clang libclang-rt-dev libcmocka-dev man-db spin strace numactl util-linux
	git sqlite3 tar rsync make binutils libmimalloc-dev libjemalloc-dev"

usage() {
	sed -n '3,10s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

want() {
	case ${1-all} in
	build) echo $build ;;
	all) echo $build $tests ;;
	*) usage ;;
	esac
}

# One query for all: a package is there when its status is "installed".
missing() {
	local have
	have=" $(dpkg-query -W -f '${Status} ${binary:Package}\n' 2>/dev/null |
		sed -nE 's/^install ok (installed|triggers-[a-z]+) ([^:]*).*/\2/p' | tr '\n' ' ') "
	for package in $(want "$@"); do
		case $have in *" $package "*) ;; *) echo "$package" ;; esac
	done
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "deps.sh: to install packages, run me as root or install sudo" >&2
		return 1
	fi
}

elsewhere() {
	cat >&2 <<'TEXT'
deps.sh: this is not Debian or Ubuntu (there is no apt-get). Install what corresponds to
  Fedora, RHEL   gcc meson ninja-build pkgconf fuse3 fuse3-devel numactl-devel python3 attr psmisc libcmocka-devel
  openSUSE       gcc meson ninja pkg-config fuse3 fuse3-devel libnuma-devel python3 attr psmisc libcmocka-devel
  Arch           gcc meson ninja pkgconf fuse3 numactl python attr psmisc cmocka
  Alpine         build-base linux-headers meson pkgconf fuse3 fuse3-dev numactl-dev python3 attr psmisc cmocka-dev
and for the tests also: g++, clang, man-db, spin, strace, numactl, git, sqlite3, rsync, make, mimalloc, jemalloc.
TEXT
}

case ${1-} in
list)
	want "${2-all}" | tr ' ' '\n'
	;;
missing)
	missing "${2-all}"
	;;
install)
	if ! command -v apt-get >/dev/null; then
		elsewhere
		# They may be there already: whoever called us finds out.
		exit 3
	fi
	packages=$(missing "${2-all}")
	[ -n "$packages" ] || exit 0
	echo "deps.sh: installing" $packages
	# A fresh image has no package lists; a slow mirror deserves a second try.
	for try in 1 2 3; do
		as_root apt-get -qq -o Acquire::Retries=3 update &&
			as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 install \
				--no-install-recommends $packages >/dev/null &&
			break
		[ "$try" != 3 ] || exit 1
		sleep 3
	done
	;;
*)
	usage
	;;
esac
