/* SPDX-License-Identifier: MIT */
/*
 * What every call does with arguments that make no sense.
 */
#include <sys/mman.h>

#include "fixture.h"

struct answer {
	const char *call;
	int64_t got;
};

#define ASK(call) {#call, (int64_t)(call)}

static void all_are_einval(const struct answer *answers, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (answers[i].got != -EINVAL)
			fail_msg("%s: %d", answers[i].call, (int)answers[i].got);
}

static int see_client(void *arg, const struct cxlshm_client_info *info)
{
	(void)arg;
	(void)info;
	return 0;
}

static int see_object(void *arg, const struct cxlshm_object_info *info)
{
	(void)arg;
	(void)info;
	return 0;
}

static int see_holder(void *arg, const struct cxlshm_holder *holder)
{
	(void)arg;
	(void)holder;
	return 0;
}

static void no_client_is_einval(void **state)
{
	struct cxlshm_dirent entry;
	struct cxlshm_stat st = {0};
	uint64_t token, position = 0;
	cxlshm_ref ref = 0;
	char text[16];
	void *address;
	const struct answer answers[] = {
		ASK(cxlshm_leave(NULL)),
		ASK(cxlshm_alloc_with(NULL, 1, 0, 0, &ref)),
		ASK(cxlshm_field_load(NULL, 1, 0, &ref)),
		ASK(cxlshm_field_store(NULL, 1, 0, 0)),
		ASK(cxlshm_field_swap(NULL, 1, 0, &ref)),
		ASK(cxlshm_cell_load(NULL, 1, 0, &ref)),
		ASK(cxlshm_cell_store(NULL, 1, 0, 0)),
		ASK(cxlshm_cell_swap(NULL, 1, 0, &ref)),
		ASK(cxlshm_cell_cas(NULL, 1, 0, 0, &ref)),
		ASK(cxlshm_export(NULL, 1, &token)),
		ASK(cxlshm_import(NULL, 1, &ref)),
		ASK(cxlshm_queue_create(NULL, 1, 0, &ref)),
		ASK(cxlshm_queue_send_wait(NULL, 1, 1, 0)),
		ASK(cxlshm_queue_receive_wait(NULL, 1, &ref, 0)),
		ASK(cxlshm_queue_length(NULL, 1)),
		ASK(cxlshm_lookup(NULL, 0, "n", 0, &ref)),
		ASK(cxlshm_link(NULL, 1, 0, "n", 0600)),
		ASK(cxlshm_create(NULL, 0, "n", 1, 0600, &ref)),
		ASK(cxlshm_mkdir(NULL, 0, "n", 0700, &ref)),
		ASK(cxlshm_symlink(NULL, "t", 0, "n", &ref)),
		ASK(cxlshm_mknod(NULL, 0, "n", S_IFIFO | 0600, &ref)),
		ASK(cxlshm_readlink(NULL, 1, text, sizeof(text))),
		ASK(cxlshm_unlink(NULL, 0, "n")),
		ASK(cxlshm_rmdir(NULL, 0, "n")),
		ASK(cxlshm_rename(NULL, 0, "n", 0, "m", 0)),
		ASK(cxlshm_readdir(NULL, 0, &position, &entry, &ref)),
		ASK(cxlshm_stat(NULL, 1, &st)),
		ASK(cxlshm_setattr(NULL, 1, &st, 0)),
		ASK(cxlshm_getxattr(NULL, 1, "user.n", text, sizeof(text))),
		ASK(cxlshm_setxattr(NULL, 1, "user.n", "v", 1, 0)),
		ASK(cxlshm_listxattr(NULL, 1, text, sizeof(text))),
		ASK(cxlshm_removexattr(NULL, 1, "user.n")),
		ASK(cxlshm_named_object(NULL, 1, &ref)),
		ASK(cxlshm_resize(NULL, 1, 1)),
		ASK(cxlshm_reserve(NULL, 1, 0, 0, 1)),
		ASK(cxlshm_map(NULL, 1, 0, 1, PROT_READ, &address)),
		ASK(cxlshm_unmap(NULL, text)),
		ASK(cxlshm_extent_open(NULL, 1, 0)),
		ASK(cxlshm_extent_busy(NULL, 1)),
	};

	(void)state;
	all_are_einval(answers, sizeof(answers) / sizeof(answers[0]));
	assert_int_equal(cxlshm_client_id(NULL), 0);
	assert_null(cxlshm_client_pool(NULL));
}

static void no_pool_is_einval(void **state)
{
	struct cxlshm_object_info object;
	struct cxlshm_counters counters;
	struct cxlshm_pool_space space;
	struct cxlshm_pool_info info;
	struct cxlshm_client *c;
	uint32_t sequence = 0;
	const struct answer answers[] = {
		ASK(cxlshm_pool_create(NULL, NULL, NULL)),
		ASK(cxlshm_pool_open(NULL, 0, NULL, NULL)),
		ASK(cxlshm_pool_info(NULL, &info)),
		ASK(cxlshm_pool_space(NULL, &space)),
		ASK(cxlshm_join(NULL, NULL, 0, &c)),
		ASK(cxlshm_recover(NULL, NULL)),
		ASK(cxlshm_wait_clients(NULL, &sequence, 0)),
		ASK(cxlshm_each_client(NULL, see_client, NULL)),
		ASK(cxlshm_each_object(NULL, see_object, NULL)),
		ASK(cxlshm_object_info(NULL, 1, &object)),
		ASK(cxlshm_each_holder(NULL, 1, see_holder, NULL)),
		ASK(cxlshm_each_client_holder(NULL, 1, see_holder, NULL)),
		ASK(cxlshm_counters(NULL, &counters)),
		ASK(cxlshm_check(NULL, 0, NULL, NULL, NULL, NULL)),
	};

	(void)state;
	all_are_einval(answers, sizeof(answers) / sizeof(answers[0]));
	cxlshm_pool_close(NULL);
	cxlshm_write_back(NULL, &sequence, sizeof(sequence));
}

static void no_place_for_the_result_is_einval(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	cxlshm_ref fields, cells, queue, file;

	(void)state;
	assert_int_equal(cxlshm_alloc_with(f->client, 16, 1, 0, &fields), 0);
	assert_int_equal(cxlshm_alloc_with(f->client, 16, 1, CXLSHM_CELLS, &cells), 0);
	assert_int_equal(cxlshm_alloc_with(f->client, 4096, 0, CXLSHM_EXTENT, &file), 0);
	assert_int_equal(cxlshm_queue_create(f->client, 4, 0, &queue), 0);
	{
		const struct answer answers[] = {
			ASK(cxlshm_join(f->pool, NULL, 0, NULL)),
			ASK(cxlshm_alloc_with(f->client, 1, 0, 0, NULL)),
			ASK(cxlshm_field_load(f->client, fields, 0, NULL)),
			ASK(cxlshm_field_swap(f->client, fields, 0, NULL)),
			ASK(cxlshm_cell_load(f->client, cells, 0, NULL)),
			ASK(cxlshm_cell_swap(f->client, cells, 0, NULL)),
			ASK(cxlshm_cell_cas(f->client, cells, 0, 0, NULL)),
			ASK(cxlshm_export(f->client, cells, NULL)),
			ASK(cxlshm_import(f->client, 1, NULL)),
			ASK(cxlshm_queue_create(f->client, 1, 0, NULL)),
			ASK(cxlshm_queue_receive_wait(f->client, queue, NULL, 0)),
			ASK(cxlshm_lookup(f->client, 0, "n", 0, NULL)),
			ASK(cxlshm_map(f->client, file, 0, 4096, PROT_READ, NULL)),
			ASK(cxlshm_stat(f->client, file, NULL)),
			ASK(cxlshm_counters(f->pool, NULL)),
		};

		all_are_einval(answers, sizeof(answers) / sizeof(answers[0]));
	}
	fixture_free(f);
}

/* A row that was overwritten is not followed out of the pool, but on the shortest ways. */
static void a_damaged_row_leads_nowhere(void **state)
{
	static const uint64_t wild[] = {1, 4096, 1ull << 40, (1ull << 62) + 16};
	struct fixture *f = fixture_new(1 << 20, 4);
	struct client *c = (struct client *)f->client;
	struct root_fmt *row;
	cxlshm_ref ref;
	uint64_t off;

	(void)state;
	assert_int_equal(cxlshm_alloc(f->client, 100, &ref), 0);
	row = (struct root_fmt *)off_ptr(c->pool, ref ^ c->tag);
	off = a64_load_relaxed(&row->object);
	for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
		a64_store_relaxed(&row->object, wild[i]);
		assert_null(cxlshm_ptr(f->client, ref));
		assert_int_equal(cxlshm_size(f->client, ref), -EUCLEAN);
		assert_int_equal(cxlshm_id(f->client, ref), 0);
		assert_int_equal(cxlshm_kind(f->client, ref), CXLSHM_KIND_NONE);
		assert_int_equal(cxlshm_resize(f->client, ref, 1), -EUCLEAN);
		assert_int_equal(cxlshm_field_store(f->client, ref, 0, 0), -EUCLEAN);
	}
	a64_store_relaxed(&row->object, off);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_client_is_einval),
		cmocka_unit_test(no_pool_is_einval),
		cmocka_unit_test(no_place_for_the_result_is_einval),
		cmocka_unit_test(a_damaged_row_leads_nowhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
