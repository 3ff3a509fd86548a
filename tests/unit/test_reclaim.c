/* SPDX-License-Identifier: MIT */
/*
 * Memory on its way back: what recovery may not read of it, and that it is found again when there is no other.
 */
#include <pthread.h>
#include <sched.h>
#include <time.h>
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
	page_sweep(c, 0);
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

static void spans_find_memory_that_was_kept(void **state)
{
	(void)state;
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
		page_sweep((struct client *)f->client, 0);
		assert_int_equal(count_state(pool, SEGMENT_BODY), 0);
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

static struct {
	struct cxlshm_client *trimmer;
	int before_trying;	/* it finishes while its neighbour recovers, which asks for the time */
	int held, go, done;	/* atomic */
} trim;

static void hold_trimmer(void *arg, struct client *c, unsigned point)
{
	(void)arg;
	if (c != (struct client *)trim.trimmer || point != CRASH_segment_closing)
		return;
	__atomic_store_n(&trim.held, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&trim.go, __ATOMIC_ACQUIRE))
		sched_yield();
}

static void *trim_once(void *client)
{
	cxlshm_trim(client);
	__atomic_store_n(&trim.done, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void let_trimmer_finish(void)
{
	__atomic_store_n(&trim.go, 1, __ATOMIC_RELEASE);
	while (trim.trimmer && !__atomic_load_n(&trim.done, __ATOMIC_ACQUIRE))
		sched_yield();
}

/* Who sleeps here lets the trimmer finish. */
int nanosleep(const struct timespec *time, struct timespec *left)
{
	(void)time;
	(void)left;
	let_trimmer_finish();
	return 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	if (trim.before_trying && __atomic_load_n(&trim.held, __ATOMIC_ACQUIRE))
		let_trimmer_finish();
	return (int)syscall(SYS_clock_gettime, clock, now);
}

/* What a trimmer has in hand is soon free again: who finds nothing else waits for that a little, or sees that it is done. */
static void refuse_nobody(int before_trying)
{
	struct fixture *f = fixture_new(64 << 20, 4);
	struct pool *pool = (struct pool *)f->pool;
	uint64_t bytes = (uint64_t)count_state(pool, SEGMENT_FREE) << pool->segment_shift;	/* all there is */
	struct cxlshm_client *reader;
	pthread_t thread;
	cxlshm_ref ref;

	memset(&trim, 0, sizeof(trim));
	trim.before_trying = before_trying;
	assert_int_equal(cxlshm_join(f->pool, "trimmer", 0, &trim.trimmer), 0);
	assert_int_equal(cxlshm_join(f->pool, "reader", 0, &reader), 0);
	assert_int_equal(cxlshm_alloc(f->client, bytes - 65536, &ref), 0);
	/* All of it stays dirty, for the trimmer to take. */
	client_read_begin((struct client *)reader);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	page_sweep((struct client *)f->client, 0);
	client_read_end((struct client *)reader);
	assert_true(count_state(pool, SEGMENT_FREE_DIRTY) > 0);
	pool->crash_hook = hold_trimmer;
	assert_int_equal(pthread_create(&thread, NULL, trim_once, trim.trimmer), 0);
	while (!__atomic_load_n(&trim.held, __ATOMIC_ACQUIRE))
		sched_yield();
	assert_int_equal(cxlshm_alloc(f->client, bytes - 65536, &ref), 0);
	assert_true(__atomic_load_n(&trim.go, __ATOMIC_ACQUIRE));
	assert_int_equal(pthread_join(thread, NULL), 0);
	pool->crash_hook = NULL;
	assert_int_equal(cxlshm_leave(trim.trimmer), 0);
	assert_int_equal(cxlshm_leave(reader), 0);
	fixture_free(f);
}

static void nobody_is_refused_beside_a_trim(void **state)
{
	(void)state;
	refuse_nobody(0);
	refuse_nobody(1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(recovery_reads_no_body_without_memory),
		cmocka_unit_test(memory_that_was_kept_is_found_behind_holes),
		cmocka_unit_test(spans_find_memory_that_was_kept),
		cmocka_unit_test(an_orphan_with_pushed_blocks_only_comes_back),
		cmocka_unit_test(trim_gives_back_what_allocating_has_collected),
		cmocka_unit_test(a_trim_gives_back_so_many_segments),
		cmocka_unit_test(nobody_is_refused_beside_a_trim),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
