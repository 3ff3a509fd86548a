/* SPDX-License-Identifier: MIT */
/*
 * Segments: claimed, spanned, orphaned, adopted, given back.
 */
#include <limits.h>
#include <signal.h>

#include "fixture.h"
#include "small_tmpfs.h"
#include "membarrier.h"

#include "page.h"

static uint32_t count_state(const struct pool *pool, enum segment_state state)
{
	uint32_t n = 0;

	for (uint32_t s = pool->first_segment; s < pool->segments; s++)
		n += segment_state_of(pool, s) == state;
	return n;
}

static void all_are_claimed_once_and_given_back(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	uint32_t all = count_state(c->pool, SEGMENT_FREE), segment;

	(void)state;
	for (uint32_t i = 0; i < all; i++) {
		assert_int_equal(segment_claim(c, &segment), 0);
		assert_true(segment_is_mine(c, segment));
	}
	assert_int_equal(segment_claim(c, &segment), -ENOSPC);
	assert_int_equal(count_state(c->pool, SEGMENT_OWNED), all);
	while ((segment = (uint32_t)a64_load_relaxed(&c->slot->segments_head)))
		segment_release(c, segment);
	assert_int_equal(count_state(c->pool, SEGMENT_FREE), all);
	fixture_free(f);
}

static void two_clients_never_get_the_same(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c[2] = {(struct client *)f->client, NULL};
	struct cxlshm_client *other;
	uint8_t owner[64] = {0};
	uint32_t segment;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	c[1] = (struct client *)other;
	for (uint32_t i = 0; !segment_claim(c[i & 1], &segment); i++) {
		assert_true(segment < 64);
		assert_int_equal(owner[segment], 0);
		owner[segment] = (uint8_t)(1 + (i & 1));
	}
	for (segment = 0; segment < 64; segment++)
		if (owner[segment])
			segment_release(c[owner[segment] - 1], segment);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

struct death {
	unsigned point;
	unsigned left;	/* passes of it, the last one included */
};

static void die(void *arg, struct client *c, unsigned point)
{
	struct death *death = arg;

	(void)c;
	if (point == death->point && !--death->left)
		raise(SIGKILL);
}

/* A client, in a process of its own, that dies at the n-th pass of the point. */
static void die_within(struct fixture *f, void (*body)(struct cxlshm_client *c), unsigned point, unsigned n)
{
	struct death death = {point, n};
	struct cxlshm_client *c;
	struct cxlshm_pool *mine;
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		alarm(60);
		if (cxlshm_pool_open(f->dir, 0, &mine, NULL) || cxlshm_join(mine, "doomed", 0, &c))
			_exit(1);
		((struct pool *)mine)->crash_arg = &death;
		((struct pool *)mine)->crash_hook = die;
		body(c);
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void claim_all_as_one(struct cxlshm_client *client)
{
	struct client *c = (struct client *)client;
	uint32_t head;

	segment_span_claim(c, count_state(c->pool, SEGMENT_FREE), &head);
}

/* The record of the last step says a length that ends where the pool does. */
static void a_span_to_the_pools_end_is_given_back_after_a_death(void **state)
{
	struct fixture *f;
	struct pool *pool;
	uint32_t before;

	(void)state;
	SKIP_IF_ONE_PROCESS();
	f = fixture_new(4 << 20, 4);
	pool = (struct pool *)f->pool;
	before = count_state(pool, SEGMENT_FREE);
	die_within(f, claim_all_as_one, CRASH_segment_grow_swapped, before - 1);
	assert_int_equal(segment_state_of(pool, pool->segments - 1), SEGMENT_BODY);
	assert_int_equal(cxlshm_recover(f->pool, NULL), 0);
	assert_int_equal(count_state(pool, SEGMENT_FREE), before);
	fixture_free(f);
}

static void an_orphan_is_adopted_by_one(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct cxlshm_client *other;
	uint32_t segment, adopted;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	assert_int_equal(segment_claim((struct client *)other, &segment), 0);
	segment_orphan((struct client *)other, segment);
	assert_int_equal(segment_state_of(c->pool, segment), SEGMENT_ORPHAN);
	assert_int_equal(segment_adopt(c, segment), 0);
	assert_true(segment_is_mine(c, segment));
	assert_int_equal(segment_adopt((struct client *)other, segment), -EAGAIN);
	page_adopted(c, segment, 0);	/* nothing is in it: back it goes */
	assert_int_equal(segment_state_of(c->pool, segment), SEGMENT_FREE);
	/* mkfs left one, with the root directory in it. */
	assert_int_equal(segment_adopt_any(c, &adopted), 0);
	page_adopted(c, adopted, 1);
	assert_int_equal(segment_adopt_any(c, &adopted), -ENOENT);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

static void name_one_and_leave(struct cxlshm_client *client)
{
	cxlshm_ref ref;

	if (!cxlshm_alloc(client, 100, &ref) && !cxlshm_link(client, ref, 0, "stays", 0600))
		cxlshm_leave(client);
}

/* Whoever needs memory finds it, wherever its former owner died. */
static void an_orphan_is_found_after_a_death(void **state)
{
	static const unsigned points[] = {CRASH_segment_release_swapped, CRASH_segment_release_unlinked,
					  CRASH_segment_release_hinted};

	(void)state;
	SKIP_IF_ONE_PROCESS();
	for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		struct fixture *f = fixture_new(1 << 20, 4);
		cxlshm_ref ref;

		die_within(f, name_one_and_leave, points[i], 1);
		assert_int_equal(cxlshm_recover(f->pool, NULL), 0);
		while (!cxlshm_alloc(f->client, 480, &ref))
			;
		assert_int_equal(count_state((struct pool *)f->pool, SEGMENT_ORPHAN), 0);
		assert_int_equal(cxlshm_unlink(f->client, 0, "stays"), 0);
		fixture_free(f);
	}
}

/* Who finds that a hint leads nowhere clears it and looks again; death in between may have cleared one just set. */
static void an_orphan_without_a_hint_is_found_before_the_pool_is_full(void **state)
{
	struct fixture *f = fixture_new(1 << 20, 4);
	struct pool *pool = (struct pool *)f->pool;
	struct cxlshm_client *other;
	cxlshm_ref ref;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	name_one_and_leave(other);
	assert_true(count_state(pool, SEGMENT_ORPHAN) > 0);
	for (uint32_t w = 0; w < hint_words(pool->segments); w++)
		a64_store_relaxed(&pool->hints[hint_words(pool->segments) + w], 0);
	while (!cxlshm_alloc(f->client, 480, &ref))
		;
	assert_int_equal(count_state(pool, SEGMENT_ORPHAN), 0);
	assert_int_equal(cxlshm_unlink(f->client, 0, "stays"), 0);
	fixture_free(f);
}

static void a_span_is_contiguous_and_goes_whole(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	uint32_t before = count_state(c->pool, SEGMENT_FREE), head;

	(void)state;
	assert_int_equal(segment_span_claim(c, 5, &head), 0);
	assert_int_equal(segment_span_of(c->pool, head), 5);
	for (uint32_t i = 1; i < 5; i++)
		assert_int_equal(segment_state_of(c->pool, head + i), SEGMENT_BODY);
	assert_int_equal(segment_span_claim(c, before, &head), -ENOSPC);
	assert_int_equal(count_state(c->pool, SEGMENT_FREE), before - 5);
	segment_release(c, (uint32_t)a64_load_relaxed(&c->slot->segments_head));
	assert_int_equal(count_state(c->pool, SEGMENT_FREE), before);
	fixture_free(f);
}

struct faster {
	struct client *self;
	unsigned after;	/* records that are sealed before */
};

/* Right before the other one's CAS, take what it is about to take. */
static void be_faster(void *arg, struct client *c, unsigned point)
{
	struct faster *f = arg;
	uint32_t segment;

	if (c == f->self || point != CRASH_redo_sealed || f->after == UINT_MAX || f->after--)
		return;
	assert_int_equal(segment_claim(f->self, &segment), 0);
}

/* What is left beside the one that was faster is as long as it was said to be. */
static void a_span_is_found_beside_one_that_was_faster(void **state)
{
	(void)state;
	for (unsigned after = 0; after < 2; after++) {
		struct fixture *f = fixture_new(4 << 20, 4);
		struct client *c = (struct client *)f->client;
		uint32_t all = count_state(c->pool, SEGMENT_FREE), head;
		struct cxlshm_client *other;
		struct faster faster = {.after = after};
		uint32_t lowest = c->pool->first_segment;

		while (segment_state_of(c->pool, lowest) != SEGMENT_FREE)
			lowest++;
		assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
		faster.self = (struct client *)other;
		c->pool->crash_arg = &faster;
		c->pool->crash_hook = be_faster;
		/* It takes the first segment, or the second when the first is ours. */
		assert_int_equal(segment_span_claim(c, all - 1 - after, &head), 0);
		c->pool->crash_hook = NULL;
		assert_int_equal(head, lowest + 1 + after);
		assert_int_equal(segment_span_claim(c, all - 1, &head), -ENOSPC);
		segment_release(c, head);
		segment_release(faster.self, lowest + after);
		assert_int_equal(count_state(c->pool, SEGMENT_FREE), all);
		assert_int_equal(cxlshm_leave(other), 0);
		fixture_free(f);
	}
}

static void memory_stays_while_somebody_reads(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct cxlshm_client *reader;
	uint32_t segment;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &reader), 0);
	assert_int_equal(segment_claim(c, &segment), 0);
	memset(off_ptr(c->pool, (uint64_t)segment << c->pool->segment_shift), 0x5a, 4096);
	client_read_begin((struct client *)reader);
	segment_release(c, segment);
	assert_int_equal(segment_state_of(c->pool, segment), SEGMENT_FREE_DIRTY);
	client_read_end((struct client *)reader);
	assert_int_equal(segment_trim(c), 1);
	assert_int_equal(segment_state_of(c->pool, segment), SEGMENT_FREE);
	assert_int_equal(cxlshm_leave(reader), 0);
	fixture_free(f);
}

static char *segment_bytes(const struct client *c, uint32_t segment)
{
	return off_ptr(c->pool, (uint64_t)segment << c->pool->segment_shift);
}

/* The same for the bodies of a span; and who takes it next finds nothing of what was in it. */
static void a_span_stays_while_somebody_reads_and_is_clean_for_the_next(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	uint64_t bytes = 1ull << c->pool->segment_shift;
	uint32_t all = count_state(c->pool, SEGMENT_FREE), head, again;
	struct cxlshm_client *reader;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &reader), 0);
	assert_int_equal(segment_span_claim(c, 3, &head), 0);
	memset(segment_bytes(c, head), 0xaa, 3 * bytes);
	client_read_begin((struct client *)reader);
	segment_release(c, head);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(segment_state_of(c->pool, head + i), SEGMENT_FREE_DIRTY);
		assert_int_equal((uint8_t)segment_bytes(c, head + i)[bytes - 1], 0xaa);
	}
	assert_int_equal(segment_span_claim(c, all, &again), 0);
	assert_int_equal(again, head);
	for (uint64_t i = 0; i < 3 * bytes; i++)
		assert_int_equal(segment_bytes(c, head)[i], 0);
	client_read_end((struct client *)reader);
	segment_release(c, head);
	assert_int_equal(count_state(c->pool, SEGMENT_FREE), all);
	assert_int_equal(cxlshm_leave(reader), 0);
	fixture_free(f);
}

static struct {
	struct client *c;
	uint32_t segment;
} giver;

static void give_back(void *arg, struct client *c, unsigned point)
{
	(void)arg;
	if (point != CRASH_era_bumped || !c->acting)
		return;
	c->pool->crash_hook = NULL;
	segment_release(giver.c, giver.segment);
	assert_int_equal(segment_state_of(c->pool, giver.segment), SEGMENT_FREE);
}

/* A client that died looking keeps no memory from being given back, from the first step of its recovery on. */
static void nobody_reads_in_the_slot_of_one_recovered(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct cxlshm_client *reader;
	uint32_t segment;

	(void)state;
	giver.c = c;
	assert_int_equal(segment_claim(c, &giver.segment), 0);
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &reader), 0);
	client_read_begin((struct client *)reader);
	client_abandon((struct client *)reader);
	c->pool->crash_hook = give_back;
	assert_int_equal(cxlshm_recover(f->pool, NULL), 0);
	assert_null(c->pool->crash_hook);
	assert_int_equal(segment_claim(c, &segment), 0);
	segment_release(c, segment);
	assert_int_equal(segment_state_of(c->pool, segment), SEGMENT_FREE);
	fixture_free(f);
}

static void nothing_is_claimed(void *arg, struct client *c, unsigned point)
{
	(void)c;
	*(unsigned *)arg += point == CRASH_segment_claim_swapped;
}

/* While somebody looks around, what is dirty is left alone, and is not forgotten. */
static void trimming_waits_for_readers(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct cxlshm_client *reader;
	uint32_t segment[3];
	unsigned claims = 0;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &reader), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(segment_claim(c, &segment[i]), 0);
	client_read_begin((struct client *)reader);
	for (int i = 0; i < 3; i++)
		segment_release(c, segment[i]);
	c->pool->crash_arg = &claims;
	c->pool->crash_hook = nothing_is_claimed;
	assert_int_equal(segment_trim(c), 0);
	segment_trim_hinted(c, UINT32_MAX);
	assert_int_equal(claims, 0);
	client_read_end((struct client *)reader);
	/* So many a time, and the rest the next. */
	segment_trim_hinted(c, 2);
	assert_int_equal(claims, 2);
	segment_trim_hinted(c, 2);
	assert_int_equal(claims, 3);
	c->pool->crash_hook = NULL;
	for (int i = 0; i < 3; i++)
		assert_int_equal(segment_state_of(c->pool, segment[i]), SEGMENT_FREE);
	assert_int_equal(cxlshm_leave(reader), 0);
	fixture_free(f);
}

static struct {
	const struct client *c;
	uint32_t segment;
} going;

static void it_is_unreachable(void)
{
	assert_int_equal(segment_state_of(going.c->pool, going.segment), SEGMENT_CHANGING);
}

/* Between making a segment unreachable and the look at who reads, every processor is made to show its readers' flags. */
static void readers_are_looked_for_behind_a_barrier(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);

	(void)state;
	going.c = (struct client *)f->client;
	assert_int_equal(segment_claim((struct client *)f->client, &going.segment), 0);
	membarriers.calls = 0;
	membarriers.at = it_is_unreachable;
	segment_release((struct client *)f->client, going.segment);
	membarriers.at = NULL;
	if (!going.c->fenced)	/* else this kernel has none */
		assert_int_equal(membarriers.calls, 1);
	fixture_free(f);
}

struct late {
	struct fixture *f;
	uint32_t segment;	/* the one that is left dirty */
};

static void trim(struct cxlshm_client *client)
{
	segment_trim_hinted((struct client *)client, UINT32_MAX);
}

/* In the middle of a trim: a segment that it has passed becomes dirty, and who comes to trim that dies. */
static void somebody_is_late(void *arg, struct client *c, unsigned point)
{
	const struct late *late = arg;
	struct client *own = (struct client *)late->f->client;

	if (point != CRASH_segment_punched || c == own)
		return;
	c->pool->crash_hook = NULL;
	client_read_begin(c);
	segment_release(own, late->segment);
	client_read_end(c);
	die_within(late->f, trim, CRASH_segment_trimming, 1);
}

/* Who trims says so in its own name, and takes back nothing but that. */
static void a_dirty_segment_is_trimmed_though_a_trimmer_died(void **state)
{
	struct fixture *f;
	struct client *c, *slow;
	struct cxlshm_client *other;
	struct late late;
	struct pool *pool;
	uint32_t second;

	(void)state;
	SKIP_IF_ONE_PROCESS();
	f = fixture_new(4 << 20, 4);
	c = (struct client *)f->client;
	pool = c->pool;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	slow = (struct client *)other;
	late.f = f;
	assert_int_equal(segment_claim(c, &late.segment), 0);
	assert_int_equal(segment_claim(c, &second), 0);
	assert_true(late.segment < second);
	client_read_begin(slow);
	segment_release(c, second);
	client_read_end(slow);
	assert_int_equal(segment_state_of(pool, second), SEGMENT_FREE_DIRTY);
	pool->crash_hook = somebody_is_late;
	pool->crash_arg = &late;
	segment_trim_hinted(slow, UINT32_MAX);
	assert_null(pool->crash_hook);
	assert_int_equal(segment_state_of(pool, second), SEGMENT_FREE);
	assert_int_equal(segment_state_of(pool, late.segment), SEGMENT_FREE_DIRTY);
	assert_int_equal(cxlshm_recover(f->pool, NULL), 0);
	assert_int_equal(segment_state_of(pool, late.segment), SEGMENT_FREE);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

/* A damaged table says that a segment heads a span: what follows it is not touched, nor is it taken for empty itself. */
static void a_span_that_is_none_is_not_believed(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct cxlshm_client *other;
	uint32_t dirty, next;
	uint64_t token;
	cxlshm_ref ref, kept;
	char *bytes;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	/* A dirty one, and behind it one in use. */
	assert_int_equal(segment_claim(c, &dirty), 0);
	assert_int_equal(segment_claim(c, &next), 0);
	assert_int_equal(next, dirty + 1);
	bytes = off_ptr(c->pool, (uint64_t)next << c->pool->segment_shift);
	bytes[c->pool->page_bytes] = 1;
	client_read_begin((struct client *)other);
	segment_release(c, dirty);
	client_read_end((struct client *)other);
	a64_store_relaxed(&c->pool->segment_table[dirty].span, 2);
	assert_int_equal(segment_trim(c), 1);
	assert_int_equal(bytes[c->pool->page_bytes], 1);
	segment_release(c, next);
	/* An orphan with something in it, but nothing in the first run: not the root directory's. */
	assert_int_equal(cxlshm_alloc(f->client, 1, &ref), 0);
	assert_int_equal(cxlshm_alloc(other, 5000, &ref), 0);
	assert_int_equal(cxlshm_alloc(other, 7000, &kept), 0);
	assert_int_equal(cxlshm_export(other, kept, &token), 0);
	assert_int_equal(cxlshm_import(f->client, token, &kept), 0);
	next = (uint32_t)(cxlshm_id(f->client, kept) >> c->pool->segment_shift);
	assert_int_equal(cxlshm_leave(other), 0);
	assert_int_equal(segment_state_of(c->pool, next), SEGMENT_ORPHAN);
	a64_store_relaxed(&c->pool->segment_table[next].span, 2);
	assert_int_equal(segment_adopt(c, next), 0);
	page_adopted(c, next, 0);
	assert_true(segment_is_mine(c, next));
	a64_store_relaxed(&c->pool->segment_table[next].span, 0);
	assert_int_equal(cxlshm_release(f->client, kept), 0);
	fixture_free(f);
}

/*
 * The table of an orphan says of a run what cannot be: nobody believes what its former owner noted of that or of those behind
 * it, and what is in them stays.
 */
static void runs_of_a_damaged_table_are_kept(void **state)
{
	static const uint32_t bins[] = {0x7fffffff, BIN_NONE};
	static const int objects[] = {2, 33};	/* in a list of its owner; full */

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		struct fixture *f = fixture_new(1 << 20, 4);
		struct client *c = (struct client *)f->client;
		struct cxlshm_client *first, *other;
		cxlshm_ref ref, held[2];
		struct page_fmt *run;
		uint64_t token;
		uint32_t bin;

		assert_int_equal(cxlshm_join(f->pool, NULL, 0, &first), 0);
		assert_int_equal(cxlshm_alloc(first, 1, &ref), 0);	/* the segment that has the root directory */
		assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
		for (int k = 0; k < objects[i]; k++) {
			assert_int_equal(cxlshm_alloc(other, 100, &ref), 0);
			if (k >= 2)
				continue;
			memset(cxlshm_ptr(other, ref), 0x5a, 100);
			assert_int_equal(cxlshm_export(other, ref, &token), 0);
			assert_int_equal(cxlshm_import(f->client, token, &held[k]), 0);
		}
		assert_int_equal(cxlshm_leave(other), 0);
		run = page_of(c, cxlshm_id(f->client, held[0]));
		assert_ptr_equal(run, page_of(c, cxlshm_id(f->client, held[1])));
		bin = run->bin;
		run->bin = bins[i];
		assert_int_equal(cxlshm_release(f->client, held[0]), 0);	/* adopts it */
		if (!i)
			assert_int_equal(cxlshm_release(f->client, held[1]), 0);
		page_sweep_all(c);
		while (!cxlshm_alloc(f->client, 100, &ref))
			memset(cxlshm_ptr(f->client, ref), 1, 100);
		if (i)
			assert_int_equal(*(char *)cxlshm_ptr(f->client, held[1]), 0x5a);
		run->bin = bin;
		assert_int_equal(cxlshm_leave(f->client), 0);
		f->client = NULL;
		assert_int_equal(cxlshm_leave(first), 0);
		fixture_free(f);
	}
}

/* A block said to be larger than its run: who frees it zeroes nothing behind the run. */
static void a_block_ends_where_its_run_does(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct cxlshm_client *other;
	cxlshm_ref ref, next, large;
	struct page_fmt *run;
	uint64_t token;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	assert_int_equal(cxlshm_alloc(f->client, 5000, &ref), 0);
	run = page_of(c, cxlshm_id(f->client, ref));
	assert_int_equal(cxlshm_alloc(f->client, 7000, &next), 0);
	memset(cxlshm_ptr(f->client, next), 0x5a, 7000);
	assert_int_equal(cxlshm_alloc(f->client, 500000, &large), 0);
	memset(cxlshm_ptr(f->client, large), 0x5a, 500000);
	assert_true(cxlshm_id(f->client, next) > cxlshm_id(f->client, ref));
	assert_true(cxlshm_id(f->client, large) > cxlshm_id(f->client, ref));
	assert_int_equal(cxlshm_export(f->client, ref, &token), 0);
	assert_int_equal(cxlshm_import(other, token, &ref), 0);
	run->block_bytes += 1ull << 40;
	assert_int_equal(cxlshm_release(other, ref), 0);
	run->block_bytes -= 1ull << 40;
	assert_int_equal(*(char *)cxlshm_ptr(f->client, next), 0x5a);
	assert_int_equal(*(char *)cxlshm_ptr(f->client, large), 0x5a);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

static void count_reserved(void *arg, struct client *c, unsigned point)
{
	(void)c;
	*(unsigned *)arg += point == CRASH_segment_reserved;
}

/* Of 64 MiB of pool the file system has 12: 40 cannot be had, and nothing of them is taken to find out. */
static int ask_for_more_than_there_is(struct cxlshm_client *c, const char *dir)
{
	struct pool *pool = ((struct client *)c)->pool;
	unsigned reserved = 0;
	cxlshm_ref ref;

	(void)dir;
	pool->crash_arg = &reserved;
	pool->crash_hook = count_reserved;
	SMALL_REQUIRE(cxlshm_alloc(c, 40 << 20, &ref) == -ENOSPC);
	SMALL_REQUIRE(!reserved);
	SMALL_REQUIRE(!cxlshm_alloc(c, 6 << 20, &ref));
	SMALL_REQUIRE(reserved > 1);
	return 0;
}

static void a_span_that_cannot_fit_takes_nothing(void **state)
{
	(void)state;
	small_tmpfs_run(12, 64 << 20, ask_for_more_than_there_is);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(all_are_claimed_once_and_given_back),
		cmocka_unit_test(two_clients_never_get_the_same),
		cmocka_unit_test(an_orphan_is_adopted_by_one),
		cmocka_unit_test(an_orphan_is_found_after_a_death),
		cmocka_unit_test(an_orphan_without_a_hint_is_found_before_the_pool_is_full),
		cmocka_unit_test(a_span_is_contiguous_and_goes_whole),
		cmocka_unit_test(a_span_is_found_beside_one_that_was_faster),
		cmocka_unit_test(a_span_to_the_pools_end_is_given_back_after_a_death),
		cmocka_unit_test(memory_stays_while_somebody_reads),
		cmocka_unit_test(a_span_stays_while_somebody_reads_and_is_clean_for_the_next),
		cmocka_unit_test(nobody_reads_in_the_slot_of_one_recovered),
		cmocka_unit_test(trimming_waits_for_readers),
		cmocka_unit_test(readers_are_looked_for_behind_a_barrier),
		cmocka_unit_test(a_dirty_segment_is_trimmed_though_a_trimmer_died),
		cmocka_unit_test(a_span_that_is_none_is_not_believed),
		cmocka_unit_test(runs_of_a_damaged_table_are_kept),
		cmocka_unit_test(a_block_ends_where_its_run_does),
		cmocka_unit_test(a_span_that_cannot_fit_takes_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
