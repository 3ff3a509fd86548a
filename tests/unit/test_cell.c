/* SPDX-License-Identifier: MIT */
/*
 * Readers that are overtaken: client A has found an object and looked at its header, and before A counts itself in, client B
 * (a thread) takes the object away and writes bytes of its own where it was.  A's look must count for nothing (DESIGN.md,
 * rule 5), and ThreadSanitizer must have nothing to say of it, for the look is as it should be: see client_read_begin().
 */
#include "fixture.h"

#include <pthread.h>
#include <sched.h>
#include <sys/stat.h>

enum stage { STAGE_NONE, STAGE_READ, STAGE_GONE };

struct overtaken {
	struct fixture *f;
	struct cxlshm_client *b;
	/* How B takes the object away, covers its memory, and puts another in its place. */
	int (*act)(struct overtaken *o);
	cxlshm_ref holder;	/* B's */
	cxlshm_ref pad;	/* B's: so that the object is not the first in its page, where every run begins with a header */
	uint64_t old, new;	/* cxlshm_id() of both */
	/* Relaxed: A's look is not to be ordered before B's writes, and nothing else may do that. */
	enum stage stage;
	unsigned fired;
};

static void stage_set(struct overtaken *o, enum stage stage)
{
	__atomic_store_n(&o->stage, stage, __ATOMIC_RELAXED);
}

static void stage_await(struct overtaken *o, enum stage stage)
{
	while (__atomic_load_n(&o->stage, __ATOMIC_RELAXED) != stage)
		sched_yield();
}

static void hook(void *arg, struct client *c, unsigned point)
{
	struct overtaken *o = arg;

	if (point != CRASH_cell_load_read || c != (struct client *)o->f->client || o->fired)
		return;
	o->fired = 1;
	stage_set(o, STAGE_READ);
	stage_await(o, STAGE_GONE);
}

/* Fill all memory there is with B's bytes, until some are where the old object's header was; then give them back. */
static int cover(struct overtaken *o)
{
	static const unsigned most = 1 << 16;	/* more than there is room for */
	cxlshm_ref *all = calloc(most, sizeof(*all));
	unsigned n = 0;
	int covered = 0, rc = 0;

	for (size_t bytes = 200000; bytes > 64 && !covered; bytes /= 3)
		while (all && n < most && !covered && !cxlshm_alloc(o->b, bytes, &all[n])) {
			uint64_t id = cxlshm_id(o->b, all[n]);

			memset(cxlshm_ptr(o->b, all[n++]), 0xff, bytes);
			covered = id + sizeof(struct object_fmt) <= o->old && o->old + sizeof(struct object_fmt) <= id + bytes;
		}
	while (n && !rc)
		rc = cxlshm_release(o->b, all[--n]);
	free(all);
	return rc ? rc : covered ? 0 : -ENOENT;
}

static void *overtake(void *arg)
{
	struct overtaken *o = arg;
	int rc;

	stage_await(o, STAGE_READ);
	rc = o->act(o);
	stage_set(o, STAGE_GONE);
	return rc ? strerror(-rc) : "";
}

static void begin(struct overtaken *o, int (*act)(struct overtaken *o))
{
	memset(o, 0, sizeof(*o));
	o->f = fixture_new(4 << 20, 4);
	o->act = act;
	assert_int_equal(cxlshm_join(o->f->pool, "b", 0, &o->b), 0);
}

static pthread_t start(struct overtaken *o)
{
	pthread_t thread;

	((struct pool *)o->f->pool)->crash_arg = o;
	((struct pool *)o->f->pool)->crash_hook = hook;
	assert_int_equal(pthread_create(&thread, NULL, overtake, o), 0);
	return thread;
}

static void end(struct overtaken *o, pthread_t thread)
{
	void *complaint;

	assert_int_equal(pthread_join(thread, &complaint), 0);
	assert_string_equal(complaint, "");
	assert_int_equal(o->fired, 1);
	((struct pool *)o->f->pool)->crash_hook = NULL;
	if (o->holder)
		assert_int_equal(cxlshm_release(o->b, o->holder), 0);
	assert_int_equal(cxlshm_leave(o->b), 0);
	fixture_free(o->f);
}

/* ---- a cell ---- */

static int swap_in_another(struct overtaken *o)
{
	cxlshm_ref ref;
	int rc = cxlshm_alloc(o->b, 3000, &ref);

	if (rc)
		return rc;
	o->new = cxlshm_id(o->b, ref);
	rc = cxlshm_cell_swap(o->b, o->holder, 0, &ref);
	if (!rc)
		rc = cxlshm_release(o->b, ref);
	if (!rc)
		rc = cxlshm_release(o->b, o->pad);
	return rc ? rc : cover(o);
}

static void a_cell_is_read_again(void **state)
{
	struct overtaken o;
	cxlshm_ref holder, ref;
	pthread_t thread;

	(void)state;
	begin(&o, swap_in_another);
	assert_int_equal(cxlshm_alloc_with(o.b, 16, 1, CXLSHM_CELLS, &o.holder), 0);
	assert_int_equal(cxlshm_link(o.b, o.holder, 0, "holder", 0600), 0);
	assert_int_equal(cxlshm_lookup(o.f->client, 0, "holder", 0, &holder), 0);
	assert_int_equal(cxlshm_alloc(o.b, 1000, &o.pad), 0);
	assert_int_equal(cxlshm_alloc(o.b, 1000, &ref), 0);
	o.old = cxlshm_id(o.b, ref);
	assert_int_equal(cxlshm_cell_store(o.b, o.holder, 0, ref), 0);
	assert_int_equal(cxlshm_release(o.b, ref), 0);

	thread = start(&o);
	assert_int_equal(cxlshm_cell_load(o.f->client, holder, 0, &ref), 0);
	assert_int_equal(cxlshm_id(o.f->client, ref), o.new);
	assert_int_equal(cxlshm_release(o.f->client, ref), 0);
	assert_int_equal(cxlshm_release(o.f->client, holder), 0);
	end(&o, thread);
}

/* ---- a name ---- */

static int make_anew(struct overtaken *o)
{
	cxlshm_ref ref;
	int rc = cxlshm_unlink(o->b, 0, "f");

	if (!rc)
		rc = cxlshm_release(o->b, o->pad);
	if (!rc)
		rc = cover(o);
	if (!rc)
		rc = cxlshm_mknod(o->b, 0, "f", S_IFIFO | 0600, &ref);
	if (rc)
		return rc;
	o->new = cxlshm_id(o->b, ref);
	return cxlshm_release(o->b, ref);
}

static void a_name_is_looked_up_again(void **state)
{
	struct overtaken o;
	pthread_t thread;
	cxlshm_ref ref;

	(void)state;
	begin(&o, make_anew);
	assert_int_equal(cxlshm_mknod(o.b, 0, "pad", S_IFIFO | 0600, &o.pad), 0);
	assert_int_equal(cxlshm_unlink(o.b, 0, "pad"), 0);
	assert_int_equal(cxlshm_mknod(o.b, 0, "f", S_IFIFO | 0600, &ref), 0);
	o.old = cxlshm_id(o.b, ref);
	assert_int_equal(cxlshm_release(o.b, ref), 0);

	thread = start(&o);
	assert_int_equal(cxlshm_lookup(o.f->client, 0, "f", 0, &ref), 0);
	assert_int_equal(cxlshm_id(o.f->client, ref), o.new);
	assert_int_equal(cxlshm_release(o.f->client, ref), 0);
	end(&o, thread);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cell_is_read_again),
		cmocka_unit_test(a_name_is_looked_up_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
