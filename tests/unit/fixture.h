/* SPDX-License-Identifier: MIT */
/*
 * A pool of one's own for each test, on tmpfs, checked and removed at the end.
 */
#ifndef TESTS_UNIT_FIXTURE_H
#define TESTS_UNIT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "check.h"
#include "client.h"
#include "cxlshm.h"

/*
 * ThreadSanitizer's own 16-byte atomics are under a lock of the process, so two processes at once on one pool are no test
 * of anything there.
 */
#ifdef ARCH_SEEN_BY_TSAN
#define SKIP_IF_ONE_PROCESS() skip()
#else
#define SKIP_IF_ONE_PROCESS() ((void)0)
#endif

struct fixture {
	char dir[64];
	struct cxlshm_pool *pool;
	struct cxlshm_client *client;
};

static inline void fixture_report(void *arg, int severity, const char *line)
{
	(void)arg;
	if (severity > 0)
		print_message("    check: %s\n", line);
}

/* Every count right, nothing lost; clients may be joined. */
static inline void fixture_check(struct fixture *f)
{
	struct cxlshm_check_result result;

	assert_int_equal(check_pool((struct pool *)f->pool, 0, fixture_report, NULL, &result), 0);
	assert_int_equal(result.problems, 0);
}

static inline struct fixture *fixture_new(uint64_t bytes, uint32_t slots)
{
	struct cxlshm_pool_options options = {
		.size_bytes = bytes, .client_slots = slots, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct fixture *f = calloc(1, sizeof(*f));
	struct cxlshm_error error = {""};

	assert_non_null(f);
	strcpy(f->dir, "/dev/shm/cxlshm-unit-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	if (cxlshm_pool_create(f->dir, &options, &error))
		fail_msg("%s", error.text);
	if (cxlshm_pool_open(f->dir, 0, &f->pool, &error))
		fail_msg("%s", error.text);
	assert_int_equal(cxlshm_join(f->pool, "test", 0, &f->client), 0);
	return f;
}

static inline void fixture_free(struct fixture *f)
{
	if (f->client) {
		fixture_check(f);
		assert_int_equal(cxlshm_leave(f->client), 0);
	}
	fixture_check(f);
	cxlshm_pool_close(f->pool);
	assert_int_equal(cxlshm_pool_remove(f->dir, NULL), 0);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
}

/* Objects in the pool, the root directory included. */
static inline int fixture_count_one(void *arg, const struct cxlshm_object_info *info)
{
	(void)info;
	++*(uint64_t *)arg;
	return 0;
}

static inline uint64_t fixture_objects(struct fixture *f)
{
	uint64_t count = 0;

	assert_int_equal(cxlshm_each_object(f->pool, fixture_count_one, &count), 0);
	return count;
}

static inline uint32_t fixture_refs(struct fixture *f, cxlshm_ref ref)
{
	struct cxlshm_object_info info;

	assert_int_equal(cxlshm_object_info(f->pool, cxlshm_id(f->client, ref), &info), 0);
	return info.refs;
}

#endif
