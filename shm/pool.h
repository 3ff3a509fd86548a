/* SPDX-License-Identifier: MIT */
/*
 * pool: a directory with the file heap and the folder x/, mapped whole.
 *
 * Threads: everything in struct pool but `own` is written before the handle is given out.
 */
#ifndef CXLSHM_POOL_H
#define CXLSHM_POOL_H

#include <pthread.h>
#include <stdint.h>

#include "cxlshm.h"
#include "format.h"

struct client;

struct pool {
	char *base;	/* the heap, mapped shared */
	uint64_t heap_bytes;
	int heap_fd;	/* its open file description carries the locks: see client.h */
	int extents_fd;	/* folder x/ */
	int dir_fd;
	char *path;	/* as given, absolute: for messages */
	unsigned flags;	/* CXLSHM_READONLY, CXLSHM_SPARSE */
	int forked;	/* this is the copy in a child of fork(): closed, every call answers -EOWNERDEAD */
	int host;	/* failure_domain=host: write back before the next step */
	void (*fork_hook)(struct pool *pool);	/* in the child of fork(): set by client.c */

	/* geometry, checked when opened */
	const struct super_fmt *super;	/* &checked: a private copy, so that later damage cannot move it */
	struct shared_fmt *shared;
	struct a64 *hints;
	struct segment_fmt *segment_table;
	uint32_t segment_shift;
	uint32_t page_shift;
	uint32_t segments;
	uint32_t first_segment;
	uint32_t slots;
	uint64_t objects_off;	/* the same, as off_is_object() wants it: of the first claimable segment */
	uint64_t objects_bytes;	/* from there to the last header's place */
	uint64_t segment_low;	/* what an offset is in its segment */
	uint64_t page_bytes;

	/* clients of this handle: own[cid], for a lock does not show against itself.  Under own_lock. */
	pthread_mutex_t own_lock;
	struct client **own;
	uint64_t *claimed;	/* claimed[cid]: what own[cid] wrote as its slot's state; 0: it acts for a dead client */
	pthread_key_t thread_key;	/* CXLSHM_JOIN_THREAD */

	/* a test's crash hook, set before clients join; see crash.h */
	void (*crash_hook)(void *arg, struct client *c, unsigned point);
	void *crash_arg;

	/* all open pools of the process, for fork(): see pool.c */
	struct pool *prev, *next;

	struct super_fmt checked;
};

#define POOL_BYTES_MIN (1ull << 20)
#define POOL_BYTES_MAX (1ull << 47)
#define POOL_SLOTS_MIN 1u
#define POOL_SLOTS_DEFAULT_MIN 4u
#define POOL_SLOTS_DEFAULT_MAX 1024u
#define POOL_SEGMENTS_MIN 2u	/* claimable ones */

/* pool_open_exclusive(): when only the superblock's copy is good, go by that. */
#define POOL_USE_COPY (1u << 16)

/* cxlshm_pool_open(), _info(), _space() are in pool.c, _remove() in pool_create.c.  _create() and _close() are
 * in cxlshm.c, which makes the root directory between pool_make() and pool_seal(), and leaves with the
 * clients before pool_unmap().  thread_key is client.c's to make and delete. */
void pool_unmap(struct pool *pool);

/* Lock bytes of the heap file, far behind its end. */
#define LOCK_BASE (1ull << 62)
#define LOCK_POOL LOCK_BASE	/* read: the pool is open; write: it is being made, removed or checked */
#define LOCK_SLOT(cid) (LOCK_BASE + (cid))

/* Open the pool with LOCK_POOL held for writing: nobody else has it open.  -EBUSY.  Otherwise as
 * cxlshm_pool_open().  For cxlshm_check(). */
int pool_open(const char *path, unsigned flags, struct pool **pool, struct cxlshm_error *error);
int pool_open_exclusive(const char *path, unsigned flags, struct pool **pool, struct cxlshm_error *error);

/* Take, change (F_RDLCK, F_WRLCK) or drop (F_UNLCK) the OFD lock on one byte.  -EBUSY: somebody else's. */
int pool_lock(int fd, short type, uint64_t byte);

/* Could the file system of fd give so many bytes?  1 if it cannot be told, as on a tmpfs without a limit. */
int pool_has_room(int fd, uint64_t bytes);

/*
 * A new pool without its root directory, open and with LOCK_POOL held for writing.  pool_seal() makes it
 * valid, and the handle one like cxlshm_pool_open()'s.  Crash before: what cxlshm_pool_create() with force
 * takes.  To give up: pool_discard(), which deletes its files too.
 */
int pool_make(const char *path, const struct cxlshm_pool_options *options, struct pool **pool,
	      struct cxlshm_error *error);
int pool_seal(struct pool *pool, uint64_t root_dir);
void pool_discard(struct pool *pool);

/* Make both copies of the superblock good again from the one that is.  1: repaired, 0: both were good,
 * -EUCLEAN: none is.  -EBUSY while the pool is open. */
int pool_super_repair(const char *path, struct cxlshm_error *error);

/* Within pool*.c.  pool_begin(): a handle with the directory open and nothing else; give it to pool_unmap().
 * pool_heap_open(): the heap file, with the lock of LOCK_POOL; -ENOENT.  pool_map(): geometry from checked. */
int pool_begin(const char *path, unsigned flags, struct pool **pool, struct cxlshm_error *error);
int pool_heap_open(struct pool *pool, int flags, mode_t mode, short lock, struct cxlshm_error *error);
int pool_map(struct pool *pool, struct cxlshm_error *error);

/* pool_super.c.  _layout() fills in the geometry from pool_bytes, segment_shift and slots: -ERANGE one of
 * them is out of its range, -ENOSPC too small for its slots.  _judge(): 0, or -EUCLEAN or -ENOTSUP with a
 * sentence. */
uint64_t pool_super_checksum(const struct super_fmt *super);
uint64_t pool_super_fingerprint(void);
uint32_t pool_super_default_slots(uint64_t pool_bytes);
uint32_t pool_super_default_shift(uint64_t pool_bytes);
int pool_super_layout(struct super_fmt *super);
int pool_super_judge(const struct super_fmt *super, const char *path, struct cxlshm_error *error);
int pool_super_read(int fd, struct super_fmt *first, struct super_fmt *copy);
int pool_super_write(int fd, const struct super_fmt *super);
int pool_super_wipe(int fd);

/* Write a sentence into error, if there is one; returns rc, to be returned. */
int error_set(struct cxlshm_error *error, int rc, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

struct slot_fmt *pool_slot(const struct pool *pool, uint32_t cid);
struct a64 *pool_era_row(const struct pool *pool, uint32_t cid);

/*
 * Has the slot been taken from the client that this handle has in it?  Its lock went with the descriptors, which somebody
 * closed, and others recovered it.  A moment later the answer may be another one: it stops who goes on, not every store.
 * Pairs: client_take_over(), client_unclaim(), claim_slot().
 */
static inline int pool_slot_lost(const struct pool *pool, uint32_t cid, const struct slot_fmt *slot)
{
	return pool->claimed[cid] &&
	       (a64_load_acquire(&slot->state) != pool->claimed[cid] || a64_load_acquire(&slot->taken_over));
}

/*
 * numa.c.  Policies are bind:N, interleave:N,M, preferred:N and cxl (memory-only nodes); N may be a range.
 * numa_check(): -EINVAL with a sentence that names the nodes there are.
 * numa_apply(): the pool's policy for a page-aligned range of a shared mapping of the heap or an extent.
 * numa_apply_fd(): the same for an extent's descriptor, for all it will ever hold.  On tmpfs a policy belongs
 * to the file, not to the mapping, so once at its making is enough.  Both 0 without a policy.
 * numa_mount_option(): "mpol=..." for a tmpfs, "" without a policy.
 */
int numa_check(const char *policy, struct cxlshm_error *error);
int numa_apply(const struct pool *pool, void *addr, uint64_t bytes);
int numa_apply_fd(const struct pool *pool, int fd);
int numa_mount_option(const char *policy, char *out, size_t size);

/* Write back the lines of [p, p + bytes) and wait: what others rely on next is in memory.  Nothing with
 * failure_domain=process. */
static inline void persist_if(int host, const volatile void *p, uint64_t bytes)
{
	if (__builtin_expect(host, 0)) {
		uintptr_t line = (uintptr_t)p & ~(uintptr_t)(ARCH_LINE_BYTES - 1);

		for (; line < (uintptr_t)p + bytes; line += ARCH_LINE_BYTES)
			arch_write_back((const void *)line);
		arch_write_back_fence();
	}
}

static inline void persist(const struct pool *pool, const volatile void *p, uint64_t bytes)
{
	persist_if(pool->host, p, bytes);
}

#endif
