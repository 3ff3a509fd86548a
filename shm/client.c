/* SPDX-License-Identifier: MIT */
/*
 * Claiming slots, and who is alive.
 *
 * A slot is claimed in this order: its lock, the memory of its area, slots_high, its era, its state.  Death before the
 * state is written leaves a free slot; after it, a claimed slot without a lock, which is what recovery looks for.
 * A lock does not conflict with itself, so slots in use through this handle are known from pool->own.
 */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>

static int lock_slot(struct pool *pool, uint32_t cid, short type)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)LOCK_SLOT(cid), .l_len = 1};
	int rc;

	do
		rc = fcntl(pool->heap_fd, F_OFD_SETLK, &fl);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : 0;
}

int client_claimed(const struct pool *pool, uint32_t cid)
{
	return cid <= a64_load_acquire(&pool->shared->slots_high) &&
	       (a64_load_acquire(&pool_slot(pool, cid)->state) & 0xff) == SLOT_CLAIMED;
}

uint64_t client_incarnation(const struct pool *pool, uint32_t cid)
{
	return a64_load_acquire(&pool_slot(pool, cid)->state) >> 8;
}

int client_alive(struct pool *pool, uint32_t cid)
{
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = (off_t)LOCK_SLOT(cid), .l_len = 1};
	int mine;

	if (!client_claimed(pool, cid))
		return 0;
	pthread_mutex_lock(&pool->own_lock);
	mine = pool->own[cid] != NULL;
	pthread_mutex_unlock(&pool->own_lock);
	if (mine)
		return 1;
	if (pool->flags & CXLSHM_READONLY)
		fl.l_type = F_RDLCK;
	if (fcntl(pool->heap_fd, F_OFD_GETLK, &fl) < 0)
		return 1;	/* cannot tell: nobody is declared dead on a guess */
	return fl.l_type != F_UNLCK;
}

int client_dead(struct pool *pool, uint32_t cid, uint64_t incarnation)
{
	int dead = client_claimed(pool, cid) &&
		   (!client_alive(pool, cid) || a64_load_acquire(&pool_slot(pool, cid)->taken_over));

	/* All of it was said of this one: who claims the slot next sets taken_over before its own incarnation. */
	return dead && client_claimed(pool, cid) && client_incarnation(pool, cid) == incarnation;
}

/* Does this processor's kernel order other processes' reads for us?  See client_read_begin(). */
static int has_membarrier(void)
{
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

/* The child's copies find no row and take the long ways, which refuse them. */
static void forked(struct pool *pool)
{
	for (uint32_t cid = 1; cid <= pool->slots; cid++)
		if (pool->own[cid]) {
			pool->own[cid]->rows = 0;
			pool->own[cid]->short_rows = 0;
			pool->own[cid]->short_bytes = 0;
		}
}

static struct client *handle_new(struct pool *pool, uint32_t cid)
{
	struct client *c = aligned_alloc(64, (sizeof(*c) + 63) & ~63ul);
	uint32_t few;

	if (!c)
		return NULL;
	memset(c, 0, sizeof(*c));
	c->pool = pool;
	pool->fork_hook = forked;
	c->base = pool->base;
	c->cid = cid;
	c->slots = pool->slots;
	c->tag = (uint64_t)cid << OFFSET_BITS;
	c->segment_table = pool->segment_table;
	c->link_base = (uintptr_t)pool->base - STAMP_LINK;
	c->free_base = (uintptr_t)pool->base - ROOT_FREE;
	c->tag_free = c->tag ^ ROOT_FREE;
	c->rows = (pool->heap_bytes >> 4) - 1;
	if (!pool->host) {
		c->short_rows = c->rows;
		c->short_bytes = CLIENT_SHORT_BYTES;
	}
	c->segment_mask = ~((1ull << pool->segment_shift) - 1);
	c->segment_mine = (uint32_t)segment_value(SEGMENT_OWNED, cid, 0);
	c->segment_shift = pool->segment_shift;
	c->page_shift = pool->page_shift;
	c->slot = pool_slot(pool, cid);
	c->row = pool_era_row(pool, cid);
	c->era_word = &c->row[cid];
	c->fenced = pool->host || !has_membarrier();
	c->claim_cursor = cid;
	few = pool->segments < 32 ? 1 : pool->segments < 64 ? pool->segments / 16 : 4;
	c->trim_max = pool->segments < 64 ? 1 : pool->segments < 320 ? pool->segments / 64 : 5;
	c->idle_max = c->trim_max + few;
	c->span_max = pool->segments / 64 > few ? pool->segments / 64 : few;
	return c;
}

/* Reserve the areas of slots 1 to cid: nothing is touched before it is reserved, or a full tmpfs is SIGBUS. */
static int reserve_areas(struct pool *pool, uint32_t cid)
{
	const struct super_fmt *s = pool->super;
	int rc;

	if (cid <= a64_load_acquire(&pool->shared->slots_high))
		return 0;
	do
		rc = fallocate(pool->heap_fd, 0, (off_t)s->slots_off, (off_t)(cid * s->slot_stride_bytes));
	while (rc < 0 && errno == EINTR);
	if (rc < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	return 0;
}

static void raise_slots_high(struct pool *pool, uint32_t cid)
{
	struct a64 *high = &pool->shared->slots_high;
	uint64_t old;

	while ((old = a64_load_acquire(high)) < cid)
		if (a64_cas_acq_rel(high, old, cid))
			break;
	persist(pool, high, sizeof(*high));
}

static void copy_name(char *to, const char *name)
{
	size_t i = 0;

	/* Names are shown in tables: no white space, nothing unprintable. */
	for (; name && name[i] && i < CLIENT_NAME_BYTES - 1; i++)
		to[i] = name[i] > ' ' && name[i] < 0x7f ? name[i] : '_';
	memset(to + i, 0, CLIENT_NAME_BYTES - i);
}

static int claim_slot(struct pool *pool, uint32_t cid, const char *name, struct client **out)
{
	struct timespec now;
	struct client *c;
	uint64_t state;
	int rc;

	rc = lock_slot(pool, cid, F_WRLCK);
	if (rc)
		return rc;
	rc = reserve_areas(pool, cid);
	if (rc)
		goto unlock;
	raise_slots_high(pool, cid);
	c = handle_new(pool, cid);
	rc = -ENOMEM;
	if (!c)
		goto unlock;
	CRASH_POINT(c, client, locked);
	/* Claimed by one that died since we looked, or claimed and left again: only a free one is ours to take. */
	state = a64_load_acquire(&c->slot->state);
	rc = -EAGAIN;
	if ((state & 0xff) != SLOT_FREE)
		goto drop;
	if (!client_era(c)) {
		a64_store_release(c->era_word, 1);
		/* Or the first record would be sealed in an era that memory knows nothing of. */
		persist(pool, c->era_word, sizeof(*c->era_word));
	}
	a64_store_release(&c->slot->reading, 0);
	a64_store_release(&c->slot->taken_over, 0);
	/* It is, but where a damaged slot looks free: then dir_move may name it, and all would wait for us for ever. */
	a64_store_release(&c->slot->moving_dir, 0);
	copy_name(c->slot->name, name ? name : program_invocation_short_name);
	a64_store_relaxed(&c->slot->pid, (uint64_t)getpid());
	clock_gettime(CLOCK_REALTIME, &now);
	a64_store_relaxed(&c->slot->joined_ns, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	a64_store_relaxed(&c->slot->allocations, 0);
	a64_store_relaxed(&c->slot->frees, 0);
	a64_store_relaxed(&c->slot->attaches, 0);
	a64_store_relaxed(&c->slot->recoveries, 0);
	persist(pool, c->slot, sizeof(*c->slot));
	CRASH_POINT(c, client, reserved);
	/*
	 * Pairs: client_claimed().  Crash before: the slot is still free.  After: claimed and unlocked, and empty.
	 */
	a64_store_release(&c->slot->state, ((state >> 8) + 1) << 8 | SLOT_CLAIMED);
	persist(pool, &c->slot->state, sizeof(c->slot->state));
	CRASH_POINT(c, client, claimed);
	*out = c;
	return 0;
drop:
	free(c);
unlock:
	lock_slot(pool, cid, F_UNLCK);
	return rc;
}

int client_claim(struct pool *pool, const char *name, struct client **out)
{
	uint64_t high = a64_load_acquire(&pool->shared->slots_high);
	int rc = -EUSERS;

	/* Under the lock throughout: two threads of one handle must not lock one slot twice. */
	pthread_mutex_lock(&pool->own_lock);
	for (uint32_t cid = 1; cid <= pool->slots; cid++) {
		int tried;

		if (pool->own[cid] || (cid <= high && client_claimed(pool, cid)))
			continue;
		tried = claim_slot(pool, cid, name, out);
		if (tried == -EAGAIN || tried == -EACCES)
			continue;	/* somebody else was faster */
		rc = tried;
		if (!rc) {
			pool->own[cid] = *out;
			pool->claimed[cid] = a64_load_relaxed(&(*out)->slot->state);
		}
		break;
	}
	pthread_mutex_unlock(&pool->own_lock);
	return rc;
}

int client_take_over(struct pool *pool, uint32_t cid, struct client **out)
{
	struct client *c;
	int rc = -EAGAIN;

	pthread_mutex_lock(&pool->own_lock);
	if (pool->own[cid] || !client_claimed(pool, cid))
		goto out;
	if (lock_slot(pool, cid, F_WRLCK))
		goto out;
	if (!client_claimed(pool, cid))	/* recovered by somebody else before we had the lock */
		goto unlock;
	c = handle_new(pool, cid);
	rc = -ENOMEM;
	if (!c)
		goto unlock;
	c->acting = 1;
	/* Pairs: client_dead().  Crash before: unlocked, so it is dead all the same.  After: it stays so. */
	a64_store_release(&c->slot->taken_over, 1);
	pool->own[cid] = c;
	*out = c;
	rc = 0;
	goto out;
unlock:
	lock_slot(pool, cid, F_UNLCK);
out:
	pthread_mutex_unlock(&pool->own_lock);
	return rc;
}

void client_unclaim(struct client *c)
{
	uint64_t state = a64_load_acquire(&c->slot->state);

	c->pool->claimed[c->cid] = 0;	/* the state changes by us */
	/*
	 * Pairs: client_claimed().  Crash before: recovery finds an empty slot and comes here again.  After: free.
	 */
	a64_store_release(&c->slot->state, (state & ~0xffull) | SLOT_FREE);
	persist(c->pool, &c->slot->state, sizeof(c->slot->state));
	CRASH_POINT(c, client, freed);
	client_abandon(c);
}

void client_abandon(struct client *c)
{
	struct pool *pool = c->pool;

	pthread_mutex_lock(&pool->own_lock);
	pool->own[c->cid] = NULL;
	/* Where the slot was lost the descriptor may be anybody's by now, even another handle's of this pool. */
	if (!pool->forked && !pool_slot_lost(pool, c->cid, c->slot))
		lock_slot(pool, c->cid, F_UNLCK);
	pool->claimed[c->cid] = 0;
	pthread_mutex_unlock(&pool->own_lock);
	if (c->reading)	/* left by longjmp(), in a test */
		tsan_overlook_end();
	free(c);
}
