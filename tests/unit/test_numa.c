/* SPDX-License-Identifier: MIT */
/*
 * NUMA policies: the words, and with get_mempolicy() that the heap and extents have them.
 */
#include <dlfcn.h>
#include <numaif.h>

#include "pool_fixture.h"

static int may_not_set_policies;

/* The library is linked into the test, and its mbind(2) comes here. */
long mbind(void *addr, unsigned long bytes, int mode, const unsigned long *nodes, unsigned long most, unsigned flags)
{
	long (*real)(void *, unsigned long, int, const unsigned long *, unsigned long, unsigned) =
		(long (*)(void *, unsigned long, int, const unsigned long *, unsigned long, unsigned))dlsym(RTLD_NEXT, "mbind");

	if (may_not_set_policies) {
		errno = EPERM;
		return -1;
	}
	return real(addr, bytes, mode, nodes, most, flags);
}

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

/* What a client of another handle than the maker's sees. */
struct onlooker {
	struct cxlshm_pool *pool;
	struct cxlshm_client *client;
	int mode;	/* that all memory is to have */
};

static void assert_placed(const struct onlooker *o, void *addr)
{
	unsigned long nodes[16] = {0};
	int mode = -1;

	assert_int_equal(get_mempolicy(&mode, nodes, sizeof(nodes) * 8, addr, MPOL_F_ADDR), 0);
	assert_int_equal(mode & 0xff, o->mode);
	assert_int_equal(nodes[0], o->mode == MPOL_DEFAULT ? 0 : 1);
}

/* The object with that name, from its first byte to its last. */
static void assert_object_placed(const struct onlooker *o, const char *name)
{
	cxlshm_ref ref;
	char *bytes;

	assert_int_equal(cxlshm_lookup(o->client, 0, name, 0, &ref), 0);
	bytes = cxlshm_ptr(o->client, ref);
	assert_non_null(bytes);
	assert_placed(o, bytes);
	assert_placed(o, bytes + cxlshm_size(o->client, ref) - 1);
	assert_int_equal(cxlshm_release(o->client, ref), 0);
}

/* The same of a file, mapped. */
static void assert_file_placed(const struct onlooker *o, const char *name)
{
	int64_t bytes;
	cxlshm_ref ref;
	void *map;

	assert_int_equal(cxlshm_lookup(o->client, 0, name, 0, &ref), 0);
	bytes = cxlshm_size(o->client, ref);
	assert_int_equal(cxlshm_map(o->client, ref, 0, (size_t)bytes, PROT_READ | PROT_WRITE, &map), 0);
	assert_placed(o, map);
	assert_placed(o, (char *)map + bytes - 1);
	assert_int_equal(cxlshm_unmap(o->client, map), 0);
	assert_int_equal(cxlshm_release(o->client, ref), 0);
}

static void make_object(struct cxlshm_client *c, size_t bytes, unsigned flags, const char *name)
{
	cxlshm_ref ref;

	assert_int_equal(cxlshm_alloc_with(c, bytes, 0, flags, &ref), 0);
	assert_int_equal(cxlshm_link(c, ref, 0, name, 0600), 0);
	assert_int_equal(cxlshm_release(c, ref), 0);
}

static void all_of_a_pool_is_placed(const struct onlooker *o, struct cxlshm_client *c)
{
	cxlshm_ref file;

	make_object(c, 40, 0, "small");
	make_object(c, 5 * MIB, 0, "span");	/* segments have 1 MiB */
	make_object(c, 3 * MIB, CXLSHM_EXTENT, "extent");
	assert_int_equal(cxlshm_create(c, 0, "file", MIB, 0600, &file), 0);
	assert_object_placed(o, "small");
	assert_object_placed(o, "span");
	assert_file_placed(o, "extent");
	assert_file_placed(o, "file");
	assert_int_equal(cxlshm_resize(c, file, 7 * MIB), 0);
	assert_file_placed(o, "file");
	assert_int_equal(cxlshm_resize(c, file, 0), 0);
	assert_int_equal(cxlshm_resize(c, file, 2 * MIB), 0);
	assert_file_placed(o, "file");
	assert_int_equal(cxlshm_release(c, file), 0);
}

static void take_all_away(struct cxlshm_client *c)
{
	static const char *const names[] = {"small", "span", "extent", "file"};

	for (size_t i = 0; i < 4; i++)
		assert_int_equal(cxlshm_unlink(c, 0, names[i]), 0);
	assert_int_equal(cxlshm_trim(c), 0);
}

/* Whatever is made through the interface, also where memory was given back before. */
static void policy_holds_for_all_that_is_made(void **state)
{
	static const struct {
		const char *numa;
		int mode;
	} cases[] = {
		{"bind:0", MPOL_BIND}, {"interleave:0", MPOL_INTERLEAVE}, {"preferred:0", MPOL_PREFERRED}, {NULL, MPOL_DEFAULT},
	};
	struct cxlshm_pool_options o = options(64 * MIB);

	(void)state;
	if (numa_check("bind:0", NULL) != 0 || strncmp(dir, "/dev/shm", 8) != 0)
		skip();
	o.force = 1;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct onlooker onlooker = {.mode = cases[i].mode};
		struct cxlshm_pool *pool;
		struct cxlshm_client *c;

		o.numa = cases[i].numa;
		assert_int_equal(cxlshm_pool_create(dir, &o, &err), 0);
		assert_int_equal(cxlshm_pool_open(dir, 0, &pool, &err), 0);
		assert_int_equal(cxlshm_join(pool, "maker", 0, &c), 0);
		assert_int_equal(cxlshm_pool_open(dir, 0, &onlooker.pool, &err), 0);
		assert_int_equal(cxlshm_join(onlooker.pool, "onlooker", 0, &onlooker.client), 0);
		for (int round = 0; round < 2; round++) {
			all_of_a_pool_is_placed(&onlooker, c);
			take_all_away(c);
		}
		cxlshm_pool_close(onlooker.pool);
		cxlshm_pool_close(pool);
	}
}

/* As in a container whose system calls are filtered: the memory is in the wrong place, and good for all the rest. */
static void a_file_without_its_policy_is_better_than_none(void **state)
{
	struct cxlshm_pool_options o = options(8 * MIB);
	struct onlooker onlooker = {.mode = MPOL_DEFAULT};
	struct cxlshm_client *c;
	cxlshm_ref ref;

	(void)state;
	if (numa_check("bind:0", NULL) != 0 || strncmp(dir, "/dev/shm", 8) != 0)
		skip();
	o.numa = "bind:0";
	may_not_set_policies = 1;
	assert_int_equal(cxlshm_pool_create(dir, &o, &err), -EPERM);
	may_not_set_policies = 0;
	assert_int_equal(cxlshm_pool_create(dir, &o, &err), 0);
	assert_int_equal(cxlshm_pool_open(dir, 0, &onlooker.pool, &err), 0);
	assert_int_equal(cxlshm_join(onlooker.pool, "onlooker", 0, &onlooker.client), 0);
	c = onlooker.client;
	may_not_set_policies = 1;
	assert_int_equal(cxlshm_create(c, 0, "file", MIB, 0600, NULL), 0);
	assert_file_placed(&onlooker, "file");
	assert_int_equal(cxlshm_alloc(c, 40, &ref), 0);
	may_not_set_policies = 0;
	onlooker.mode = MPOL_BIND;	/* the heap has had it since it was made */
	assert_placed(&onlooker, cxlshm_ptr(c, ref));
	cxlshm_pool_close(onlooker.pool);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(numa_policies_are_checked),
		T(policy_holds_for_heap_and_extents),
		T(policy_holds_for_all_that_is_made),
		T(a_file_without_its_policy_is_better_than_none),
	};

	return cmocka_run_group_tests_name("numa", tests, NULL, NULL);
}
