/* SPDX-License-Identifier: MIT */
/*
 * The kernel's side of a FUSE mount, as far as the daemon sees it: requests one after the other, and the books a kernel
 * keeps of the node ids, file handles and backing files that the answers gave it.
 *
 * What is trusted, by the daemon and therefore kept here: a node id is one that an answer gave out and that is not
 * forgotten yet, a file handle one that is not released yet (both are pointers, in this daemon as in most).  The counts
 * of a BATCH_FORGET and the sizes of WRITE and SETXATTR are not beyond what the request holds (libfuse has no check).
 * Everything else may be anything.
 *
 * Each request is answered once, but for those that have no answer; else this aborts.  So it does when files that are
 * open at once do not agree on passthrough and backing file, which a kernel answers with EIO.
 */
#ifndef TESTS_FUZZ_KERNEL_H
#define TESTS_FUZZ_KERNEL_H

#include <linux/fuse.h>
#include <stdbool.h>

#include "device.h"
#include "start.h"

#define KERNEL_MAPS_MAX 4u
#define KERNEL_BODY_MAX 9000u	/* bytes of a request's body */

struct kernel_node {
	uint64_t id, lookups;
	uint32_t opens;	/* regular opens that are not released */
	uint32_t backing;	/* what they use; 0: none */
};

struct kernel_file {
	uint64_t fh, node;
	bool folder;
	bool counted;	/* in its node's opens */
	uint32_t backing;
};

struct kernel {
	struct fs *fs;
	struct prune *prune;	/* NULL: the daemon runs without its own threads */
	struct monitor *monitor;
	struct options options;
	char pool[96];
	char mountpoint[8];
	struct fuse_buf *buffer;	/* as the session loop has one a worker */
	uint64_t unique;
	uint64_t requests;
	uint32_t uid, gid;	/* who asks */
	bool ready;	/* INIT is answered */
	bool whole;	/* the pool is not damaged: what the daemon says about it has to make sense, too */
	int error;	/* of the last answer: 0 or a positive errno */
	unsigned interrupts;
	struct kernel_node *nodes;	/* [0]: the root */
	size_t node_count, node_room;
	struct kernel_file *files;
	size_t file_count, file_room;
	void *maps[KERNEL_MAPS_MAX];
};

/* The daemon starts and mounts.  Returns 0, or why it does not: -errno.  whole: as in the struct. */
int kernel_mount(struct kernel *k, const char *pool, enum device_kernel kind, bool sparse, bool whole);

/* The handshake, with minor version and flags as told; its answer leaves k->ready. */
void kernel_init(struct kernel *k, uint32_t major, uint32_t minor, uint64_t flags, size_t body_bytes);

/* The daemon's own threads run, too, from here on; what they do depends on the time. */
void kernel_start_threads(struct kernel *k);

/* Unmap, release and forget everything, say good-bye, end the daemon; aborts if it holds anything then. */
void kernel_unmount(struct kernel *k);

/* How the caller or the way of a request may be out of the ordinary. */
#define KERNEL_GONE 1u	/* the caller was killed meanwhile */
#define KERNEL_CUT 2u	/* half of the body is missing */
#define KERNEL_LIES 4u	/* the header tells another length */

/*
 * One request; body: what follows the header.  Returns the answer's body, until the next one, or NULL if it is an error or
 * there is none.
 */
const char *kernel_send(struct kernel *k, uint32_t opcode, uint64_t node_id, const void *body, size_t bytes,
			unsigned how);

/* RELEASE or RELEASEDIR of the file with that index; FORGET of count lookups of the node with that index. */
void kernel_release(struct kernel *k, size_t file);
void kernel_forget(struct kernel *k, size_t node, uint64_t count);
void kernel_forget_many(struct kernel *k, const struct fuse_forget_one *what, uint32_t count);

/* The clock goes on, and the daemon's monitor does what is due; with bit 16 set, as if who asks had died. */
void kernel_wait(struct kernel *k, uint64_t ns);

/* A program maps, stores to, or unmaps a file that is open with passthrough. */
void kernel_map(struct kernel *k, size_t file, unsigned slot);
void kernel_store(struct kernel *k, size_t file, uint64_t offset, uint32_t bytes);

#endif
