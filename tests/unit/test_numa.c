/* SPDX-License-Identifier: MIT */
/*
 * NUMA policies: the words, and with get_mempolicy() that the heap and extents have them.
 */
#include <numaif.h>

#include "pool_fixture.h"

static void numa_policies_are_checked(void **state)
{
	static const char *const bad[] = {
		"bind", "bind:", "bind:x", "bind:0,", "bind:-1", "bind:0-", "bind:1-0", "bind:4000", "bind:99999999999",
		"interleave:", "preferred:", "local", "Bind:0", " bind:0", "bind:0 ", "bind:all", "bind:!0",
		"a policy that is much longer than the sixty-three bytes that the superblock has",
	};
	struct cxlshm_pool_options o = options(8 * MIB);
	char option[64];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		o.numa = bad[i];
		err.text[0] = 0;
		assert_int_equal(make_with(&o), -EINVAL);
		assert_non_null(strstr(err.text, "NUMA policy"));
		assert_int_equal(numa_mount_option(bad[i], option, sizeof(option)), -EINVAL);
	}
	assert_int_equal(numa_mount_option("", option, sizeof(option)), 0);
	assert_string_equal(option, "");
	if (numa_check("bind:0", NULL) == 0) {
		assert_int_equal(numa_mount_option("bind:0", option, sizeof(option)), 0);
		assert_string_equal(option, "mpol=bind=static:0");
		assert_int_equal(numa_mount_option("preferred:0", option, sizeof(option)), 0);
		assert_string_equal(option, "mpol=prefer=static:0");
		assert_int_equal(numa_mount_option("bind:0", option, 5), -ENAMETOOLONG);
		o.numa = "interleave:0-0,0";
		assert_int_equal(make_with(&o), 0);
		assert_int_equal(open_pool(0), 0);
	} else {
		print_message("SKIPPED: policies that name node 0, which is not there\n");
	}
}

/* Where the kernel puts what is touched at addr. */
static void assert_bound_to_node_0(void *addr)
{
	unsigned long nodes[16] = { 0 };
	int mode = -1;

	assert_int_equal(get_mempolicy(&mode, nodes, sizeof(nodes) * 8, addr, MPOL_F_ADDR), 0);
	assert_int_equal(mode & 0xff, MPOL_BIND);	/* without MPOL_F_* flags */
	assert_int_equal(nodes[0], 1);
	for (size_t i = 1; i < 16; i++)
		assert_int_equal(nodes[i], 0);
}

/* The policy goes with the file, not with the mapping: another process's mapping shows it. */
static void policy_holds_for_heap_and_extents(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	struct pool *pool;
	void *extent;
	int fd;

	(void)state;
	if (numa_check("bind:0", NULL) != 0 || strncmp(dir, "/dev/shm", 8) != 0)
		skip();
	o.numa = "bind:0";
	assert_int_equal(make_with(&o), 0);
	assert_int_equal(pool_open(dir, 0, &pool, &err), 0);
	assert_bound_to_node_0(pool->base);
	assert_bound_to_node_0(pool->base + pool->heap_bytes - 4096);
	fd = openat(pool->extents_fd, "0000000000000001", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(numa_apply_fd(pool, fd), 0);
	/* It grows later. */
	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	extent = mmap(NULL, 4 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(extent != MAP_FAILED);
	assert_bound_to_node_0(extent);
	assert_bound_to_node_0((char *)extent + 4 * MIB - 4096);
	munmap(extent, 4 * MIB);
	close(fd);
	pool_unmap(pool);
	/* Without a policy nothing is asked of the kernel. */
	o.numa = NULL;
	o.force = 1;
	assert_int_equal(make_with(&o), 0);
	assert_int_equal(pool_open(dir, 0, &pool, &err), 0);
	assert_int_equal(numa_apply(pool, pool->base, pool->heap_bytes), 0);
	assert_int_equal(numa_apply_fd(pool, -1), 0);
	pool_unmap(pool);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(numa_policies_are_checked),
		T(policy_holds_for_heap_and_extents),
	};

	return cmocka_run_group_tests_name("numa", tests, NULL, NULL);
}
