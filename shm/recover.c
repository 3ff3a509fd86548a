/* SPDX-License-Identifier: MIT */
/*
 * Recovery, and leaving, which is the same without a record to finish.
 */
#include "recover.h"

#include <limits.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>
#include <sys/syscall.h>

/* A record leads only where its operation could have led: a damaged one is dropped, and fsck will find what it left. */
static int record_sane(const struct client *c, const struct redo_fmt *r)
{
	const struct pool *pool = c->pool;
	int segment_ok = r->object >= pool->first_segment && r->object < pool->segments;

	if (r->word && (r->word & 15 || !off_in_heap(pool, r->word, 16)))
		return 0;
	switch (r->op) {
	case REDO_ATTACH:
	case REDO_DETACH:
		return off_is_object(pool, r->word) && !(r->loc & 7) && off_in_heap(pool, r->loc, 8);
	case REDO_EXCHANGE:
		return r->word && !(r->loc & 7) && off_in_heap(pool, r->loc, 8) &&
		       (!r->object || off_is_object(pool, r->object));
	case REDO_MOVE:
		return !(r->loc & 7) && off_in_heap(pool, r->loc, 8) && !(r->aux & 7) && off_in_heap(pool, r->aux, 8);
	case REDO_PUSH:
		return r->word && (!r->next || off_is_object(pool, r->next));
	case REDO_POP:
		return off_is_object(pool, r->object) && (!r->next || off_is_object(pool, r->next));
	case REDO_COLLECT:
		return r->word && off_is_object(pool, r->object);
	case REDO_SEGMENT_CLAIM:
		return r->word && segment_ok;
	case REDO_SEGMENT_RELEASE:
		return r->word && segment_ok && !(r->loc & 7) && off_in_heap(pool, r->loc, 8);
	case REDO_SPAN_GROW:	/* next is the new length: the span may end where the pool does */
		return r->word && segment_ok && r->next && r->next <= pool->segments - r->object;
	case REDO_SPAN_SHRINK:	/* object + next is the segment that leaves the span */
		return segment_ok && r->next && r->next < pool->segments - r->object;
	case REDO_COUNT:
	case REDO_DIR_MOVE:
		return r->word != 0;
	case REDO_EXTENT:
		return !(r->loc & 7) && off_in_heap(pool, r->loc, 8);
	}
	return 0;
}

static void apply(struct client *c, struct redo_fmt *r)
{
	switch (r->op) {
	case REDO_ATTACH:
		ref_apply_attach(c, r);
		break;
	case REDO_DETACH:
		ref_apply_detach(c, r);
		break;
	case REDO_EXCHANGE:
		cell_apply_exchange(c, r);
		break;
	case REDO_MOVE:
		ref_apply_move(c, r);
		break;
	case REDO_PUSH:
		page_apply_push(c, r);
		break;
	case REDO_POP:
		page_apply_pop(c, r);
		break;
	case REDO_COLLECT:
		page_apply_collect(c, r);
		break;
	case REDO_SEGMENT_CLAIM:
		segment_apply_claim(c, r);
		break;
	case REDO_SEGMENT_RELEASE:
		segment_apply_release(c, r);
		break;
	case REDO_SPAN_GROW:
		segment_apply_grow(c, r);
		break;
	case REDO_SPAN_SHRINK:
		segment_apply_shrink(c, r);
		break;
	case REDO_COUNT:
		counter_apply(c, r);
		break;
	case REDO_EXTENT:
		(void)extent_apply_make(c, r);
		break;
	case REDO_DIR_MOVE:
		names_apply_dir_move(c, r);
		break;
	}
}

/* Did the sealed record commit?  If so, apply it, once more or for the first time. */
static void finish_record(struct client *c)
{
	struct redo_fmt *r = &c->slot->redo;
	int landed;

	if (!redo_sealed(c) || !record_sane(c, r))
		return;
	/* What is readable now stays so until read_end. */
	client_read_begin(c);
	fence_seq_cst();
	landed = !r->word || (r->op == REDO_DETACH && r->phase) ||
		 era_landed(c->pool, c->cid, client_era(c),
			    segment_readable(c->pool, r->word) ? (struct a128 *)off_ptr(c->pool, r->word) : NULL);
	if (landed)
		apply(c, r);
	client_read_end(c);
}

/* It may have died before it had looked at a segment that it pushed onto or orphaned; if it had, once more does no harm. */
static void look_again(struct client *c)
{
	uint64_t segment = c->slot->redo.look;

	if (segment >= c->pool->first_segment && segment < c->pool->segments)
		page_look(c, (uint32_t)segment);
}

/* The dead client's chain of free rows is lost: chain those that hold nothing. */
static int collect_row(struct client *c, struct root_fmt *row, void *arg)
{
	uint64_t off = root_object(row);

	(void)arg;
	/* A FREE block of its own segment: an allocation that did not happen, or a release that did. */
	if (off && (!off_is_object(c->pool, off) ||
		    (segment_is_mine(c, off_segment(c->pool, off)) &&
		     object_state(a128_value_relaxed(&off_object(c->pool, off)->word)) == OBJECT_FREE))) {
		a64_store_release(&row->object, 0);
		persist(c->pool, row, sizeof(*row));
		CRASH_POINT(c, recover, row_emptied);
		off = 0;
	}
	if (!off)
		root_give(c, row);
	return 0;
}

static int drop_row(struct client *c, struct root_fmt *row, void *arg)
{
	uint64_t off = root_object(row);

	(void)arg;
	if (!off)
		return 0;
	c->done.references++;
	if (alloc_release_private(c, row, off_of(c->pool, row))) {
		c->done.objects++;
	} else {
		ref_detach(c, &row->object, off);
		ref_undertake(c);
	}
	return 0;
}

/* Others may import them meanwhile, so they are taken out like anybody takes them. */
static void drop_exports(struct client *c)
{
	for (uint32_t i = 0; i < EXPORTS; i++) {
		struct cell_fmt *cell = &c->slot->exports[i];
		struct root_fmt *row;
		struct stamped seen;

		while ((seen = a128_load_acquire(&cell->word)).value && !root_take(c, &row)) {
			if (!cell_exchange(c, cell, seen, row, NULL))
				c->done.references++;
			ref_drop_row(c, row);
		}
	}
}

static void count_gone(struct client *c)
{
	struct shared_fmt *shared = c->pool->shared;

	a64_add_relaxed(&shared->gone_allocations, a64_load_relaxed(&c->slot->allocations));
	a64_add_relaxed(&shared->gone_frees, a64_load_relaxed(&c->slot->frees));
	a64_add_relaxed(&shared->gone_attaches, a64_load_relaxed(&c->slot->attaches));
	a64_store_relaxed(&c->slot->allocations, 0);
	a64_store_relaxed(&c->slot->frees, 0);
	a64_store_relaxed(&c->slot->attaches, 0);
}

static void retire(struct client *c, struct cxlshm_recovery *done)
{
	struct pool *pool = c->pool;

	names_settle(c);
	ref_undertake(c);
	root_each(c, drop_row, NULL);
	/* A row is wanted to take exports out with: all are empty now. */
	c->root_free = 0;
	root_each(c, collect_row, NULL);
	drop_exports(c);
	a64_store_release(&c->slot->roots_next, 0);
	persist(pool, &c->slot->roots_next, 8);
	CRASH_POINT(c, recover, roots_dropped);
	c->root_free = 0;
	page_retire(c);
	/* Memory that was kept because somebody was looking: perhaps nobody is any more. */
	segment_trim_hinted(c, UINT32_MAX);
	count_gone(c);
	a64_store_relaxed(&c->slot->segments_owned, 0);
	*done = c->done;
	client_unclaim(c);
	a32_add_acq_rel(&pool->shared->clients_sequence, 1);
	syscall(SYS_futex, a32_address(&pool->shared->clients_sequence), FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void recover_retire(struct client *c)
{
	struct cxlshm_recovery done;

	memset(&c->done, 0, sizeof(c->done));
	retire(c, &done);
}

int recover_one(struct pool *pool, uint32_t cid, struct cxlshm_recovery *recovery)
{
	struct cxlshm_recovery done;
	struct client *c;
	int rc;

	if (client_alive(pool, cid))
		return -EAGAIN;
	rc = client_take_over(pool, cid, &c);
	if (rc)
		return rc;
	CRASH_POINT(c, recover, taken_over);
	finish_record(c);
	/*
	 * It may have died looking: nobody looks now.  Pairs: segment_quiet().  Crash after: the record is still sealed, and
	 * finished once more, by who looks anew at what is readable then.
	 */
	a64_store_release(&c->slot->reading, 0);
	CRASH_POINT(c, recover, reading_cleared);
	era_bump(c);	/* always: the dead client may have used its era in a stamp without a record (rule 4) */
	root_each(c, collect_row, NULL);
	look_again(c);
	a64_add_relaxed(&pool->shared->clients_recovered, 1);
	retire(c, &done);
	a64_add_relaxed(&pool->shared->references_recovered, done.references);
	if (recovery) {
		recovery->clients++;
		recovery->references += done.references;
		recovery->objects += done.objects;
		recovery->segments += done.segments;
		recovery->extents += done.extents;
	}
	return 0;
}

int recover_dead(struct pool *pool, struct cxlshm_recovery *recovery)
{
	uint64_t high = a64_load_acquire(&pool->shared->slots_high);
	struct timespec from, to;

	if (pool->forked)
		return -EOWNERDEAD;
	if (pool->flags & CXLSHM_READONLY)
		return -EROFS;
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (uint32_t cid = 1; cid <= high && cid <= pool->slots; cid++)
		if (client_claimed(pool, cid))
			(void)recover_one(pool, cid, recovery);
	clock_gettime(CLOCK_MONOTONIC, &to);
	if (recovery)
		recovery->duration_ns += (uint64_t)((to.tv_sec - from.tv_sec) * 1000000000 + to.tv_nsec - from.tv_nsec);
	return 0;
}
