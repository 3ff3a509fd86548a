/* SPDX-License-Identifier: MIT */
/*
 * Looking inside: lists of clients, objects and holders, and counters; right on a pool at rest, and
 * harmless beside clients at work and on damaged pools.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "fixture.h"
#include "world.h"

struct seen {
	unsigned clients, alive, objects, holders;
	uint64_t references, bytes;
	struct cxlshm_client_info client;
	struct cxlshm_object_info object;	/* the one with id `want` */
	struct cxlshm_holder holder[8];
	uint64_t want;
	int stop;
};

static int see_client(void *arg, const struct cxlshm_client_info *info)
{
	struct seen *seen = arg;

	seen->clients++;
	seen->alive += info->alive;
	seen->client = *info;
	return seen->stop;
}

static int see_object(void *arg, const struct cxlshm_object_info *info)
{
	struct seen *seen = arg;

	seen->objects++;
	seen->bytes += info->size_bytes;
	if (info->id == seen->want)
		seen->object = *info;
	return seen->stop;
}

static int see_holder(void *arg, const struct cxlshm_holder *holder)
{
	struct seen *seen = arg;

	if (seen->holders < 8)
		seen->holder[seen->holders] = *holder;
	seen->holders++;
	seen->references += holder->references;
	return seen->stop;
}

static void clients_are_listed_with_what_they_hold(void **state)
{
	struct fixture *f = fixture_new(16u << 20, 8);
	struct cxlshm_client *second;
	struct seen seen = {0};
	cxlshm_ref ref;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "a name", 0, &second), 0);
	for (int i = 0; i < 3000; i++)
		assert_int_equal(cxlshm_alloc(second, 100, &ref), 0);
	for (int i = 0; i < 50; i++)
		assert_int_equal(cxlshm_attach(second, ref, &ref), 0);
	assert_int_equal(cxlshm_each_client(f->pool, see_client, &seen), 0);
	assert_int_equal(seen.clients, 2);
	assert_int_equal(seen.alive, 2);
	assert_int_equal(seen.client.id, cxlshm_client_id(second));
	assert_string_equal(seen.client.name, "a_name");
	assert_int_equal(seen.client.pid, getpid());
	assert_int_equal(seen.client.references, 3050);
	assert_int_equal(seen.client.allocations, 3000);
	assert_true(seen.client.segments >= 1);
	assert_true(seen.client.era > 50);
	assert_true(seen.client.joined_ns > 1600000000000000000ull);
	seen.stop = 42;
	seen.clients = 0;
	assert_int_equal(cxlshm_each_client(f->pool, see_client, &seen), 42);
	assert_int_equal(seen.clients, 1);
	assert_int_equal(cxlshm_leave(second), 0);
	fixture_free(f);
}

static void a_dead_client_is_not_alive(void **state)
{
	struct fixture *f = fixture_new(16u << 20, 8);
	struct seen seen = {0};
	int status;
	pid_t pid = fork();

	(void)state;
	if (!pid) {
		struct cxlshm_pool *pool;
		struct cxlshm_client *c;

		/* The inherited handle is of no use, and says so. */
		if (cxlshm_each_client(f->pool, see_client, &seen) != -EOWNERDEAD)
			_exit(1);
		_exit(cxlshm_pool_open(f->dir, 0, &pool, NULL) || cxlshm_join(pool, "dead", 0, &c) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(cxlshm_each_client(f->pool, see_client, &seen), 0);
	assert_int_equal(seen.clients, 2);
	assert_int_equal(seen.alive, 1);
	assert_int_equal(seen.client.alive, 0);
	assert_int_equal(seen.client.pid, pid);
	assert_int_equal(cxlshm_recover(f->pool, NULL), 0);
	fixture_free(f);
}

struct one_client {
	uint32_t id;
	struct cxlshm_client_info info;
};

static int see_one(void *arg, const struct cxlshm_client_info *info)
{
	struct one_client *one = arg;

	if (info->id == one->id)
		one->info = *info;
	return info->id == one->id;
}

static uint64_t recoveries(struct fixture *f, struct cxlshm_client *c)
{
	struct one_client one = {.id = cxlshm_client_id(c)};

	assert_int_equal(cxlshm_each_client(f->pool, see_one, &one), 1);
	return one.info.recoveries;
}

static void leave_a_dead_client(struct fixture *f)
{
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(cxlshm_pool_open(f->dir, 0, &pool, NULL) || client_claim((struct pool *)pool, "dead", (struct client **)&c));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void recoveries_are_counted_where_they_are_done(void **state)
{
	struct fixture *f = fixture_new(16u << 20, 8);
	struct cxlshm_client *second;
	struct cxlshm_counters counters;
	cxlshm_ref ref;

	(void)state;
	leave_a_dead_client(f);
	leave_a_dead_client(f);
	assert_int_equal(cxlshm_join(f->pool, "joins", 0, &second), 0);
	assert_int_equal(recoveries(f, second), 2);
	assert_int_equal(recoveries(f, f->client), 0);
	leave_a_dead_client(f);
	assert_int_equal(cxlshm_alloc(f->client, 1ull << 40, &ref), -ENOSPC);
	assert_int_equal(recoveries(f, f->client), 1);
	leave_a_dead_client(f);
	assert_int_equal(cxlshm_recover(f->pool, NULL), 0);
	assert_int_equal(recoveries(f, second), 2);
	assert_int_equal(recoveries(f, f->client), 1);
	assert_int_equal(cxlshm_counters(f->pool, &counters), 0);
	assert_int_equal(counters.clients_recovered, 4);
	assert_int_equal(cxlshm_leave(second), 0);
	fixture_free(f);
}

static void objects_are_listed_with_their_sizes(void **state)
{
	static const size_t sizes[] = {0, 1, 15, 16, 100, 4000, 5000, 70000, 300000, 5000000};
	struct fixture *f = fixture_new(32u << 20, 8);
	struct cxlshm_object_info info;
	struct seen seen = {0};
	cxlshm_ref ref;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(cxlshm_alloc(f->client, sizes[i], &ref), 0);
		seen.objects = 0;
		seen.want = cxlshm_id(f->client, ref);
		assert_int_equal(cxlshm_each_object(f->pool, see_object, &seen), 0);
		assert_int_equal(seen.objects, i + 2);	/* and the root directory */
		assert_int_equal(seen.object.id, seen.want);
		assert_int_equal(seen.object.size_bytes, sizes[i]);
		assert_int_equal(seen.object.kind, CXLSHM_KIND_HEAP);
		assert_int_equal(seen.object.refs, 1);
		assert_int_equal(seen.object.exposed, 0);
		assert_int_equal(cxlshm_object_info(f->pool, seen.want, &info), 0);
		assert_memory_equal(&info, &seen.object, sizeof(info));
		assert_int_equal(cxlshm_object_info(f->pool, seen.want + 16, &info), -ENOENT);
	}
	assert_int_equal(cxlshm_create(f->client, 0, "file", 12345, 0600, &ref), 0);
	assert_int_equal(cxlshm_object_info(f->pool, cxlshm_id(f->client, ref), &info), 0);
	assert_int_equal(info.kind, CXLSHM_KIND_FILE);
	assert_int_equal(info.size_bytes, 12345);
	assert_int_equal(info.refs, 2);
	assert_int_equal(info.exposed, 1);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_free(f);
}

static void an_id_that_is_none_is_enoent(void **state)
{
	struct fixture *f = fixture_new(16u << 20, 8);
	struct cxlshm_object_info info;

	(void)state;
	for (uint64_t id = 0; id < 64; id++)
		assert_int_equal(cxlshm_object_info(f->pool, 1ull << id, &info), -ENOENT);
	assert_int_equal(cxlshm_object_info(f->pool, 0, &info), -ENOENT);
	assert_int_equal(cxlshm_object_info(f->pool, ~15ull, &info), -ENOENT);
	fixture_free(f);
}

static void holders_are_roots_slots_and_names(void **state)
{
	struct fixture *f = fixture_new(16u << 20, 8);
	cxlshm_ref ref, second, holder, wide;
	struct seen seen = {0};
	uint64_t id;

	(void)state;
	assert_int_equal(cxlshm_alloc(f->client, 10, &ref), 0);
	id = cxlshm_id(f->client, ref);
	assert_int_equal(cxlshm_attach(f->client, ref, &second), 0);
	assert_int_equal(cxlshm_alloc_with(f->client, 64, 2, CXLSHM_CELLS, &holder), 0);
	assert_int_equal(cxlshm_cell_store(f->client, holder, 0, ref), 0);
	assert_int_equal(cxlshm_cell_store(f->client, holder, 1, ref), 0);
	assert_int_equal(cxlshm_alloc_with(f->client, 800000, 100000, 0, &wide), 0);
	assert_int_equal(cxlshm_field_store(f->client, wide, 99999, ref), 0);
	assert_int_equal(cxlshm_each_holder(f->pool, id, see_holder, &seen), 0);
	assert_int_equal(seen.holders, 3);
	assert_int_equal(seen.references, 5);
	assert_int_equal(seen.holder[0].client, cxlshm_client_id(f->client));
	assert_int_equal(seen.holder[0].object, 0);
	assert_int_equal(seen.holder[0].references, 2);
	for (int i = 1; i < 3; i++) {
		int is_wide = seen.holder[i].object == cxlshm_id(f->client, wide);

		assert_int_equal(seen.holder[i].client, UINT32_MAX);
		assert_int_equal(seen.holder[i].references, is_wide ? 1 : 2);
	}
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(cxlshm_each_client_holder(f->pool, id, see_holder, &seen), 0);
	assert_int_equal(seen.holders, 1);
	assert_int_equal(seen.references, 2);
	/* An export is its exporter's. */
	assert_int_equal(cxlshm_export(f->client, second, &id), 0);
	memset(&seen, 0, sizeof(seen));
	assert_int_equal(cxlshm_each_holder(f->pool, cxlshm_id(f->client, ref), see_holder, &seen), 0);
	assert_int_equal(seen.references, 5);
	fixture_free(f);
}

static void counters_add_up(void **state)
{
	struct fixture *f = fixture_new(32u << 20, 8);
	struct cxlshm_counters before, n;
	struct cxlshm_client *second;
	cxlshm_ref ref, copy, big;

	(void)state;
	assert_int_equal(cxlshm_create(f->client, 0, "file", 10000, 0600, NULL), 0);
	assert_int_equal(cxlshm_counters(f->pool, &before), 0);
	assert_int_equal(cxlshm_join(f->pool, "second", 0, &second), 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(cxlshm_alloc(second, 10, &ref), 0);
		assert_int_equal(cxlshm_attach(second, ref, &copy), 0);
		assert_int_equal(cxlshm_release(second, ref), 0);
		if (i < 4)
			assert_int_equal(cxlshm_release(second, copy), 0);
	}
	assert_int_equal(cxlshm_alloc(f->client, 3000000, &big), 0);
	assert_int_equal(cxlshm_counters(f->pool, &n), 0);
	assert_int_equal(n.clients, 2);
	assert_int_equal(n.attaches - before.attaches, 10);
	assert_true(n.allocations - before.allocations == 11);
	assert_int_equal(n.frees - before.frees, 4);
	assert_int_equal(n.extents, 1);
	assert_true(n.extent_bytes >= 10000);
	assert_true(n.segments_span >= 5);
	assert_true(n.segments_owned >= 2);
	assert_int_equal(cxlshm_leave(second), 0);
	assert_int_equal(cxlshm_counters(f->pool, &n), 0);
	assert_int_equal(n.clients, 1);
	assert_int_equal(n.attaches - before.attaches, 10);
	assert_true(n.frees - before.frees >= 10);
	fixture_free(f);
}

/* ---------------------------------------------------------------- beside clients at work */

struct worker {
	struct cxlshm_pool *pool;
	int stop;
	int rc;
};

static void *work(void *arg)
{
	struct worker *w = arg;
	struct cxlshm_client *c;
	cxlshm_ref ref[64] = {0};
	unsigned seed = 1;

	w->rc = cxlshm_join(w->pool, "worker", 0, &c);
	while (!w->rc && !__atomic_load_n(&w->stop, __ATOMIC_RELAXED)) {
		int i = rand_r(&seed) % 64;

		w->rc = cxlshm_release(c, ref[i]);
		if (!w->rc)
			w->rc = cxlshm_alloc_with(c, (size_t)(rand_r(&seed) % 8 ? 64 : rand_r(&seed) % 600000), 1, 0,
						  &ref[i]);
		if (w->rc == -EINVAL || w->rc == -ENOSPC) {
			ref[i] = 0;
			w->rc = 0;
		}
	}
	if (!w->rc)
		w->rc = cxlshm_leave(c);
	return NULL;
}

static void looking_beside_workers_is_harmless(void **state)
{
	struct fixture *f = fixture_new(32u << 20, 8);
	struct worker worker = {.pool = f->pool};
	struct cxlshm_counters counters;
	struct seen seen = {0};
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, work, &worker), 0);
	for (int i = 0; i < 300; i++) {
		assert_int_equal(cxlshm_each_client(f->pool, see_client, &seen), 0);
		assert_int_equal(cxlshm_each_object(f->pool, see_object, &seen), 0);
		assert_int_equal(cxlshm_each_holder(f->pool, seen.object.id ? seen.object.id : 4096, see_holder, &seen), 0);
		assert_int_equal(cxlshm_counters(f->pool, &counters), 0);
	}
	__atomic_store_n(&worker.stop, 1, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(worker.rc, 0);
	fixture_free(f);
}

/* ---------------------------------------------------------------- damage */

static void looking_into_a_damaged_pool_never_crashes(void **state)
{
	unsigned seed = 99;

	(void)state;
	for (int round = 0; round < 100; round++) {
		struct cxlshm_counters counters;
		struct cxlshm_object_info info;
		struct seen seen = {0};
		struct world w;

		assert_int_equal(world_setup(&w), 0);
		for (int i = 0; i < 20; i++) {
			uint64_t from[] = {w.pool->super->segment_table_off, off_of(w.pool, w.slot),
					   (uint64_t)w.first << w.pool->segment_shift};
			static const uint64_t bytes[] = {1024, 4096, 24576};
			int area = rand_r(&seed) % 3;
			uint64_t value = (uint64_t)rand_r(&seed) << (rand_r(&seed) % 48);

			memcpy(off_ptr(w.pool, from[area] + (uint64_t)rand_r(&seed) % bytes[area] / 8 * 8), &value, 8);
		}
		for (int i = 0; i < 4; i++) {
			struct cxlshm_pool *pool = (struct cxlshm_pool *)w.pool;
			const uint64_t id[] = {w.one, w.file, w.root, w.span};

			(void)cxlshm_each_client(pool, see_client, &seen);
			(void)cxlshm_each_object(pool, see_object, &seen);
			(void)cxlshm_each_holder(pool, id[i], see_holder, &seen);
			(void)cxlshm_object_info(pool, id[i], &info);
			(void)cxlshm_counters(pool, &counters);
		}
		world_teardown(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clients_are_listed_with_what_they_hold),
		cmocka_unit_test(a_dead_client_is_not_alive),
		cmocka_unit_test(recoveries_are_counted_where_they_are_done),
		cmocka_unit_test(objects_are_listed_with_their_sizes),
		cmocka_unit_test(an_id_that_is_none_is_enoent),
		cmocka_unit_test(holders_are_roots_slots_and_names),
		cmocka_unit_test(counters_add_up),
		cmocka_unit_test(looking_beside_workers_is_harmless),
		cmocka_unit_test(looking_into_a_damaged_pool_never_crashes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
