/* SPDX-License-Identifier: MIT */
/*
 * cxlshm_check() on pools that the library made: who uses them, superblocks, cycles, the dead, and that a
 * repaired pool is one to go on with.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "check_lines.h"
#include "client.h"

struct offline {
	char dir[64];
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
	uint64_t data;	/* id of an object with a name */
};

static void offline_setup(struct offline *o)
{
	struct cxlshm_pool_options options = {.size_bytes = 8u << 20, .uid = (uid_t)-1, .gid = (gid_t)-1};
	cxlshm_ref ref, child;

	snprintf(o->dir, sizeof(o->dir), "%s/cxlshm-check-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	assert_non_null(mkdtemp(o->dir));
	assert_int_equal(cxlshm_pool_create(o->dir, &options, NULL), 0);
	assert_int_equal(cxlshm_pool_open(o->dir, 0, &o->pool, NULL), 0);
	assert_int_equal(cxlshm_join(o->pool, "check", 0, &o->c), 0);
	assert_int_equal(cxlshm_alloc_with(o->c, 100, 2, 0, &ref), 0);
	assert_int_equal(cxlshm_alloc(o->c, 1000, &child), 0);
	assert_int_equal(cxlshm_field_store(o->c, ref, 1, child), 0);
	assert_int_equal(cxlshm_link(o->c, ref, 0, "data", 0600), 0);
	o->data = cxlshm_id(o->c, ref);
	cxlshm_release(o->c, child);
	cxlshm_release(o->c, ref);
	assert_int_equal(cxlshm_create(o->c, 0, "file", 10000, 0600, NULL), 0);
	assert_int_equal(cxlshm_mkdir(o->c, 0, "dir", 0700, NULL), 0);
	assert_int_equal(cxlshm_symlink(o->c, "target", 0, "dir/link", NULL), 0);
	assert_int_equal(cxlshm_queue_create(o->c, 5, 0, &ref), 0);
	assert_int_equal(cxlshm_link(o->c, ref, 0, "dir/queue", 0600), 0);
	cxlshm_release(o->c, ref);
}

static void offline_teardown(const struct offline *o)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf '%s'", o->dir);
	(void)!system(command);
}

static struct cxlshm_check_result offline_check(const struct offline *o, unsigned flags, struct lines *lines)
{
	struct cxlshm_check_result result;
	struct cxlshm_error error;

	assert_int_equal(cxlshm_check(o->dir, flags, collect, lines, &result, &error), 0);
	return result;
}

static void offline_in_order(const struct offline *o)
{
	struct lines lines = {.loud = 1};
	struct cxlshm_check_result result = offline_check(o, 0, &lines);

	assert_int_equal(result.problems, 0);
	assert_int_equal(result.extents, 1);
}

static void offline_poke(const struct offline *o, uint64_t off, const void *bytes, size_t n)
{
	char path[80];
	int fd;

	snprintf(path, sizeof(path), "%s/heap", o->dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, bytes, n, (off_t)off), n);
	close(fd);
}

static void a_pool_in_use_is_busy(void **state)
{
	struct cxlshm_check_result result;
	struct cxlshm_error error;
	struct offline o;

	(void)state;
	offline_setup(&o);
	assert_int_equal(cxlshm_check(o.dir, 0, NULL, NULL, &result, &error), -EBUSY);
	assert_non_null(strstr(error.text, o.dir));
	cxlshm_pool_close(o.pool);
	offline_in_order(&o);
	offline_teardown(&o);
	assert_int_equal(cxlshm_check(o.dir, 0, NULL, NULL, &result, &error), -ENOENT);
	assert_int_equal(cxlshm_check(o.dir, 1u << 10, NULL, NULL, &result, &error), -EINVAL);
}

static void a_flipped_count_is_repaired_offline(void **state)
{
	struct lines lines = {.want = "has count 9, but 1 references"};
	struct cxlshm_check_result result;
	const uint32_t nine = 9;
	struct offline o;

	(void)state;
	offline_setup(&o);
	cxlshm_pool_close(o.pool);
	offline_poke(&o, o.data, &nine, sizeof(nine));
	result = offline_check(&o, 0, &lines);
	assert_int_equal(result.problems, 1);
	assert_int_equal(lines.wanted, 1);
	result = offline_check(&o, CXLSHM_CHECK_REPAIR, &lines);
	assert_int_equal(result.problems, 1);
	assert_int_equal(result.repaired, 1);
	assert_int_not_equal(lines.count[2], 0);
	offline_in_order(&o);
	offline_teardown(&o);
}

static void either_superblock_is_restored_from_the_other(void **state)
{
	const uint64_t places[] = {SUPER_OFF, SUPER_COPY_OFF};

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct lines lines = {.want = "superblock"};
		struct cxlshm_check_result result;
		const char bad[] = "bad";
		struct offline o;

		offline_setup(&o);
		cxlshm_pool_close(o.pool);
		offline_poke(&o, places[i] + 60, bad, sizeof(bad));
		result = offline_check(&o, 0, &lines);
		assert_int_equal(result.problems, 1);
		assert_int_equal(lines.wanted, 1);
		result = offline_check(&o, CXLSHM_CHECK_REPAIR, &lines);
		assert_int_equal(result.repaired, 1);
		offline_in_order(&o);
		offline_teardown(&o);
	}
}

static void a_cycle_outlives_its_client_until_repaired(void **state)
{
	struct lines lines = {.want = "is leaked"};
	struct cxlshm_check_result result;
	cxlshm_ref a, b;
	struct offline o;

	(void)state;
	offline_setup(&o);
	assert_int_equal(cxlshm_alloc_with(o.c, 64, 1, 0, &a), 0);
	assert_int_equal(cxlshm_alloc_with(o.c, 64, 1, CXLSHM_CELLS, &b), 0);
	assert_int_equal(cxlshm_field_store(o.c, a, 0, b), 0);
	assert_int_equal(cxlshm_cell_store(o.c, b, 0, a), 0);
	cxlshm_pool_close(o.pool);
	result = offline_check(&o, 0, &lines);
	assert_int_equal(result.problems, 2);
	assert_int_equal(lines.wanted, 2);
	result = offline_check(&o, CXLSHM_CHECK_REPAIR, &lines);
	assert_int_equal(result.problems, 2);
	assert_int_equal(result.repaired, 2);
	offline_in_order(&o);
	offline_teardown(&o);
}

/* What a repair cannot take away shows in each of its rounds. */
static void a_finding_is_one_line(void **state)
{
	struct lines lines = {.want = "x/foreign is not the bytes of an object"};
	struct cxlshm_check_result result;
	struct offline o;
	char path[100];
	int fd;

	(void)state;
	offline_setup(&o);
	cxlshm_pool_close(o.pool);
	snprintf(path, sizeof(path), "%s/x/foreign", o.dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	result = offline_check(&o, CXLSHM_CHECK_REPAIR, &lines);
	assert_int_equal(result.problems, 1);
	assert_int_equal(result.repaired, 0);
	assert_int_equal(lines.wanted, 1);
	assert_int_equal(unlink(path), 0);
	offline_in_order(&o);
	offline_teardown(&o);
}

static void what_is_fine_is_told_on_request(void **state)
{
	struct lines silent = {.want = NULL}, lines = {.want = NULL};
	struct offline o;

	(void)state;
	offline_setup(&o);
	cxlshm_pool_close(o.pool);
	offline_check(&o, 0, &silent);
	assert_int_equal(silent.count[0], 0);
	offline_check(&o, CXLSHM_CHECK_VERBOSE, &lines);
	assert_int_equal(lines.count[0], 10);
	offline_teardown(&o);
}

static void who_died_is_recovered_by_the_repair(void **state)
{
	struct lines lines = {.want = "is dead and not recovered"};
	struct cxlshm_check_result result;
	struct offline o;
	int status;
	pid_t pid;

	(void)state;
	offline_setup(&o);
	cxlshm_pool_close(o.pool);
	pid = fork();
	if (!pid) {
		struct cxlshm_client *c;
		cxlshm_ref ref;

		if (cxlshm_pool_open(o.dir, 0, &o.pool, NULL) || cxlshm_join(o.pool, "dying", 0, &c))
			_exit(1);
		for (int i = 0; i < 1000; i++)
			if (cxlshm_alloc_with(c, 100, 0, i == 7 ? CXLSHM_EXTENT : 0, &ref))
				_exit(1);
		_exit(cxlshm_lookup(c, 0, "dir/queue", 0, &ref) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	result = offline_check(&o, 0, &lines);
	assert_int_equal(result.problems, 1);
	assert_int_equal(lines.wanted, 1);
	result = offline_check(&o, CXLSHM_CHECK_REPAIR, &lines);
	assert_int_equal(result.problems, 1);
	assert_int_equal(result.repaired, 1);
	offline_in_order(&o);
	offline_teardown(&o);
}

static void die_when_counted(void *arg, struct client *c, unsigned point)
{
	(void)arg;
	(void)c;
	if (point == CRASH_ref_attach_counted)
		raise(SIGKILL);
}

/* Where damage keeps recovery out, too: the next client of the slot must not find its own era in a header already. */
static void a_wiped_slots_era_is_not_used_again(void **state)
{
	struct lines lines = {0};
	struct pool *pool;
	uint64_t nowhere = 0x12345670, stamp;
	struct offline o;
	uint32_t cid;
	int status;
	pid_t pid;

	(void)state;
	offline_setup(&o);
	cxlshm_pool_close(o.pool);
	pid = fork();
	if (!pid) {
		struct cxlshm_client *c;
		cxlshm_ref ref, copy;

		if (cxlshm_pool_open(o.dir, 0, &o.pool, NULL) || cxlshm_join(o.pool, "dying", 0, &c) ||
		    cxlshm_lookup(c, 0, "data", 0, &ref))
			_exit(1);
		((struct pool *)o.pool)->crash_hook = die_when_counted;
		cxlshm_attach(c, ref, &copy);
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, SIGKILL);
	offline_poke(&o, o.data + 16, &nowhere, sizeof(nowhere));
	offline_check(&o, CXLSHM_CHECK_REPAIR, &lines);
	assert_int_equal(cxlshm_pool_open(o.dir, 0, &o.pool, NULL), 0);
	pool = (struct pool *)o.pool;
	stamp = a128_stamp_relaxed(&off_object(pool, o.data)->word);
	cid = stamp_cid(stamp);
	assert_in_range(cid, 1, pool->slots);
	assert_true(stamp_era(stamp) < a64_load_relaxed(pool_era_row(pool, cid) + cid));
	cxlshm_pool_close(o.pool);
	offline_in_order(&o);
	offline_teardown(&o);
}

/* The pool that a repair leaves is one to go on with. */
static void a_repaired_pool_is_used_again(void **state)
{
	struct lines lines = {0};
	struct cxlshm_check_result result;
	struct cxlshm_client *c;
	struct offline o;
	cxlshm_ref ref;
	uint64_t zero = 0;

	(void)state;
	offline_setup(&o);
	cxlshm_pool_close(o.pool);
	offline_poke(&o, o.data + 16 + 8, &zero, sizeof(zero));
	result = offline_check(&o, CXLSHM_CHECK_REPAIR, &lines);
	assert_int_not_equal(result.problems, 0);
	assert_int_equal(result.repaired, result.problems);
	assert_int_equal(cxlshm_pool_open(o.dir, 0, &o.pool, NULL), 0);
	assert_int_equal(cxlshm_join(o.pool, "again", 0, &c), 0);
	assert_int_equal(cxlshm_lookup(c, 0, "data", 0, &ref), 0);
	assert_int_equal(cxlshm_size(c, ref), 100);
	cxlshm_release(c, ref);
	for (int i = 0; i < 5000; i++) {
		assert_int_equal(cxlshm_alloc(c, (size_t)i, &ref), 0);
		assert_int_equal(cxlshm_release(c, ref), 0);
	}
	assert_int_equal(cxlshm_unlink(c, 0, "data"), 0);
	assert_int_equal(cxlshm_unlink(c, 0, "dir/queue"), 0);
	assert_int_equal(cxlshm_unlink(c, 0, "dir/link"), 0);
	assert_int_equal(cxlshm_rmdir(c, 0, "dir"), 0);
	assert_int_equal(check_pool((struct pool *)o.pool, 0, collect, &lines, &result), 0);
	assert_int_equal(result.problems, 0);
	cxlshm_pool_close(o.pool);
	offline_in_order(&o);
	offline_teardown(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pool_in_use_is_busy),
		cmocka_unit_test(a_flipped_count_is_repaired_offline),
		cmocka_unit_test(either_superblock_is_restored_from_the_other),
		cmocka_unit_test(a_cycle_outlives_its_client_until_repaired),
		cmocka_unit_test(a_finding_is_one_line),
		cmocka_unit_test(what_is_fine_is_told_on_request),
		cmocka_unit_test(who_died_is_recovered_by_the_repair),
		cmocka_unit_test(a_wiped_slots_era_is_not_used_again),
		cmocka_unit_test(a_repaired_pool_is_used_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
