/* SPDX-License-Identifier: MIT */
/*
 * Memory on its way back: what recovery may not read of it, and that it is found again when there is no other.
 */
#include <unistd.h>
#include <sys/syscall.h>

#include "alloc.h"
#include "fixture.h"
#include "page.h"
#include "small_tmpfs.h"

/* ---- clients that die ---- */

static struct {
	jmp_buf dead;
	struct client *who;	/* NULL: the first one that comes there */
	unsigned point;
} death;

static void die_there(void *arg, struct client *c, unsigned point)
{
	(void)arg;
	if ((death.who && c != death.who) || point != death.point)
		return;
	c->pool->crash_hook = NULL;
	death.who = c;
	longjmp(death.dead, 1);
}

/* The call, which dies at the point as this client. */
#define DIE(pool_, who_, point_, call)                                    \
	do {                                                              \
		death.who = (struct client *)(who_);                      \
		death.point = CRASH_##point_;                             \
		((struct pool *)(pool_))->crash_hook = die_there;         \
		if (!setjmp(death.dead)) {                                \
			(void)(call);                                     \
			fprintf(stderr, #point_ " was not reached\n");    \
			_exit(9);                                         \
		}                                                         \
		client_abandon(death.who);                                \
	} while (0)

static uint32_t count_state(const struct pool *pool, enum segment_state state)
{
	uint32_t n = 0;

	for (uint32_t s = pool->first_segment; s < pool->segments; s++)
		n += segment_state_of(pool, s) == state;
	return n;
}

/* ---- a full tmpfs ---- */

static int reserved;	/* calls */
static int full_after = -1;	/* of them more, -1: it is as full as it is */

/* What the library calls. */
int fallocate(int fd, int mode, off_t offset, off_t length)
{
	if (!mode) {
		reserved++;
		if (!full_after) {
			errno = EDQUOT;
			return -1;
		}
		full_after -= full_after > 0;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

/*
 * A dead client's record names the header of an object whose memory has gone to the body of a span; of that its owner has
 * died, too, before it was reserved, or while it was given back.
 */
static int body_without_memory(struct cxlshm_client *client, const char *dir, int given_back)
{
	struct client *c = (struct client *)client;
	struct cxlshm_pool *pool = cxlshm_client_pool(client);
	cxlshm_ref before, object, copy, theirs, big;
	struct cxlshm_client *x, *y;
	uint64_t token;
	uint32_t s;

	SMALL_REQUIRE(!cxlshm_join(pool, "x", 0, &x) && !cxlshm_join(pool, "y", 0, &y));
	for (int i = 0; i < 2; i++)
		SMALL_REQUIRE(!cxlshm_alloc(client, 200000, &before));
	SMALL_REQUIRE(!cxlshm_alloc(client, 200000, &object));
	s = off_segment(c->pool, cxlshm_id(client, object));
	SMALL_REQUIRE(!cxlshm_attach(client, object, &copy) && !cxlshm_export(client, copy, &token));
	SMALL_REQUIRE(!cxlshm_import(x, token, &theirs));
	DIE(pool, x, ref_detach_counted, cxlshm_release(x, theirs));
	SMALL_REQUIRE(!cxlshm_release(client, object) && !cxlshm_release(client, before));
	page_sweep_all(c);
	SMALL_REQUIRE(segment_state_of(c->pool, s) == SEGMENT_FREE);
	if (given_back) {
		SMALL_REQUIRE(!cxlshm_alloc(y, 300000, &big));
		SMALL_REQUIRE(segment_state_of(c->pool, s) == SEGMENT_BODY);
		DIE(pool, y, segment_shrink_punched, cxlshm_release(y, big));
	} else {
		DIE(pool, y, segment_grow_swapped, cxlshm_alloc(y, 300000, &big));
	}
	SMALL_REQUIRE(segment_state_of(c->pool, s) == SEGMENT_BODY);
	SMALL_REQUIRE(small_tmpfs_fill(dir, 0));
	SMALL_REQUIRE(!cxlshm_recover(pool, NULL));	/* no SIGBUS */
	SMALL_REQUIRE(segment_state_of(c->pool, s) == SEGMENT_FREE);
	return 0;
}

static int body_not_reserved(struct cxlshm_client *client, const char *dir)
{
	return body_without_memory(client, dir, 0);
}

static int body_given_back(struct cxlshm_client *client, const char *dir)
{
	return body_without_memory(client, dir, 1);
}

static void recovery_reads_no_body_without_memory(void **state)
{
	(void)state;
	small_tmpfs_run(16, 4 << 20, body_not_reserved);
	small_tmpfs_run(16, 4 << 20, body_given_back);
}

/* A segment without memory stands before one that has kept its own, for somebody is looking. */
static int memory_behind_a_hole(struct cxlshm_client *client, const char *dir)
{
	struct client *c = (struct client *)client;
	struct cxlshm_client *reader;
	uint32_t hole, kept, others;
	cxlshm_ref ref;

	SMALL_REQUIRE(!cxlshm_join(cxlshm_client_pool(client), "reader", 0, &reader));
	while (!segment_adopt_any(c, &others))
		page_adopted(c, others, 1);
	SMALL_REQUIRE(!cxlshm_alloc(client, 200000, &ref));
	SMALL_REQUIRE(!segment_claim(c, &hole) && !segment_claim(c, &kept) && hole < kept);
	segment_release(c, hole);
	client_read_begin((struct client *)reader);	/* and is stopped here */
	segment_release(c, kept);
	SMALL_REQUIRE(segment_state_of(c->pool, hole) == SEGMENT_FREE);
	SMALL_REQUIRE(segment_state_of(c->pool, kept) == SEGMENT_FREE_DIRTY);
	SMALL_REQUIRE(small_tmpfs_fill(dir, 0));
	SMALL_REQUIRE(!cxlshm_alloc(client, 200000, &ref));
	SMALL_REQUIRE(off_segment(c->pool, cxlshm_id(client, ref)) == kept);
	/* That it was tried in vain has not made it one that has memory. */
	SMALL_REQUIRE(segment_state_of(c->pool, hole) == SEGMENT_FREE);
	SMALL_REQUIRE(cxlshm_alloc(client, 200000, &ref) == -ENOSPC);
	SMALL_REQUIRE(segment_state_of(c->pool, hole) == SEGMENT_FREE);
	client_read_end((struct client *)reader);
	return 0;
}

static void memory_that_was_kept_is_found_behind_holes(void **state)
{
	(void)state;
	small_tmpfs_run(16, 4 << 20, memory_behind_a_hole);
}

/* The same for a span: of two runs of free segments the second has kept its memory, but for what stands before it. */
static int span_behind_a_hole(struct cxlshm_client *client, const char *dir)
{
	struct client *c = (struct client *)client;
	struct cxlshm_client *reader;
	uint32_t hole, kept[3], others, head;
	cxlshm_ref ref;

	SMALL_REQUIRE(!cxlshm_join(cxlshm_client_pool(client), "reader", 0, &reader));
	while (!segment_adopt_any(c, &others))
		page_adopted(c, others, 1);
	SMALL_REQUIRE(!cxlshm_alloc(client, 200000, &ref));
	SMALL_REQUIRE(!segment_claim(c, &hole) && !segment_claim(c, &kept[0]) && !segment_claim(c, &kept[1]) &&
		      !segment_claim(c, &kept[2]));
	SMALL_REQUIRE(kept[0] == hole + 1 && kept[1] == hole + 2 && kept[2] == hole + 3);
	segment_release(c, hole);
	client_read_begin((struct client *)reader);	/* and is stopped here */
	for (int i = 0; i < 3; i++)
		segment_release(c, kept[i]);
	SMALL_REQUIRE(small_tmpfs_fill(dir, 0));
	SMALL_REQUIRE(!segment_span_claim(c, 2, &head));
	SMALL_REQUIRE(head == kept[0] && segment_span_of(c->pool, head) == 2);
	SMALL_REQUIRE(segment_state_of(c->pool, hole) == SEGMENT_FREE);
	/* What is left, a hole each time beside one that has memory, is no span, and that one does not become two. */
	for (int i = 0; i < 2; i++)
		SMALL_REQUIRE(segment_span_claim(c, 2, &head) == -ENOSPC);
	SMALL_REQUIRE(segment_state_of(c->pool, kept[2]) == SEGMENT_FREE_DIRTY);
	SMALL_REQUIRE(count_state(c->pool, SEGMENT_FREE_DIRTY) == 1);
	client_read_end((struct client *)reader);
	return 0;
}

/* There is room for one segment more: a span of a hole and one that was kept.  Not for two: what was reserved goes back. */
static int span_of_a_hole_and_one_kept(struct cxlshm_client *client, const char *dir)
{
	struct client *c = (struct client *)client;
	uint64_t bytes = 1ull << c->pool->segment_shift;
	struct cxlshm_client *reader;
	uint32_t others, head, kept[2];

	SMALL_REQUIRE(!cxlshm_join(cxlshm_client_pool(client), "reader", 0, &reader));
	while (!segment_adopt_any(c, &others))
		page_adopted(c, others, 1);
	SMALL_REQUIRE(!segment_claim(c, &kept[0]) && !segment_claim(c, &kept[1]));
	client_read_begin((struct client *)reader);
	segment_release(c, kept[1]);
	SMALL_REQUIRE(small_tmpfs_fill(dir, bytes + bytes / 2));
	SMALL_REQUIRE(segment_span_claim(c, 3, &head) == -ENOSPC);
	SMALL_REQUIRE(count_state(c->pool, SEGMENT_FREE_DIRTY) == 1);
	SMALL_REQUIRE(!segment_span_claim(c, 2, &head) && head == kept[1]);
	client_read_end((struct client *)reader);
	return 0;
}

/* A hole, one that was kept, two holes: what a span reserves in vain goes back, but for what somebody may look into. */
static int span_given_up(struct cxlshm_client *client, const char *dir)
{
	struct client *c = (struct client *)client;
	uint64_t bytes = 1ull << c->pool->segment_shift;
	struct cxlshm_client *reader;
	struct statfs before, after;
	uint32_t others, s[4], head;

	SMALL_REQUIRE(!cxlshm_join(cxlshm_client_pool(client), "reader", 0, &reader));
	while (!segment_adopt_any(c, &others))
		page_adopted(c, others, 1);
	for (int i = 0; i < 4; i++)
		SMALL_REQUIRE(!segment_claim(c, &s[i]) && (!i || s[i] == s[i - 1] + 1));
	while (count_state(c->pool, SEGMENT_FREE))
		SMALL_REQUIRE(!segment_claim(c, &others));
	segment_release(c, s[0]);
	segment_release(c, s[2]);
	segment_release(c, s[3]);
	client_read_begin((struct client *)reader);
	segment_release(c, s[1]);
	SMALL_REQUIRE(small_tmpfs_fill(dir, 3 * bytes));
	full_after = 2;	/* statfs(2) says that there is more */
	SMALL_REQUIRE(!statfs(dir, &before));
	SMALL_REQUIRE(segment_span_claim(c, 4, &head) == -ENOSPC && !full_after);
	full_after = -1;
	SMALL_REQUIRE(segment_state_of(c->pool, s[0]) == SEGMENT_FREE_DIRTY);
	SMALL_REQUIRE(segment_state_of(c->pool, s[1]) == SEGMENT_FREE_DIRTY);
	SMALL_REQUIRE(segment_state_of(c->pool, s[2]) == SEGMENT_FREE);
	SMALL_REQUIRE(segment_state_of(c->pool, s[3]) == SEGMENT_FREE);
	SMALL_REQUIRE(!statfs(dir, &after));
	SMALL_REQUIRE((before.f_bfree - after.f_bfree) * (uint64_t)before.f_bsize == bytes);
	client_read_end((struct client *)reader);
	return 0;
}

/* Where statfs(2) promises more than can be had, as with a quota, a span is tried in a few places only. */
static void a_span_is_tried_a_few_times(void **state)
{
	struct fixture *f = fixture_new(64 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct cxlshm_client *reader;
	uint32_t s[64], n = 0, head;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "reader", 0, &reader), 0);
	while (n < 64 && !segment_claim(c, &s[n]))
		n++;
	for (uint32_t i = 0; i < n; i++)
		if (i != n / 2)
			segment_release(c, s[i]);
	client_read_begin((struct client *)reader);
	segment_release(c, s[n / 2]);
	reserved = 0;
	full_after = 0;
	assert_int_equal(segment_span_claim(c, 30, &head), -ENOSPC);
	full_after = -1;
	assert_in_range(reserved, 2, 8);
	client_read_end((struct client *)reader);
	assert_int_equal(cxlshm_leave(reader), 0);
	fixture_free(f);
}

static void spans_find_memory_that_was_kept(void **state)
{
	(void)state;
	small_tmpfs_run(16, 4 << 20, span_given_up);
	small_tmpfs_run(16, 4 << 20, span_behind_a_hole);
	small_tmpfs_run(16, 4 << 20, span_of_a_hole_and_one_kept);
}

/* ---- orphans ---- */

/* Who pushes and who leaves look at each other afterwards; here both have died. */
static void an_orphan_with_pushed_blocks_only_comes_back(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	const struct pool *pool = (struct pool *)f->pool;
	struct cxlshm_client *owner, *other;
	cxlshm_ref ref, theirs;
	uint64_t token;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
		assert_int_equal(cxlshm_join(f->pool, "owner", 0, &owner), 0);
		assert_int_equal(cxlshm_alloc(owner, 2 << 20, &ref), 0);
		assert_int_equal(cxlshm_export(owner, ref, &token), 0);
		assert_int_equal(cxlshm_import(other, token, &theirs), 0);
		DIE(f->pool, other, page_push_limbo, cxlshm_release(other, theirs));
		assert_int_equal(cxlshm_leave(owner), 0);
		DIE(f->pool, NULL, page_push_swapped, cxlshm_recover(f->pool, NULL));
		assert_true(count_state(pool, SEGMENT_BODY) > 0);
		if (i)	/* and the third, before it has looked */
			DIE(f->pool, NULL, era_bumped, cxlshm_recover(f->pool, NULL));
		assert_int_equal(cxlshm_recover(f->pool, NULL), 0);
		assert_int_equal(count_state(pool, SEGMENT_BODY), 0);
		assert_int_equal(cxlshm_alloc(f->client, 3 << 20, &ref), 0);
		assert_int_equal(cxlshm_release(f->client, ref), 0);
		page_sweep_all((struct client *)f->client);
		assert_int_equal(count_state(pool, SEGMENT_BODY), 0);
	}
	fixture_free(f);
}

/* ---- what its owner frees ---- */

/* What the client believes of its segments is what their page tables say. */
static void counts_agree(const struct client *c)
{
	uint32_t empty = 0, idle = 0;

	for (uint32_t s = c->pool->first_segment; s < c->pool->segments; s++) {
		struct page_fmt *entry = segment_pages(c->pool, s);
		uint32_t count = 0;

		if (!segment_is_mine(c, s) || segment_span_of(c->pool, s) > 1)
			continue;
		for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++) {
			uint32_t kind = a32_load_relaxed(&entry[p].kind);

			if (kind == PAGE_ROOTS) {
				count++;
			} else if (kind == PAGE_BLOCKS) {
				int emptied = entry[p].flags & RUN_EMPTIED;

				assert_true(page_used(&entry[p]) || emptied);
				count += !emptied;
				empty += emptied ? entry[p].pages : 0;
			}
		}
		assert_int_equal(entry->used, count);
		idle += !count;
	}
	assert_int_equal(c->idle, idle);
	assert_int_equal(c->pages_empty, empty);
}

/* Of a client that frees all it had only a little stays its own, whatever the order, and others can have the pool. */
static void freed(size_t bytes, uint32_t order, unsigned percent, int exposed)
{
	struct fixture *f = fixture_new(64 << 20, 4);
	const struct client *c = (struct client *)f->client;
	const struct pool *pool = c->pool;
	uint32_t count = 0, most = (uint32_t)((uint64_t)(pool->segments - pool->first_segment) *
					      (1ull << pool->segment_shift) / (bytes + 48) * percent / 100);
	cxlshm_ref *refs = calloc(most, sizeof(*refs)), copy, big;
	uint32_t rows, owned;
	struct cxlshm_client *other;
	uint64_t token;

	assert_non_null(refs);
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	while (count < most && !cxlshm_alloc(f->client, bytes, &refs[count])) {
		if (exposed) {
			assert_int_equal(cxlshm_attach(f->client, refs[count], &copy), 0);
			assert_int_equal(cxlshm_export(f->client, copy, &token), 0);
			assert_int_equal(cxlshm_import(other, token, &copy), 0);
			assert_int_equal(cxlshm_release(other, copy), 0);
		}
		count++;
	}
	for (uint32_t i = 0; i < count; i++) {
		uint32_t at = order == 1 ? count - 1 - i : order == 2 ? (uint32_t)((uint64_t)i * 7919 % count) : i;

		if (order == 2 && count % 7919 == 0)
			at = i;
		assert_int_equal(cxlshm_release(f->client, refs[at]), 0);
		if (i % (count / 16 + 1) == 0)
			counts_agree(c);
	}
	/* Five for re-use and a sixteenth, those of rows, the last of them in part, and two with the first pages of rows. */
	rows = (uint32_t)(count * sizeof(struct root_fmt) >> pool->segment_shift);
	owned = (uint32_t)a64_load_relaxed(&c->slot->segments_owned);
	assert_in_range(owned, 0, rows + 8 + owned / 16);
	for (uint64_t i = owned; i < pool->segments - pool->first_segment - 3; i++)	/* a segment each */
		assert_int_equal(cxlshm_alloc(other, 900000, &big), 0);
	for (uint32_t i = 0; i < pool->segments; i += 32)
		assert_int_equal(cxlshm_trim(f->client), 0);
	assert_in_range(a64_load_relaxed(&c->slot->segments_owned), 0, 2);
	assert_int_equal(cxlshm_leave(other), 0);
	free(refs);
	fixture_free(f);
}

static void what_its_owner_frees_is_for_all(void **state)
{
	static const size_t sizes[] = {16, 64, 700, 3000, 40000, 300000};

	(void)state;
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		for (uint32_t order = 0; order < 3; order++)
			for (unsigned percent = 30; percent <= 130; percent += 50)
				freed(sizes[s], order, percent, 0);
	freed(64, 0, 60, 1);
	freed(3000, 2, 130, 1);
}

/* Many small objects stay, and few of several pages go, or runs of few pages: it is memory that counts. */
static void what_stays_holds_back_its_own_memory_only(void **state)
{
	static const size_t sizes[] = {3000, 20000, 40000, 300000};
	enum { SMALL = 100000 };
	cxlshm_ref *small = calloc(SMALL, sizeof(*small)), *large = calloc(SMALL, sizeof(*large));

	(void)state;
	assert_non_null(small);
	assert_non_null(large);
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct fixture *f = fixture_new(64 << 20, 4);
		const struct client *c = (struct client *)f->client;
		uint32_t count = 0, filled;

		for (uint32_t i = 0; i < SMALL; i++)
			assert_int_equal(cxlshm_alloc(f->client, 16, &small[i]), 0);
		filled = (uint32_t)a64_load_relaxed(&c->slot->segments_owned);
		while (count < SMALL && !cxlshm_alloc(f->client, sizes[s], &large[count]))
			count++;
		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(cxlshm_release(f->client, large[i]), 0);
		counts_agree(c);
		assert_in_range(a64_load_relaxed(&c->slot->segments_owned), 0, filled + 6);
		for (uint32_t i = 0; i < SMALL; i++)
			assert_int_equal(cxlshm_release(f->client, small[i]), 0);
		counts_agree(c);
		assert_in_range(a64_load_relaxed(&c->slot->segments_owned), 0, 10);	/* 1.6 MB of it rows */
		fixture_free(f);
	}
	free(small);
	free(large);
}

/* Who has taken over much, and has freed it, gives its own back like anybody else. */
static void what_was_adopted_is_no_excuse(void **state)
{
	enum { OBJECTS = 3000 };
	struct fixture *f = fixture_new(64 << 20, 4);
	const struct client *c = (struct client *)f->client;
	static cxlshm_ref refs[OBJECTS];
	struct cxlshm_client *other;
	uint64_t token;
	cxlshm_ref ref;

	(void)state;
	for (int round = 0; round < 3; round++) {
		assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
		for (int i = 0; i < OBJECTS; i++) {
			assert_int_equal(cxlshm_alloc(other, 8000, &ref), 0);
			assert_int_equal(cxlshm_export(other, ref, &token), 0);
			assert_int_equal(cxlshm_import(f->client, token, &refs[i]), 0);
		}
		assert_int_equal(cxlshm_leave(other), 0);
		for (int i = 0; i < OBJECTS; i++) {
			assert_int_equal(cxlshm_release(f->client, refs[i]), 0);
			if (i % 100 == 0)
				counts_agree(c);
		}
		/* Five that are idle, and three that rows may be in. */
		assert_in_range(a64_load_relaxed(&c->slot->segments_owned), 0, 8);
		for (int i = 0; i < OBJECTS; i++)
			assert_int_equal(cxlshm_alloc(f->client, 8000, &refs[i]), 0);
		for (int i = 0; i < OBJECTS; i++)
			assert_int_equal(cxlshm_release(f->client, refs[i]), 0);
		counts_agree(c);
		assert_in_range(a64_load_relaxed(&c->slot->segments_owned), 0, 8);
	}
	fixture_free(f);
}

/* A span that was another's, and is emptied where no sweep may come, is not used again with its bytes. */
static void an_adopted_span_does_not_show_its_bytes(void **state)
{
	enum { BYTES = 2500000 };
	struct fixture *f = fixture_new(64 << 20, 4);
	struct cxlshm_client *other;
	cxlshm_ref ref, theirs;
	uint64_t token;
	const char *bytes;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	assert_int_equal(cxlshm_alloc(other, BYTES, &theirs), 0);
	memset(cxlshm_ptr(other, theirs), 0x55, BYTES);
	assert_int_equal(cxlshm_export(other, theirs, &token), 0);
	assert_int_equal(cxlshm_import(f->client, token, &ref), 0);
	assert_int_equal(cxlshm_leave(other), 0);
	client_read_begin((struct client *)f->client);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	client_read_end((struct client *)f->client);
	assert_int_equal(cxlshm_alloc(f->client, BYTES, &ref), 0);
	bytes = cxlshm_ptr(f->client, ref);
	for (size_t i = 0; i < BYTES; i++)
		assert_int_equal(bytes[i], 0);
	fixture_free(f);
}

/* Allocating and freeing in turn calls nobody: what has just been freed is still the client's. */
static void what_comes_and_goes_stays(void **state)
{
	static const uint64_t sizes[] = {16 << 20, 64 << 20, 512 << 20};

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct fixture *f = fixture_new(sizes[i], 4);
		const struct client *c = (struct client *)f->client;
		size_t segment = (size_t)1 << c->segment_shift;
		uint64_t owned;
		cxlshm_ref refs[3];

		for (int turn = 0; turn < 3; turn++) {
			assert_int_equal(cxlshm_alloc(f->client, segment + segment / 2, &refs[0]), 0);
			assert_int_equal(cxlshm_alloc(f->client, segment * 3 / 4, &refs[1]), 0);
			assert_int_equal(cxlshm_alloc(f->client, segment * 3 / 4, &refs[2]), 0);
			owned = a64_load_relaxed(&c->slot->segments_owned);
			for (int k = 0; k < 3; k++)
				assert_int_equal(cxlshm_release(f->client, refs[k]), 0);
			assert_int_equal(a64_load_relaxed(&c->slot->segments_owned), owned);
		}
		assert_int_equal(cxlshm_trim(f->client), 0);
		assert_in_range(a64_load_relaxed(&c->slot->segments_owned), 0, owned - 1);
		fixture_free(f);
	}
}

/* A trim that is not through leaves the rest to the next one, not to whoever frees something small. */
static void a_release_gives_back_a_few_segments(void **state)
{
	enum { OBJECTS = 200 };
	struct fixture *f = fixture_new(64 << 20, 4);
	const struct client *c = (struct client *)f->client;
	static cxlshm_ref theirs[OBJECTS];
	struct cxlshm_client *other;
	uint64_t token, owned;
	uint32_t count = 0;
	cxlshm_ref ref, small;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	assert_int_equal(cxlshm_alloc(f->client, 16, &small), 0);
	for (; count < OBJECTS && !cxlshm_alloc(f->client, 800000, &ref); count++) {
		assert_int_equal(cxlshm_export(f->client, ref, &token), 0);
		assert_int_equal(cxlshm_import(other, token, &theirs[count]), 0);
	}
	for (uint32_t i = 0; i < count; i++)
		assert_int_equal(cxlshm_release(other, theirs[i]), 0);
	owned = a64_load_relaxed(&c->slot->segments_owned);
	assert_true(owned > 50);
	assert_int_equal(cxlshm_trim(f->client), 0);
	assert_int_equal(a64_load_relaxed(&c->slot->segments_owned), owned - 32);
	assert_int_equal(cxlshm_release(f->client, small), 0);
	assert_int_equal(a64_load_relaxed(&c->slot->segments_owned), owned - 32);
	assert_int_equal(cxlshm_trim(f->client), 0);
	assert_in_range(a64_load_relaxed(&c->slot->segments_owned), 0, 3);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

/* As many clients as there are segments may hold memory, if they trim. */
static void trimmed_clients_leave_room(void **state)
{
	enum { CLIENTS = 40 };
	struct fixture *f = fixture_new(16 << 20, CLIENTS + 2);
	size_t segment = (size_t)1 << ((struct pool *)f->pool)->segment_shift;
	struct cxlshm_client *clients[CLIENTS];
	uint64_t owned = 0;
	cxlshm_ref refs[6];

	(void)state;
	for (int i = 0; i < CLIENTS; i++) {
		assert_int_equal(cxlshm_join(f->pool, "idle", 0, &clients[i]), 0);
		assert_int_equal(cxlshm_alloc(clients[i], 3 * segment, &refs[0]), 0);
		assert_int_equal(cxlshm_release(clients[i], refs[0]), 0);
		for (int k = 0; k < 6; k++)
			assert_int_equal(cxlshm_alloc(clients[i], segment / 2 + segment / 4, &refs[k]), 0);
		for (int k = 0; k < 6; k++)
			assert_int_equal(cxlshm_release(clients[i], refs[k]), 0);
		assert_int_equal(cxlshm_trim(clients[i]), 0);
		owned += a64_load_relaxed(&((struct client *)clients[i])->slot->segments_owned);
		/* One each; and somebody has adopted the one that the root directory is in. */
		assert_in_range(owned, 0, i + 2);
	}
	fixture_free(f);
}

/* ---- trimming ---- */

static void trim_gives_back_what_allocating_has_collected(void **state)
{
	enum { OBJECTS = 3000 };
	struct fixture *f = fixture_new(64 << 20, 4);
	const struct client *c = (struct client *)f->client;
	static cxlshm_ref theirs[OBJECTS];
	struct cxlshm_client *other;
	uint64_t token, owned;
	cxlshm_ref ref;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	for (int i = 0; i < OBJECTS; i++) {
		assert_int_equal(cxlshm_alloc(f->client, 8000, &ref), 0);
		assert_int_equal(cxlshm_export(f->client, ref, &token), 0);
		assert_int_equal(cxlshm_import(other, token, &theirs[i]), 0);
	}
	for (int i = 0; i < OBJECTS; i++)
		assert_int_equal(cxlshm_release(other, theirs[i]), 0);
	assert_int_equal(cxlshm_trim(f->client), 0);
	/* The same once more, and collected a little at a time. */
	for (int i = 0; i < OBJECTS; i++) {
		assert_int_equal(cxlshm_alloc(f->client, 8000, &ref), 0);
		assert_int_equal(cxlshm_export(f->client, ref, &token), 0);
		assert_int_equal(cxlshm_import(other, token, &theirs[i]), 0);
	}
	owned = a64_load_relaxed(&c->slot->segments_owned);
	assert_true(owned > 20);
	for (int i = 0; i < OBJECTS; i++)
		assert_int_equal(cxlshm_release(other, theirs[i]), 0);
	for (size_t i = 0; i < 60; i++)
		assert_int_equal(cxlshm_alloc(f->client, 16 + i * 16, &ref), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(cxlshm_trim(f->client), 0);
	assert_true(a64_load_relaxed(&c->slot->segments_owned) < 8);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

/* A span counts as its segments. */
static void a_trim_gives_back_so_many_segments(void **state)
{
	struct fixture *f = fixture_new(64 << 20, 4);
	const struct pool *pool = (struct pool *)f->pool;
	size_t bytes = (20u << pool->segment_shift) - 200000;
	struct cxlshm_client *other;
	cxlshm_ref ref, theirs[3];
	uint64_t token;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(cxlshm_alloc(f->client, bytes, &ref), 0);
		assert_int_equal(cxlshm_export(f->client, ref, &token), 0);
		assert_int_equal(cxlshm_import(other, token, &theirs[i]), 0);
	}
	assert_int_equal(count_state(pool, SEGMENT_BODY), 57);
	for (int i = 0; i < 3; i++)
		assert_int_equal(cxlshm_release(other, theirs[i]), 0);
	assert_int_equal(cxlshm_trim(f->client), 0);
	assert_int_equal(count_state(pool, SEGMENT_BODY), 19);
	assert_int_equal(cxlshm_trim(f->client), 0);
	assert_int_equal(count_state(pool, SEGMENT_BODY), 0);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recovery_reads_no_body_without_memory),
		cmocka_unit_test(memory_that_was_kept_is_found_behind_holes),
		cmocka_unit_test(spans_find_memory_that_was_kept),
		cmocka_unit_test(a_span_is_tried_a_few_times),
		cmocka_unit_test(an_orphan_with_pushed_blocks_only_comes_back),
		cmocka_unit_test(what_its_owner_frees_is_for_all),
		cmocka_unit_test(what_stays_holds_back_its_own_memory_only),
		cmocka_unit_test(what_was_adopted_is_no_excuse),
		cmocka_unit_test(an_adopted_span_does_not_show_its_bytes),
		cmocka_unit_test(what_comes_and_goes_stays),
		cmocka_unit_test(a_release_gives_back_a_few_segments),
		cmocka_unit_test(trimmed_clients_leave_room),
		cmocka_unit_test(trim_gives_back_what_allocating_has_collected),
		cmocka_unit_test(a_trim_gives_back_so_many_segments),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
