/* SPDX-License-Identifier: MIT */
/*
 * Inner nodes of directories: they come with names that meet in one edge, and go with the last of them.
 */
#include "names_pool.h"

#include "names_ops.h"

#define ok(call) assert_int_equal(call, 0)
#define fails(call, error) assert_int_equal(call, -(error))

static void add(struct names_pool *p, unsigned i)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", i);
	ok(cxlshm_symlink(p->c, "x", 0, name, NULL));
}

static void take(struct names_pool *p, unsigned i)
{
	char name[16];

	snprintf(name, sizeof(name), "%u", i);
	ok(cxlshm_unlink(p->c, 0, name));
}

static int count_kind(void *arg, const struct cxlshm_object_info *info)
{
	*(uint64_t *)arg += info->kind == CXLSHM_KIND_INTERNAL;
	return 0;
}

/* Nodes and entries there are. */
static uint64_t internals(struct names_pool *p)
{
	uint64_t n = 0;

	ok(cxlshm_each_object(p->pool, count_kind, &n));
	return n;
}

static uint64_t hash_of(struct names_pool *p, unsigned i)
{
	char name[16];
	int bytes = snprintf(name, sizeof(name), "%u", i);

	return names_key_of((struct client *)p->c, name, (size_t)bytes).hash;
}

static void nodes_go_with_their_names(void **state)
{
	struct names_pool *p = *state;

	for (unsigned i = 0; i < 20000; i++)
		add(p, i);
	assert_true(internals(p) > 21000);
	names_check(p);
	for (unsigned i = 0; i < 20000; i += 2)
		take(p, i);
	names_check(p);
	for (unsigned i = 1; i < 20000; i += 2)
		take(p, i);
	assert_int_equal(internals(p), 0);
}

/* Names that come and go for ever take no more room than there are at a time. */
static void a_spool_does_not_grow(void **state)
{
	struct names_pool *p = *state;
	uint64_t most = 0;

	for (unsigned i = 0; i < 60000; i++) {
		add(p, i);
		if (i < 200)
			continue;
		take(p, i - 200);
		if (i % 1000)
			continue;
		if (internals(p) > most)
			most = internals(p);
	}
	assert_true(most >= 200 && most < 500);
}

static void a_rename_takes_nodes_along(void **state)
{
	struct names_pool *p = *state;

	ok(cxlshm_mkdir(p->c, 0, "d", 0700, NULL));
	for (unsigned i = 0; i < 500; i++)
		add(p, i);
	for (unsigned i = 0; i < 500; i++) {
		char from[16], to[16];

		snprintf(from, sizeof(from), "%u", i);
		snprintf(to, sizeof(to), "d/%u", i);
		ok(cxlshm_rename(p->c, 0, from, 0, to, 0));
	}
	for (unsigned i = 0; i < 500; i++) {
		char name[16];

		snprintf(name, sizeof(name), "d/%u", i);
		ok(cxlshm_unlink(p->c, 0, name));
	}
	ok(cxlshm_rmdir(p->c, 0, "d"));
	assert_int_equal(internals(p), 0);
}

/* ---- one client within another's call ---- */

struct between {
	struct names_pool *p;
	struct cxlshm_client *b;
	unsigned skip, fired;
	unsigned name;
};

/* The least number from `from` on that meets 0 in the directory's edge, and not below it. */
static unsigned beside_0(struct names_pool *p, unsigned from)
{
	while (names_nibble(hash_of(p, from), 0) != names_nibble(hash_of(p, 0), 0) ||
	       names_nibble(hash_of(p, from), 1) == names_nibble(hash_of(p, 0), 1))
		from++;
	return from;
}

static void b_takes_both_away(void *arg, struct client *c, unsigned point)
{
	struct between *t = arg;

	if (c != (struct client *)t->p->c || point != CRASH_names_renamed || t->fired)
		return;
	t->fired = 1;
	ok(cxlshm_unlink(t->b, 0, "a"));
	ok(cxlshm_unlink(t->b, 0, "0"));
}

/* A's new name made a node, and is all that is left in it when it is taken back. */
static void a_rename_that_is_undone_leaves_no_node(void **state)
{
	struct between t = {.p = *state};
	struct pool *pool = (struct pool *)t.p->pool;
	char name[16];

	snprintf(name, sizeof(name), "%u", beside_0(t.p, 1));
	ok(cxlshm_join(t.p->pool, "b", 0, &t.b));
	ok(cxlshm_symlink(t.p->c, "x", 0, "a", NULL));
	add(t.p, 0);
	pool->crash_arg = &t;
	pool->crash_hook = b_takes_both_away;
	fails(cxlshm_rename(t.p->c, 0, "a", 0, name, 0), ENOENT);
	pool->crash_hook = NULL;
	assert_int_equal(t.fired, 1);
	assert_int_equal(internals(t.p), 0);
	ok(cxlshm_leave(t.b));
}

static void b_comes_in(void *arg, struct client *c, unsigned point)
{
	struct between *t = arg;
	char name[16];

	if (c != (struct client *)t->p->c || point != CRASH_names_frozen || t->fired || t->skip--)
		return;
	t->fired = 1;
	snprintf(name, sizeof(name), "%u", t->name);
	ok(cxlshm_symlink(t->b, "y", 0, name, NULL));
}

/* 0 and others that share its first edge: the node goes with 0, but for what another client puts into it just then. */
static void nothing_is_put_into_a_node_that_goes(void **state)
{
	struct names_pool *p = *state;
	struct pool *pool = (struct pool *)p->pool;
	unsigned tried = 0;

	for (unsigned skip = 0; skip < NODE_EDGES; skip++)
		for (unsigned other = beside_0(p, 1); other < 200; other = beside_0(p, other + 1)) {
			struct between t = {.p = p, .skip = skip, .name = other};
			cxlshm_ref ref;
			char name[16];

			ok(cxlshm_join(p->pool, "b", 0, &t.b));
			add(p, 0);
			add(p, other);
			take(p, other);	/* leaves 0 in a node of its own */
			assert_int_equal(internals(p), 2);
			pool->crash_arg = &t;
			pool->crash_hook = b_comes_in;
			take(p, 0);
			pool->crash_hook = NULL;
			assert_int_equal(t.fired, 1);
			snprintf(name, sizeof(name), "%u", other);
			ok(cxlshm_lookup(t.b, 0, name, CXLSHM_INODE, &ref));
			ok(cxlshm_release(t.b, ref));
			names_check(p);
			take(p, other);
			assert_int_equal(internals(p), 0);
			ok(cxlshm_leave(t.b));
			tried++;
		}
	assert_true(tried > NODE_EDGES);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, names_setup, names_teardown)
	const struct CMUnitTest tests[] = {
		TEST(nodes_go_with_their_names),
		TEST(a_spool_does_not_grow),
		TEST(a_rename_takes_nodes_along),
		TEST(a_rename_that_is_undone_leaves_no_node),
		TEST(nothing_is_put_into_a_node_that_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
