/* SPDX-License-Identifier: MIT */
/*
 * Recovery beside the living, and many clients at once on the same words.
 */
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "fixture.h"
#include "length.h"

#include "page.h"

#define WORKERS 4

/* What random workers of different clients share. */
struct shared {
	struct fixture *f;
	uint64_t token[WORKERS * 64];	/* of the object with cells */
	int rounds;
	unsigned seed;
	volatile uint64_t *done;	/* steps of each worker process, in all its lives */
};

static uint32_t next(uint32_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 17;
	*x ^= *x << 5;
	return *x;
}

/* Random operations on eight shared cells, by one client; counts are the checker's business. */
static int work(struct cxlshm_client *c, cxlshm_ref cells, uint32_t seed, int rounds, volatile uint64_t *done)
{
	cxlshm_ref mine[8] = {0};
	uint32_t x = seed * 2654435761u + 1;
	int rc = 0;

	for (int i = 0; i < rounds && !rc; i++, ++*done) {
		uint32_t what = next(&x) % 10, slot = next(&x) % 8, cell = next(&x) % 8;
		cxlshm_ref ref;

		switch (what) {
		case 0:
		case 1:
			if (!mine[slot])
				rc = cxlshm_alloc_with(c, 16 + next(&x) % 200, 2, 0, &mine[slot]);
			break;
		case 2:
			rc = cxlshm_release(c, mine[slot]);
			mine[slot] = 0;
			break;
		case 3:
			rc = cxlshm_cell_swap(c, cells, cell, &mine[slot]);
			break;
		case 4:
			rc = cxlshm_cell_store(c, cells, cell, mine[slot]);
			break;
		case 5:
		case 6:
			rc = cxlshm_cell_load(c, cells, cell, &ref);
			if (!rc)
				rc = cxlshm_release(c, mine[slot]);
			mine[slot] = ref;
			break;
		case 7:
			/* Only objects nobody else has found get fields written: their writers must be one. */
			if (!mine[slot] && !cxlshm_alloc_with(c, 32, 1, 0, &mine[slot]) && mine[(slot + 1) % 8] &&
			    slot != 7)
				rc = cxlshm_field_store(c, mine[slot], 0, mine[slot + 1]);
			break;
		case 8:
			ref = mine[slot];
			rc = cxlshm_cell_cas(c, cells, cell, 0, &ref);
			if (!rc)
				mine[slot] = ref;
			else if (rc == -EAGAIN)
				rc = 0;
			break;
		default:
			if (mine[slot]) {
				rc = cxlshm_attach(c, mine[slot], &ref);
				if (!rc)
					rc = cxlshm_release(c, ref);
			}
		}
		if (rc == -ENOSPC)
			rc = 0;
	}
	for (int i = 0; i < 8; i++)
		cxlshm_release(c, mine[i]);
	return rc;
}

struct thread {
	struct shared *shared;
	unsigned index;
	int rc;
	uint64_t done;
};

static void *thread_main(void *arg)
{
	struct thread *t = arg;
	struct cxlshm_client *c;
	cxlshm_ref cells;

	t->rc = cxlshm_join(t->shared->f->pool, "worker", 0, &c);
	if (t->rc)
		return NULL;
	t->rc = cxlshm_import(c, t->shared->token[t->index], &cells);
	if (!t->rc)
		t->rc = work(c, cells, t->shared->seed + t->index, t->shared->rounds, &t->done);
	cxlshm_leave(c);
	return NULL;
}

static void offer(struct shared *s, cxlshm_ref cells, int count)
{
	cxlshm_ref copy;

	for (int i = 0; i < count; i++) {
		assert_int_equal(cxlshm_attach(s->f->client, cells, &copy), 0);
		assert_int_equal(cxlshm_export(s->f->client, copy, &s->token[i]), 0);
	}
}

/* The same under ThreadSanitizer: clients as threads over one mapping. */
static void threads_agree_on_counts(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 8);
	struct shared s = {.f = f, .rounds = by_length(30000, 100000, 1000000), .seed = 1};
	struct thread thread[WORKERS];
	pthread_t id[WORKERS];
	cxlshm_ref cells, none;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 128, 8, CXLSHM_CELLS, &cells), 0);
	for (int round = 0; round < 3; round++) {
		offer(&s, cells, WORKERS);
		for (unsigned i = 0; i < WORKERS; i++) {
			thread[i] = (struct thread){&s, i, 0, 0};
			assert_int_equal(pthread_create(&id[i], NULL, thread_main, &thread[i]), 0);
		}
		for (unsigned i = 0; i < WORKERS; i++) {
			assert_int_equal(pthread_join(id[i], NULL), 0);
			assert_int_equal(thread[i].rc, 0);
		}
		fixture_check(f);
		s.seed += 100;
	}
	for (uint32_t i = 0; i < 8; i++) {
		none = 0;
		assert_int_equal(cxlshm_cell_swap(f->client, cells, i, &none), 0);
		assert_int_equal(cxlshm_release(f->client, none), 0);
	}
	assert_int_equal(cxlshm_release(f->client, cells), 0);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

static pid_t start_worker(struct shared *s, unsigned index)
{
	pid_t pid = fork();

	if (!pid) {
		struct cxlshm_pool *pool;
		struct cxlshm_client *c;
		cxlshm_ref cells;
		int rc;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (cxlshm_pool_open(s->f->dir, 0, &pool, NULL) || cxlshm_join(pool, "worker", 0, &c) ||
		    cxlshm_import(c, s->token[index], &cells))
			_exit(1);
		for (;;)
			if ((rc = work(c, cells, s->seed + index, 10000, &s->done[index]))) {
				fprintf(stderr, "worker %u: %s\n", index, strerror(-rc));
				_exit(2);
			}
	}
	return pid;
}

static void processes_killed_at_random_lose_nothing(void **state)
{
	struct fixture *f;
	int kills = by_length(100, 200, 2000);
	struct shared s = {.seed = (unsigned)time(NULL)};
	pid_t pid[WORKERS];
	cxlshm_ref cells, copy, none;
	uint64_t before[WORKERS] = {0};
	uint32_t x = s.seed | 1;
	int status, busy = 0;

	(void)state;
	SKIP_IF_ONE_PROCESS();
	s.f = f = fixture_new(16 << 20, 16);
	s.done = mmap(NULL, WORKERS * sizeof(*s.done), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(s.done != MAP_FAILED);
	print_message("seed %u\n", s.seed);
	assert_int_equal(cxlshm_alloc_with(f->client, 128, 8, CXLSHM_CELLS, &cells), 0);
	offer(&s, cells, WORKERS);
	for (unsigned i = 0; i < WORKERS; i++)
		pid[i] = start_worker(&s, i);
	for (int k = 0; k < kills; k++) {
		unsigned i = next(&x) % WORKERS;
		struct timespec pause = {0, 1000000 + next(&x) % 8000000};

		nanosleep(&pause, NULL);
		kill(pid[i], SIGKILL);
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		if (!WIFSIGNALED(status))
			fail_msg("worker %u ended by itself with status 0x%x", i, (unsigned)status);
		busy += s.done[i] != before[i];
		before[i] = s.done[i];
		/* Recovered beside the others by us, or by the new one when it joins. */
		if (next(&x) % 2)
			assert_int_equal(cxlshm_recover(f->pool, NULL), 0);
		/* Not taken yet?  Then it is taken back. */
		if (!cxlshm_import(f->client, s.token[i], &none))
			assert_int_equal(cxlshm_release(f->client, none), 0);
		assert_int_equal(cxlshm_attach(f->client, cells, &copy), 0);
		assert_int_equal(cxlshm_export(f->client, copy, &s.token[i]), 0);
		s.seed += WORKERS;
		pid[i] = start_worker(&s, i);
	}
	for (unsigned i = 0; i < WORKERS; i++) {
		kill(pid[i], SIGKILL);
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
	}
	print_message("%d killed, %d of them at work\n", kills, busy);
	assert_true(busy > 0);
	munmap((void *)(uintptr_t)s.done, WORKERS * sizeof(*s.done));
	assert_int_equal(cxlshm_recover(f->pool, NULL), 0);
	fixture_check(f);
	for (uint32_t i = 0; i < 8; i++) {
		none = 0;
		assert_int_equal(cxlshm_cell_swap(f->client, cells, i, &none), 0);
		assert_int_equal(cxlshm_release(f->client, none), 0);
	}
	assert_int_equal(cxlshm_release(f->client, cells), 0);
	assert_int_equal(cxlshm_leave(f->client), 0);
	f->client = NULL;
	fixture_check(f);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

static void recovery_reports_what_it_did(void **state)
{
	struct fixture *f = fixture_new(16 << 20, 4);
	struct cxlshm_recovery recovery;
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	if (!pid) {
		struct cxlshm_pool *pool;
		struct cxlshm_client *c;
		cxlshm_ref ref;

		if (cxlshm_pool_open(f->dir, 0, &pool, NULL) || cxlshm_join(pool, NULL, 0, &c))
			_exit(1);
		for (int i = 0; i < 1000; i++)
			if (cxlshm_alloc(c, 64, &ref))
				_exit(1);
		if (cxlshm_alloc_with(c, 4096, 0, CXLSHM_EXTENT, &ref))
			_exit(1);
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(cxlshm_recover(f->pool, &recovery), 0);
	assert_int_equal(recovery.clients, 1);
	assert_int_equal(recovery.references, 1001);
	assert_int_equal(recovery.objects, 1001);
	assert_int_equal(recovery.extents, 1);
	assert_int_equal(cxlshm_recover(f->pool, &recovery), 0);
	assert_int_equal(recovery.clients, 0);
	fixture_free(f);
}

/* Who adopts, and who frees a block in the same segment meanwhile. */
static struct {
	struct fixture *f;
	struct client *adopter;
	jmp_buf dead;
} adoption;

static void adopter_dies(void *arg, struct client *c, unsigned point)
{
	(void)arg;
	if (point == CRASH_page_adopt_unlisted && c == adoption.adopter) {
		client_abandon(c);
		longjmp(adoption.dead, 1);
	}
}

static void adopter_is_recovered(void *arg, struct client *c, unsigned point)
{
	if (point != CRASH_page_push_next)
		return;
	c->pool->crash_hook = NULL;
	*(int *)arg = cxlshm_recover(adoption.f->pool, NULL);
}

/* One died adopting, so its runs count too few blocks as used.  The next one goes by their headers, also if a sweep is due. */
static void what_a_dead_adopter_counted_is_not_believed(void **state)
{
	struct fixture *f = fixture_new(1 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct cxlshm_client *first, *other;
	cxlshm_ref ref, held[2];
	uint32_t segment;
	uint64_t token;
	int rc = -1;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &first), 0);
	assert_int_equal(cxlshm_alloc(first, 1, &ref), 0);	/* the segment that has the root directory */
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(cxlshm_alloc(other, 600, &held[i]), 0);
		assert_int_equal(cxlshm_export(other, held[i], &token), 0);
		assert_int_equal(cxlshm_import(f->client, token, &held[i]), 0);
	}
	memset(cxlshm_ptr(f->client, held[1]), 7, 600);
	segment = (uint32_t)(cxlshm_id(f->client, held[1]) >> c->pool->segment_shift);
	assert_int_equal(cxlshm_leave(other), 0);
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &other), 0);
	adoption.f = f;
	adoption.adopter = (struct client *)other;
	assert_int_equal(segment_adopt(adoption.adopter, segment), 0);
	c->pool->crash_hook = adopter_dies;
	if (!setjmp(adoption.dead))
		page_adopted(adoption.adopter, segment, 1);
	/* Freed in it while it is the dead one's, on the remote list once it is nobody's. */
	c->pool->crash_hook = adopter_is_recovered;
	c->pool->crash_arg = &rc;
	c->tidy = 1;
	assert_int_equal(cxlshm_release(f->client, held[0]), 0);
	assert_int_equal(rc, 0);
	assert_true(segment_is_mine(c, segment));
	for (int i = 0; i < 600; i++)
		assert_int_equal(((char *)cxlshm_ptr(f->client, held[1]))[i], 7);
	assert_int_equal(cxlshm_release(f->client, held[1]), 0);
	assert_int_equal(cxlshm_leave(first), 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(threads_agree_on_counts),
		cmocka_unit_test(processes_killed_at_random_lose_nothing),
		cmocka_unit_test(recovery_reports_what_it_did),
		cmocka_unit_test(what_a_dead_adopter_counted_is_not_believed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
