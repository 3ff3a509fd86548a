/* SPDX-License-Identifier: MIT */
/*
 * A pool of its own for tests of names: made, opened, one client joined; checked and removed at the end.
 */
#ifndef TESTS_NAMES_POOL_H
#define TESTS_NAMES_POOL_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "check.h"
#include "client.h"
#include "cxlshm.h"

struct names_pool {
	char dir[64];
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
};

static inline void names_report(void *arg, int severity, const char *line)
{
	(void)arg;
	if (severity)
		print_message("  %s\n", line);
}

/* Nobody is in an operation, everybody dead is recovered: there is nothing to complain about. */
static inline void names_check(struct names_pool *p)
{
	struct cxlshm_check_result result;

	assert_int_equal(check_pool((struct pool *)p->pool, 0, names_report, NULL, &result), 0);
	assert_int_equal(result.problems, 0);
}

static inline int names_open(struct names_pool *p, uint64_t bytes)
{
	struct cxlshm_pool_options options = {
		.size_bytes = bytes, .client_slots = 24, .uid = (uid_t)-1, .gid = (gid_t)-1,
	};
	struct cxlshm_error error = {""};

	memset(p, 0, sizeof(*p));
	snprintf(p->dir, sizeof(p->dir), "%s/cxlshm-names-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(p->dir) || cxlshm_pool_create(p->dir, &options, &error) ||
	    cxlshm_pool_open(p->dir, 0, &p->pool, &error) || cxlshm_join(p->pool, "test", 0, &p->c)) {
		print_message("%s\n", error.text);
		return -1;
	}
	return 0;
}

static inline void names_close(struct names_pool *p)
{
	char command[128];

	if (p->pool)
		cxlshm_pool_close(p->pool);
	snprintf(command, sizeof(command), "rm -rf '%s'", p->dir);
	(void)!system(command);
}

static inline int names_setup(void **state)
{
	struct names_pool *p = malloc(sizeof(*p));

	*state = p;
	return p ? names_open(p, 64u << 20) : -1;
}

static inline int names_teardown(void **state)
{
	struct names_pool *p = *state;

	names_check(p);
	names_close(p);
	free(p);
	return 0;
}

#endif
