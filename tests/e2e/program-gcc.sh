#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# gcc, ar, ld and make build a library and a program in the mount, which then runs from there.
. "$E2E_LIB/e2e.sh"
need gcc make ar
make_pool "$POOL" 128M
mount_pool
mkdir "$MNT/src"
cd "$MNT/src" || exit 1
for i in $(seq 40); do echo "int f$i(int x) { return x * $i + 1; }" >"f$i.c"; done
{
	echo '#include <stdio.h>'
	for i in $(seq 40); do echo "int f$i(int);"; done
	echo 'int main(void) { int s = 0;'
	for i in $(seq 40); do echo "s += f$i($i);"; done
	echo 'printf("%d\n", s); return 0; }'
} >main.c
cat >Makefile <<'M'
CFLAGS = -O2 -g -fPIC -MMD
OBJECTS = $(patsubst %.c,%.o,$(wildcard f*.c))
all: program static
program: main.o libf.so
	$(CC) -o $@ main.o -L. -lf -Wl,-rpath,$(CURDIR)
static: main.o libf.a
	$(CC) -o $@ main.o libf.a
libf.so: $(OBJECTS)
	$(CC) -shared -o $@ $^
libf.a: $(OBJECTS)
	ar rcs $@ $^
-include *.d
M
wanted=$((22140 + 40))	# the sum of i*i + 1, i from 1 to 40
check "make -j4" make -j4
same "the program, with its shared library mapped from the mount" "$(./program)" "$wanted"
same "the static one" "$(./static)" "$wanted"
check "make again has nothing to do" bash -c 'make | grep -q "Nothing to be done"'
sleep 0.01
touch f7.c
check "make after touch rebuilds" bash -c 'make | grep -q "f7.o"'
check "make -B -j2" make -B -j2
same "the program again" "$(./program)" "$wanted"
check "strip in place" strip program
same "it runs stripped" "$(./program)" "$wanted"
cd /
finish
