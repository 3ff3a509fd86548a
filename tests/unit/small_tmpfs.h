/* SPDX-License-Identifier: MIT */
/*
 * A pool on a tmpfs of a few MiB, in a process and a mount namespace of its own, for what happens when that is full.
 * Needs root; skipped otherwise.
 */
#ifndef TESTS_UNIT_SMALL_TMPFS_H
#define TESTS_UNIT_SMALL_TMPFS_H

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statfs.h>

#include "fixture.h"

/* In the process of small_tmpfs_run(), where cmocka's assertions lead nowhere. */
#define SMALL_REQUIRE(condition)                                                                \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
			return 1;                                                               \
		}                                                                               \
	} while (0)

/* Use up the tmpfs at dir but for so many bytes. */
static inline int small_tmpfs_fill(const char *dir, uint64_t left)
{
	char path[128];
	struct statfs fs;
	struct stat st;
	uint64_t room;
	int fd, rc;

	snprintf(path, sizeof(path), "%s/filler", dir);
	fd = open(path, O_RDWR | O_CREAT, 0600);
	if (fd < 0 || fstat(fd, &st) || fstatfs(fd, &fs))
		return 0;
	room = fs.f_bfree * (uint64_t)fs.f_bsize;
	rc = room < left ? -1 : room == left ? 0 : fallocate(fd, 0, st.st_size, (off_t)(room - left));
	close(fd);
	return !rc;
}

static inline int small_tmpfs_child(const char *dir, unsigned mib, uint64_t pool_bytes,
				    int (*body)(struct cxlshm_client *c, const char *dir))
{
	struct cxlshm_pool_options options = {
		.size_bytes = pool_bytes, .client_slots = 4, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct cxlshm_client *c;
	struct cxlshm_pool *pool;
	char size[32];

	snprintf(size, sizeof(size), "size=%um", mib);
	SMALL_REQUIRE(!unshare(CLONE_NEWNS) && !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	SMALL_REQUIRE(!mount("small", dir, "tmpfs", 0, size));
	SMALL_REQUIRE(!cxlshm_pool_create(dir, &options, NULL) && !cxlshm_pool_open(dir, 0, &pool, NULL));
	SMALL_REQUIRE(!cxlshm_join(pool, "small", 0, &c));
	return body(c, dir);
}

static inline void small_tmpfs_run(unsigned mib, uint64_t pool_bytes,
				   int (*body)(struct cxlshm_client *c, const char *dir))
{
	char dir[] = "/dev/shm/cxlshm-small-XXXXXX";
	int status;
	pid_t pid;

	if (geteuid())
		skip();
	assert_non_null(mkdtemp(dir));
	fflush(NULL);
	pid = fork();
	if (!pid) {
		alarm(60);
		_exit(small_tmpfs_child(dir, mib, pool_bytes, body));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(rmdir(dir), 0);
	assert_int_equal(status, 0);
}

#endif
