/* SPDX-License-Identifier: MIT */
/*
 * Calls that find no room: who waits for whom, how often they try, and what they take meanwhile.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>

#include "alloc.h"
#include "fixture.h"
#include "page.h"
#include "small_tmpfs.h"

static uint32_t count_state(const struct pool *pool, enum segment_state state)
{
	uint32_t n = 0;

	for (uint32_t s = pool->first_segment; s < pool->segments; s++)
		n += segment_state_of(pool, s) == state;
	return n;
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

static int sleeps, reservations;
static int interrupting;	/* every other fallocate(2), as a kernel may that is told to stop */

/* Who sleeps here lets the trimmer finish. */
int nanosleep(const struct timespec *time, struct timespec *left)
{
	sleeps++;
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

int fallocate(int fd, int mode, off_t offset, off_t length)
{
	reservations += !(mode & FALLOC_FL_PUNCH_HOLE);
	if (interrupting && interrupting++ & 1) {
		errno = EINTR;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, length);
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
	page_sweep_all((struct client *)f->client);
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

/* ---- files ---- */

/*
 * Room for a file is what a neighbour is just giving back.  What the call's own first try has claimed, a segment for the inode,
 * and given up is no room made.
 */
static int file_beside_a_trim(struct cxlshm_client *client, const char *dir)
{
	struct cxlshm_pool *pool = cxlshm_client_pool(client);
	struct cxlshm_client *other, *maker;
	cxlshm_ref ref, theirs;
	pthread_t thread;
	uint32_t segment;
	uint64_t token;

	memset(&trim, 0, sizeof(trim));
	SMALL_REQUIRE(!cxlshm_join(pool, "trimmer", 0, &trim.trimmer) && !cxlshm_join(pool, "other", 0, &other) &&
		      !cxlshm_join(pool, "maker", 0, &maker));
	SMALL_REQUIRE(!cxlshm_alloc(trim.trimmer, 8 << 20, &ref));
	while (!segment_adopt_any((struct client *)client, &segment))
		page_adopted((struct client *)client, segment, 1);
	SMALL_REQUIRE(!cxlshm_export(trim.trimmer, ref, &token) && !cxlshm_import(other, token, &theirs) &&
		      !cxlshm_release(other, theirs));
	SMALL_REQUIRE(small_tmpfs_fill(dir, 4 << 20));
	((struct pool *)pool)->crash_hook = hold_trimmer;
	SMALL_REQUIRE(!pthread_create(&thread, NULL, trim_once, trim.trimmer));
	while (!__atomic_load_n(&trim.held, __ATOMIC_ACQUIRE))
		sched_yield();
	SMALL_REQUIRE(!cxlshm_alloc_with(maker, 6 << 20, 0, CXLSHM_EXTENT, &ref));
	SMALL_REQUIRE(__atomic_load_n(&trim.go, __ATOMIC_ACQUIRE));
	SMALL_REQUIRE(!pthread_join(thread, NULL));
	((struct pool *)pool)->crash_hook = NULL;
	return 0;
}

static void a_file_waits_for_what_is_given_back(void **state)
{
	(void)state;
	small_tmpfs_run(32, 20 << 20, file_beside_a_trim);
}

/* Each try takes all there is until it is refused, and others find the file system full: one, if nothing has changed. */
static int resize_in_vain(struct cxlshm_client *client, const char *dir)
{
	cxlshm_ref file, ref;

	(void)dir;
	SMALL_REQUIRE(!cxlshm_alloc(client, 100, &ref));
	SMALL_REQUIRE(!cxlshm_alloc_with(client, 5 << 20, 0, CXLSHM_EXTENT, &file));
	SMALL_REQUIRE(cxlshm_resize(client, file, 15 << 20) == -ENOSPC);	/* and gives back what the client kept */
	reservations = 0;
	SMALL_REQUIRE(cxlshm_resize(client, file, 15 << 20) == -ENOSPC && reservations == 1);
	reservations = 0;
	SMALL_REQUIRE(cxlshm_reserve(client, file, 0, 5 << 20, 10 << 20) == -ENOSPC && reservations == 1);
	reservations = 0;
	SMALL_REQUIRE(cxlshm_create(client, 0, "large", 15 << 20, 0600, NULL) == -ENOSPC && reservations <= 3);
	return 0;
}

static void a_file_that_cannot_fit_is_tried_once(void **state)
{
	(void)state;
	small_tmpfs_run(14, 20 << 20, resize_in_vain);
}

/* Somebody who was stopped as he claimed a segment: the call waits for 20 times 1 ms, and is refused. */
static void who_was_stopped_is_waited_for_briefly(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct pool *pool = (struct pool *)f->pool;
	struct cxlshm_client *other;
	cxlshm_ref ref;
	uint32_t segment;

	(void)state;
	memset(&trim, 0, sizeof(trim));
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	assert_int_equal(segment_claim((struct client *)other, &segment), 0);
	/* As if it were still on its way. */
	a128_store_value_release(&pool->segment_table[segment].word,
				 segment_value(SEGMENT_CHANGING, cxlshm_client_id(other), 0));
	while (!cxlshm_alloc(f->client, 100000, &ref))
		;
	sleeps = 0;
	assert_int_equal(cxlshm_alloc(f->client, 100000, &ref), -ENOSPC);
	assert_int_equal(sleeps, 20);
	a128_store_value_release(&pool->segment_table[segment].word,
				 segment_value(SEGMENT_OWNED, cxlshm_client_id(other), 0));
	sleeps = 0;
	assert_int_equal(cxlshm_alloc(f->client, 100000, &ref), -ENOSPC);
	assert_int_equal(sleeps, 0);
	assert_int_equal(cxlshm_leave(other), 0);
	assert_int_equal(cxlshm_leave(f->client), 0);
	f->client = NULL;
	fixture_free(f);
}

static void an_interrupted_reservation_goes_on(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 4);
	const struct pool *pool = (struct pool *)f->pool;
	cxlshm_ref big, file;

	(void)state;
	interrupting = 1;
	assert_int_equal(cxlshm_alloc(f->client, 3 << 20, &big), 0);
	assert_int_equal(cxlshm_alloc_with(f->client, 100000, 0, CXLSHM_EXTENT, &file), 0);
	assert_int_equal(cxlshm_resize(f->client, file, 200000), 0);
	assert_int_equal(cxlshm_reserve(f->client, file, 0, 0, 300000), 0);
	assert_int_equal(cxlshm_release(f->client, big), 0);
	page_sweep_all((struct client *)f->client);
	assert_true(interrupting > 20);
	interrupting = 0;
	assert_int_equal(count_state(pool, SEGMENT_FREE_DIRTY), 0);	/* punched, too */
	assert_int_equal(cxlshm_release(f->client, file), 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_is_refused_beside_a_trim),
		cmocka_unit_test(a_file_waits_for_what_is_given_back),
		cmocka_unit_test(a_file_that_cannot_fit_is_tried_once),
		cmocka_unit_test(who_was_stopped_is_waited_for_briefly),
		cmocka_unit_test(an_interrupted_reservation_goes_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
