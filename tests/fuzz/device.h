/* SPDX-License-Identifier: MIT */
/*
 * A /dev/fuse without a kernel behind it: what the daemon reads from it was put there by request(), what it writes is
 * kept for who asked.  Mounts, backing files and the monotonic clock are made up, too, so that the daemon's own
 * passthrough_mount() and handshake run, and a case takes the same course every time.
 *
 * Linked with -Wl,--wrap for each call that is to come here (device_wraps in meson.build, wraps in run.sh): this program's
 * own objects', not those inside libraries.  What is not meant for the device goes on to libc.
 */
#ifndef TESTS_FUZZ_DEVICE_H
#define TESTS_FUZZ_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DEVICE_REPLY_BYTES ((17u << 20) + 4096)
#define DEVICE_BACKING_MAX 64u

enum device_kernel {
	DEVICE_PASSTHROUGH,	/* 6.9 and newer, root */
	DEVICE_REFUSES,	/* offers passthrough, but takes no backing file */
	DEVICE_OLD,	/* does not know passthrough */
	DEVICE_UNPRIVILEGED,	/* mounted by fusermount3 */
};

struct device {
	enum device_kernel kernel;
	const char *request;	/* what the next read gives */
	size_t request_bytes;
	bool gone;	/* who asked was killed: the answer is refused with ENOENT */
	unsigned replies;	/* since device_ask() */
	char *reply;	/* the last one */
	size_t reply_bytes;
	unsigned late;	/* EAGAIN, the answers to INTERRUPT requests that found nothing to interrupt */
	int backing[DEVICE_BACKING_MAX];	/* descriptors; -1: none.  The id is the index + 1 */
	unsigned backing_count;
	bool mounted;
	uint64_t clock_ns;	/* how much later it is than the machine's clock says */
};

/* The one there is. */
struct device *device(void);

/* A new device, before passthrough_mount(). */
void device_begin(enum device_kernel kernel);

/* Nothing mounted, no backing file left: aborts otherwise. */
void device_end(void);

/* Put one request up for the session to read. */
void device_ask(const char *request, size_t bytes, bool gone);

#endif
