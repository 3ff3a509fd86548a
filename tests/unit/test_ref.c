/* SPDX-License-Identifier: MIT */
/*
 * References, fields, reclaiming of graphs, export and import.
 */
#include <pthread.h>

#include "fixture.h"
#include "length.h"

#include "alloc.h"

static void handles_are_checked(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_client *other;
	cxlshm_ref ref, out;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	assert_int_equal(cxlshm_alloc(f->client, 10, &ref), 0);
	assert_int_equal(cxlshm_release(other, ref), -EBADF);
	assert_null(cxlshm_ptr(other, ref));
	assert_int_equal(cxlshm_attach(other, ref, &out), -EBADF);
	assert_int_equal(cxlshm_release(f->client, ref + 8), -EBADF);
	assert_int_equal(cxlshm_release(f->client, ~0ull), -EBADF);
	assert_int_equal(cxlshm_release(f->client, 0), 0);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	assert_int_equal(cxlshm_release(f->client, ref), -EBADF);
	assert_int_equal(cxlshm_leave(other), 0);
	fixture_free(f);
}

static void local_copies_are_counted_locally(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	cxlshm_ref ref, second;

	(void)state;
	assert_int_equal(cxlshm_alloc(f->client, 10, &ref), 0);
	assert_int_equal(cxlshm_dup(f->client, ref), 0);
	assert_int_equal(fixture_refs(f, ref), 1);
	assert_int_equal(cxlshm_attach(f->client, ref, &second), 0);
	assert_int_equal(fixture_refs(f, ref), 2);
	assert_true(ref != second);
	assert_ptr_equal(cxlshm_ptr(f->client, ref), cxlshm_ptr(f->client, second));
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	assert_non_null(cxlshm_ptr(f->client, ref));
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	assert_int_equal(fixture_refs(f, second), 1);
	assert_int_equal(cxlshm_release(f->client, second), 0);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

static void fields_hold_references(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	cxlshm_ref parent, child, ref;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 40, 2, 0, &parent), 0);
	assert_int_equal(cxlshm_alloc(f->client, 10, &child), 0);
	assert_int_equal(cxlshm_field_store(f->client, parent, 1, child), 0);
	assert_int_equal(fixture_refs(f, child), 2);
	assert_int_equal(cxlshm_field_load(f->client, parent, 1, &ref), 0);
	assert_int_equal(fixture_refs(f, child), 3);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	assert_int_equal(cxlshm_field_load(f->client, parent, 0, &ref), 0);
	assert_int_equal(ref, 0);
	assert_int_equal(cxlshm_field_load(f->client, parent, 2, &ref), -EINVAL);
	assert_int_equal(cxlshm_cell_load(f->client, parent, 0, &ref), -EINVAL);
	assert_int_equal(cxlshm_dup(f->client, child), 0);
	assert_int_equal(cxlshm_field_swap(f->client, parent, 0, &child), -EBUSY);
	assert_int_equal(cxlshm_release(f->client, child), 0);
	assert_int_equal(cxlshm_field_swap(f->client, parent, 0, &child), 0);
	assert_int_equal(child, 0);
	fixture_check(f);
	assert_int_equal(cxlshm_release(f->client, parent), 0);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

static void cells_load_store_swap_and_compare(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	cxlshm_ref holder, a, b, ref;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 32, 2, CXLSHM_CELLS, &holder), 0);
	assert_int_equal(cxlshm_alloc(f->client, 10, &a), 0);
	assert_int_equal(cxlshm_alloc(f->client, 10, &b), 0);
	assert_int_equal(cxlshm_cell_store(f->client, holder, 0, a), 0);
	assert_int_equal(cxlshm_cell_load(f->client, holder, 0, &ref), 0);
	assert_int_equal(cxlshm_id(f->client, ref), cxlshm_id(f->client, a));
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	ref = 0;
	assert_int_equal(cxlshm_cell_cas(f->client, holder, 0, b, &ref), -EAGAIN);
	assert_int_equal(cxlshm_cell_cas(f->client, holder, 0, 0, &ref), -EAGAIN);
	ref = b;
	assert_int_equal(cxlshm_cell_cas(f->client, holder, 0, a, &ref), 0);
	assert_int_equal(cxlshm_id(f->client, ref), cxlshm_id(f->client, a));
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	ref = a;
	assert_int_equal(cxlshm_cell_swap(f->client, holder, 0, &ref), 0);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_check(f);
	assert_int_equal(cxlshm_release(f->client, holder), 0);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

static void a_full_count_is_refused(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct object_fmt *object;
	cxlshm_ref holder, ref, out;
	uint64_t value;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 16, 1, CXLSHM_CELLS, &holder), 0);
	assert_int_equal(cxlshm_alloc(f->client, 16, &ref), 0);
	assert_int_equal(cxlshm_cell_store(f->client, holder, 0, ref), 0);
	object = off_object(c->pool, cxlshm_id(f->client, ref));
	value = a128_value_relaxed(&object->word);
	a128_store_value_release(&object->word, value | OBJECT_COUNT_MAX);
	assert_int_equal(cxlshm_attach(f->client, ref, &out), -EOVERFLOW);
	assert_int_equal(cxlshm_cell_load(f->client, holder, 0, &out), -EOVERFLOW);
	a128_store_value_release(&object->word, value);
	assert_int_equal(cxlshm_attach(f->client, ref, &out), 0);
	fixture_free(f);
}

static void long_lists_go_without_recursion(void **state)
{
	struct fixture *f = fixture_new(1024 << 20, 4);
	int nodes = by_length(1000000, 10000000, 10000000);
	cxlshm_ref head = 0, node;

	(void)state;
	for (int i = 0; i < nodes; i++) {
		assert_int_equal(cxlshm_alloc_with(f->client, 16, 1, 0, &node), 0);
		assert_int_equal(cxlshm_field_swap(f->client, node, 0, &head), 0);
		head = node;
	}
	assert_int_equal(cxlshm_release(f->client, head), 0);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

static cxlshm_ref tree(struct fixture *f, int depth)
{
	cxlshm_ref node, child;

	assert_int_equal(cxlshm_alloc_with(f->client, 16, 2, 0, &node), 0);
	for (uint32_t i = 0; depth && i < 2; i++) {
		child = tree(f, depth - 1);
		assert_int_equal(cxlshm_field_swap(f->client, node, i, &child), 0);
	}
	return node;
}

static void trees_and_wide_objects_go_whole(void **state)
{
	struct fixture *f = fixture_new(256 << 20, 4);
	cxlshm_ref root = tree(f, 14), wide, leaf;

	(void)state;
	assert_int_equal(fixture_objects(f), 1 + (1 << 15) - 1);
	assert_int_equal(cxlshm_alloc_with(f->client, 8 * 300000, 300000, 0, &wide), 0);
	for (uint32_t i = 0; i < 300000; i += 3) {
		assert_int_equal(cxlshm_alloc(f->client, 8, &leaf), 0);
		assert_int_equal(cxlshm_field_swap(f->client, wide, i, &leaf), 0);
	}
	assert_int_equal(cxlshm_field_swap(f->client, wide, 299999, &root), 0);
	fixture_check(f);
	assert_int_equal(cxlshm_release(f->client, wide), 0);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

struct drop {
	struct cxlshm_client *client;
	cxlshm_ref ref;
	int rc;
};

static void *drop(void *arg)
{
	struct drop *d = arg;

	d->rc = cxlshm_release(d->client, d->ref);
	return NULL;
}

/* The last reference is dropped by a thread that has 64 KiB of stack. */
static void drop_with_a_small_stack(struct cxlshm_client *client, cxlshm_ref ref)
{
	struct drop d = {.client = client, .ref = ref, .rc = -1};
	pthread_attr_t attr;
	pthread_t thread;

	assert_int_equal(pthread_attr_init(&attr), 0);
	assert_int_equal(pthread_attr_setstacksize(&attr, 64 << 10), 0);
	assert_int_equal(pthread_create(&thread, &attr, drop, &d), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	pthread_attr_destroy(&attr);
	assert_int_equal(d.rc, 0);
}

/* A long list whose every node has a leaf, too: before the next node in its slots, or behind it. */
static void combs_go_without_recursion(void **state)
{
	struct fixture *f = fixture_new(256 << 20, 4);
	uint32_t nodes = (uint32_t)by_length(100000, 1000000, 1000000);

	(void)state;
	for (uint32_t next = 0; next < 2; next++) {
		cxlshm_ref head = 0, node, leaf;

		for (uint32_t i = 0; i < nodes; i++) {
			assert_int_equal(cxlshm_alloc_with(f->client, 16, 2, 0, &node), 0);
			assert_int_equal(cxlshm_alloc(f->client, 8, &leaf), 0);
			assert_int_equal(cxlshm_field_swap(f->client, node, next, &head), 0);
			assert_int_equal(cxlshm_field_swap(f->client, node, !next, &leaf), 0);
			head = node;
		}
		assert_int_equal(fixture_objects(f), 1 + 2 * (uint64_t)nodes);
		drop_with_a_small_stack(f->client, head);
		assert_int_equal(fixture_objects(f), 1);
	}
	fixture_free(f);
}

static void exports_are_taken_once(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_client *other;
	uint64_t token, tokens[65];
	cxlshm_ref ref, got, many[65];

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "other", 0, &other), 0);
	assert_int_equal(cxlshm_alloc(f->client, 16, &ref), 0);
	strcpy(cxlshm_ptr(f->client, ref), "hello");
	assert_int_equal(cxlshm_export(f->client, ref, &token), 0);
	assert_null(cxlshm_ptr(f->client, ref));
	assert_int_equal(cxlshm_import(other, token, &got), 0);
	assert_string_equal(cxlshm_ptr(other, got), "hello");
	assert_int_equal(cxlshm_import(other, token, &got), -ENOENT);
	assert_int_equal(cxlshm_import(other, 12345, &got), -EINVAL);
	assert_int_equal(cxlshm_release(other, got), 0);
	for (int i = 0; i < 64; i++) {
		assert_int_equal(cxlshm_alloc(f->client, 16, &many[i]), 0);
		assert_int_equal(cxlshm_export(f->client, many[i], &tokens[i]), 0);
	}
	assert_int_equal(cxlshm_alloc(f->client, 16, &many[64]), 0);
	assert_int_equal(cxlshm_export(f->client, many[64], &tokens[64]), -EAGAIN);
	assert_int_equal(cxlshm_release(f->client, many[64]), 0);
	assert_int_equal(cxlshm_leave(f->client), 0);
	f->client = other;
	assert_int_equal(cxlshm_import(other, tokens[3], &got), -ENOENT);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

/* What was a lot for a while comes back, rows and objects. */
static void trimming_gives_memory_back(void **state)
{
	enum { MANY = 20000 };
	struct fixture *f = fixture_new(16 << 20, 4);
	const struct slot_fmt *slot = ((struct client *)f->client)->slot;
	cxlshm_ref *ref = calloc(MANY, sizeof(*ref)), shared;
	uint64_t most;

	(void)state;
	assert_non_null(ref);
	assert_int_equal(cxlshm_trim(NULL), -EINVAL);
	assert_int_equal(cxlshm_alloc(f->client, 40, &shared), 0);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(i % 4 ? cxlshm_attach(f->client, shared, &ref[i]) : cxlshm_alloc(f->client, 500, &ref[i]), 0);
	most = a64_load_relaxed(&slot->segments_owned);
	assert_true(most > 8);
	assert_int_equal(cxlshm_trim(f->client), 0);
	assert_int_equal(a64_load_relaxed(&slot->segments_owned), most);
	for (int i = 0; i < MANY; i++)
		if (i != 7777)	/* one row of a page stays in use */
			assert_int_equal(cxlshm_release(f->client, ref[i]), 0);
	assert_int_equal(cxlshm_trim(f->client), 0);
	assert_true(a64_load_relaxed(&slot->segments_owned) <= 3);
	fixture_check(f);
	assert_int_equal(fixture_refs(f, ref[7777]), 2);
	for (int i = 0; i < 2000; i++)
		assert_int_equal(cxlshm_attach(f->client, ref[7777], &ref[i]), 0);
	assert_int_equal(fixture_refs(f, shared), 2002);
	fixture_check(f);
	for (int i = 0; i < 2000; i++)
		assert_int_equal(cxlshm_release(f->client, ref[i]), 0);
	assert_int_equal(cxlshm_release(f->client, ref[7777]), 0);
	assert_int_equal(cxlshm_release(f->client, shared), 0);
	free(ref);
	fixture_free(f);
}

/* More references take memory, too, and a dead client's is as good as free. */
static void references_find_room_that_a_dead_client_holds(void **state)
{
	struct fixture *f = fixture_new(1 << 20, 4);
	struct cxlshm_client *dead;
	cxlshm_ref ref, copy;

	(void)state;
	assert_int_equal(cxlshm_join(f->pool, "dead", 0, &dead), 0);
	assert_int_equal(cxlshm_alloc(f->client, 10, &ref), 0);
	assert_int_equal(cxlshm_alloc(dead, 3000, &copy), 0);
	for (size_t bytes = 3000; bytes >= 300; bytes /= 10)
		while (!cxlshm_alloc(f->client, bytes, &copy))
			;
	client_abandon((struct client *)dead);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(cxlshm_attach(f->client, ref, &copy), 0);
	fixture_free(f);
}

/* A field of a damaged pool is refused, and the row taken for what was in it is not lost. */
static void a_field_that_leads_nowhere_takes_no_row(void **state)
{
	struct fixture *f = fixture_new(1 << 20, 4);
	struct client *c = (struct client *)f->client;
	cxlshm_ref holder, ref = 0;
	struct a64 *field;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 16, 1, 0, &holder), 0);
	field = cxlshm_ptr(f->client, holder);
	a64_store_relaxed(field, 8);
	for (uint64_t i = 0; i < c->pool->heap_bytes / sizeof(struct root_fmt); i++)
		assert_int_equal(cxlshm_field_swap(f->client, holder, 0, &ref), -EUCLEAN);
	a64_store_relaxed(field, 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handles_are_checked),
		cmocka_unit_test(local_copies_are_counted_locally),
		cmocka_unit_test(fields_hold_references),
		cmocka_unit_test(cells_load_store_swap_and_compare),
		cmocka_unit_test(a_full_count_is_refused),
		cmocka_unit_test(long_lists_go_without_recursion),
		cmocka_unit_test(trees_and_wide_objects_go_whole),
		cmocka_unit_test(combs_go_without_recursion),
		cmocka_unit_test(exports_are_taken_once),
		cmocka_unit_test(trimming_gives_memory_back),
		cmocka_unit_test(references_find_room_that_a_dead_client_holds),
		cmocka_unit_test(a_field_that_leads_nowhere_takes_no_row),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
