/* SPDX-License-Identifier: MIT */
/*
 * For the tests of pools: a directory for each test, and pools in it.  The root directory object is not made
 * here: pools are sealed with a plausible offset.
 */
#ifndef TEST_POOL_FIXTURE_H
#define TEST_POOL_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "pool.h"

#define MIB (1ull << 20)

static char dir[64];	/* of the running test */

static struct cxlshm_error err;

static inline const char *in_dir(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static inline struct cxlshm_pool *public(struct pool *pool)
{
	return (struct cxlshm_pool *)pool;
}

static inline int setup(void **state)
{
	const char *tmp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";

	(void)state;
	snprintf(dir, sizeof(dir), "%s/cxlshm-test-pool-XXXXXX", tmp);
	return mkdtemp(dir) ? 0 : -1;
}

static inline int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	return system(command);
}

static inline struct cxlshm_pool_options options(uint64_t size_bytes)
{
	return (struct cxlshm_pool_options){ .size_bytes = size_bytes, .uid = (uid_t)-1, .gid = (gid_t)-1 };
}

static inline int make_with(const struct cxlshm_pool_options *o)
{
	struct pool *pool;
	int rc = pool_make(dir, o, &pool, &err);

	if (rc)
		return rc;
	rc = pool_seal(pool, ((uint64_t)pool->first_segment << pool->segment_shift) + (1u << pool->page_shift));
	pool_unmap(pool);
	return rc;
}

static inline int make(uint64_t size_bytes)
{
	struct cxlshm_pool_options o = options(size_bytes);

	return make_with(&o);
}

static inline int open_pool(unsigned flags)
{
	struct pool *pool = NULL;
	int rc = pool_open(dir, flags, &pool, &err);

	if (rc == 0)
		pool_unmap(pool);
	else
		assert_null(pool);
	return rc;
}

/* It failed so, and the sentence names the directory. */
#define assert_refused(call, code)                          \
	do {                                                \
		memset(&err, 0, sizeof(err));               \
		assert_int_equal(call, code);               \
		assert_non_null(strstr(err.text, dir));     \
	} while (0)

static inline void flip(off_t at, uint8_t bits)
{
	int fd = open(in_dir("heap"), O_RDWR);
	uint8_t byte;

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= bits;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	close(fd);
}

static inline void read_super(struct super_fmt *super, uint64_t off)
{
	int fd = open(in_dir("heap"), O_RDONLY);

	assert_true(fd >= 0);
	assert_int_equal(pread(fd, super, sizeof(*super), (off_t)off), sizeof(*super));
	close(fd);
}

/* Both copies, with a checksum that fits. */
static inline void write_super(struct super_fmt *super)
{
	int fd = open(in_dir("heap"), O_RDWR);

	super->checksum = pool_super_checksum(super);
	assert_true(fd >= 0);
	assert_int_equal(pool_super_write(fd, super), 0);
	close(fd);
}

#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
