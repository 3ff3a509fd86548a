/* SPDX-License-Identifier: MIT */
/*
 * Small pools to be damaged: making them, putting them back as they were, and doing with a damaged one whatever
 * fsck.cxlshm, a joining client and who recovers the dead would do.  Shared by flips.c, fuzz_pool.c and
 * fuzz_requests.c.
 */
#ifndef TESTS_FUZZ_DAMAGE_H
#define TESTS_FUZZ_DAMAGE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "client.h"
#include "cxlshm.h"

#define DAMAGE_POOL_BYTES (6u << 18)
#define DAMAGE_IMAGES 15u

#define MUST(call)                                                                               \
	do {                                                                                     \
		int must_rc = (call);                                                            \
		if (must_rc) {                                                                   \
			fprintf(stderr, "%s:%d: %s: %d\n", __FILE__, __LINE__, #call, must_rc); \
			abort();                                                                 \
		}                                                                                \
	} while (0)

/* A pool of its own folder, and its bytes as they were made. */
struct damage {
	char dir[80];
	unsigned image;
	int loud;	/* show what the checker says */
	char *heap;	/* the file, mapped */
	int heap_fd;
	char *good;	/* its copy */
	char *zero;	/* which of its pages are */
	uint64_t heap_bytes;
	struct super_fmt super;
	char extent[8][32];
	int64_t extent_bytes[8];
	uint32_t extent_mode[8], folder_mode;
	unsigned extents;
};

/*
 * Image 0: files, folders, queues, a graph, extended attributes, left by everybody.  Others: the same, and a client died
 * in it at the crash point damage_image_name() tells, with references of all kinds.
 */
const char *damage_image_name(unsigned image);
void damage_make(struct damage *d, unsigned image);
void damage_clone(struct damage *d, const struct damage *from);
void damage_restore(struct damage *d);	/* also behind who removed the pool, or made it anew */
void damage_free(struct damage *d);

/* As if it had been made with failure_domain=host; until it is restored. */
void damage_make_host(struct damage *d);

/* Every range of bytes that means something to the library: metadata, not the bytes of objects. */
void damage_ranges(const struct damage *d, void (*visit)(void *arg, uint64_t off, uint64_t bytes, const char *what),
		   void *arg);

/* One change of such a byte or word, made of DAMAGE_CHANGE_BYTES any bytes. */
#define DAMAGE_CHANGE_BYTES 12u
void damage_change(struct damage *d, const uint8_t *at);

/* Nothing differs from the pool as it was made but the eight bytes of its heap at a multiple of eight, and they are word. */
int damage_differs_only_at(const struct damage *d, uint64_t at, const char *word);

/* What a user finds in a pool, by path. */
#define DAMAGE_NAMES 64u
struct damage_names {
	unsigned count;
	struct damage_name {
		char path[64];
		uint32_t kind;	/* enum cxlshm_kind */
		uint64_t bytes;	/* as cxlshm_stat() says; of a directory 0 */
	} name[DAMAGE_NAMES];
};

/* Join the pool in dir and walk its names, at most DAMAGE_NAMES.  0, or why it cannot be joined. */
int damage_list(const char *dir, struct damage_names *names);

struct damage_outcome {
	int check_rc, repair_rc, again_rc;	/* of cxlshm_check(): plain, with REPAIR, plain */
	uint64_t problems;	/* found first */
	uint64_t beyond;	/* said by the repair to be left */
	uint64_t left;	/* of a repair that said it left none: found behind it, or behind the use that followed */
	int open_rc, join_rc;	/* of who used it */
	int list_rc;	/* damage_list() behind the repair */
	int endless;	/* a listing went back: it may never end */
};

/*
 * Check, repair and check the pool as it is, then use it.  how: 0 check and repair only; 1 use the damaged pool as
 * it is, without a repair; 2 both, with the use behind the repair.  Writes how far it came to *stage, if there is one, and what
 * is found behind the repair to *names, if it is wanted.
 */
void damage_try(struct damage *d, int how, struct damage_outcome *outcome, volatile uint32_t *stage, struct damage_names *names);

/* Open, join, walk the names, work with everything, recover the dead, leave. */
void damage_use(const char *dir, struct damage_outcome *outcome);

#endif
