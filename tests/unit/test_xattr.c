/* SPDX-License-Identifier: MIT */
/*
 * Extended attributes: kept, listed, limited as the system calls have it, and whole under several clients.
 */
#include "names_pool.h"

#include <pthread.h>
#include <sys/xattr.h>

#define ok(call) assert_int_equal(call, 0)
#define fails(call, error) assert_int_equal(call, -(error))

static cxlshm_ref make(struct names_pool *p, const char *name)
{
	cxlshm_ref ref;

	ok(cxlshm_mknod(p->c, 0, name, S_IFIFO | 0600, &ref));
	return ref;
}

static void a_value_is_kept_as_it_was_given(void **state)
{
	struct names_pool *p = *state;
	cxlshm_ref ref = make(p, "f"), data;
	char value[64] = "before";

	fails(cxlshm_getxattr(p->c, ref, "user.a", value, sizeof(value)), ENODATA);
	ok(cxlshm_setxattr(p->c, ref, "user.a", "one\0two", 7, 0));
	assert_int_equal(cxlshm_getxattr(p->c, ref, "user.a", NULL, 0), 7);
	assert_int_equal(cxlshm_getxattr(p->c, ref, "user.a", value, sizeof(value)), 7);
	assert_memory_equal(value, "one\0two", 7);
	fails(cxlshm_getxattr(p->c, ref, "user.a", value, 6), ERANGE);
	ok(cxlshm_setxattr(p->c, ref, "user.a", NULL, 0, 0));
	assert_int_equal(cxlshm_getxattr(p->c, ref, "user.a", value, sizeof(value)), 0);
	fails(cxlshm_getxattr(p->c, ref, "user.", value, sizeof(value)), ENODATA);
	fails(cxlshm_getxattr(p->c, ref, "user.ab", value, sizeof(value)), ENODATA);
	ok(cxlshm_alloc(p->c, 8, &data));
	fails(cxlshm_setxattr(p->c, data, "user.a", "x", 1, 0), EINVAL);
	fails(cxlshm_getxattr(p->c, data, "user.a", value, 1), EINVAL);
	ok(cxlshm_release(p->c, data));
	ok(cxlshm_release(p->c, ref));
}

static void flags_say_whether_it_may_exist(void **state)
{
	struct names_pool *p = *state;
	cxlshm_ref ref = make(p, "f");

	fails(cxlshm_setxattr(p->c, ref, "user.a", "x", 1, XATTR_REPLACE), ENODATA);
	ok(cxlshm_setxattr(p->c, ref, "user.a", "x", 1, XATTR_CREATE));
	fails(cxlshm_setxattr(p->c, ref, "user.a", "y", 1, XATTR_CREATE), EEXIST);
	ok(cxlshm_setxattr(p->c, ref, "user.a", "yy", 2, XATTR_REPLACE));
	fails(cxlshm_setxattr(p->c, ref, "user.a", "y", 1, 4), EINVAL);
	assert_int_equal(cxlshm_getxattr(p->c, ref, "user.a", NULL, 0), 2);
	ok(cxlshm_removexattr(p->c, ref, "user.a"));
	fails(cxlshm_removexattr(p->c, ref, "user.a"), ENODATA);
	ok(cxlshm_release(p->c, ref));
}

static void all_are_listed(void **state)
{
	struct names_pool *p = *state;
	cxlshm_ref ref = make(p, "f");
	char name[32], list[4096];
	int64_t bytes = 0, n;

	assert_int_equal(cxlshm_listxattr(p->c, ref, list, sizeof(list)), 0);
	for (int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "user.%d", i);
		bytes += (int64_t)strlen(name) + 1;
		ok(cxlshm_setxattr(p->c, ref, name, name, strlen(name), 0));
	}
	assert_int_equal(cxlshm_listxattr(p->c, ref, NULL, 0), bytes);
	fails(cxlshm_listxattr(p->c, ref, list, (size_t)bytes - 1), ERANGE);
	assert_int_equal(cxlshm_listxattr(p->c, ref, list, (size_t)bytes), bytes);
	for (n = 0; n < bytes; n += (int64_t)strlen(list + n) + 1) {
		int64_t length = cxlshm_getxattr(p->c, ref, list + n, name, sizeof(name));

		assert_int_equal(length, strlen(list + n));
		assert_memory_equal(name, list + n, (size_t)length);
	}
	for (n = 0; n < bytes; n += (int64_t)strlen(list + n) + 1)
		ok(cxlshm_removexattr(p->c, ref, list + n));
	assert_int_equal(cxlshm_listxattr(p->c, ref, list, sizeof(list)), 0);
	ok(cxlshm_release(p->c, ref));
}

static void limits_are_those_of_the_system_calls(void **state)
{
	struct names_pool *p = *state;
	cxlshm_ref ref = make(p, "f");
	char *value = calloc(1, 65537);
	char name[257];

	memset(name, 'n', sizeof(name));
	name[256] = 0;
	fails(cxlshm_setxattr(p->c, ref, name, "x", 1, 0), ERANGE);
	fails(cxlshm_setxattr(p->c, ref, "", "x", 1, 0), ERANGE);
	name[255] = 0;
	ok(cxlshm_setxattr(p->c, ref, name, "x", 1, 0));
	assert_int_equal(cxlshm_getxattr(p->c, ref, name, value, 1), 1);
	ok(cxlshm_removexattr(p->c, ref, name));
	fails(cxlshm_setxattr(p->c, ref, "user.a", value, 65537, 0), E2BIG);
	fails(cxlshm_setxattr(p->c, ref, "user.a", value, 65536, 0), ENOSPC);
	memset(value, 'v', 65000);
	ok(cxlshm_setxattr(p->c, ref, "user.a", value, 65000, 0));
	fails(cxlshm_setxattr(p->c, ref, "user.b", value, 1000, 0), ENOSPC);
	ok(cxlshm_setxattr(p->c, ref, "user.b", value, 100, 0));
	memset(value, 0, 65000);
	assert_int_equal(cxlshm_getxattr(p->c, ref, "user.a", value, 65536), 65000);
	for (int i = 0; i < 65000; i++)
		assert_int_equal(value[i], 'v');
	free(value);
	ok(cxlshm_release(p->c, ref));
}

static void they_go_with_the_inode(void **state)
{
	struct names_pool *p = *state;
	struct cxlshm_check_result before, after;
	cxlshm_ref ref;

	ok(check_pool((struct pool *)p->pool, 0, NULL, NULL, &before));
	ref = make(p, "f");
	ok(cxlshm_setxattr(p->c, ref, "user.a", "x", 1, 0));
	ok(cxlshm_unlink(p->c, 0, "f"));
	assert_int_equal(cxlshm_getxattr(p->c, ref, "user.a", NULL, 0), 1);
	ok(cxlshm_release(p->c, ref));
	ok(check_pool((struct pool *)p->pool, 0, NULL, NULL, &after));
	assert_int_equal(before.objects, after.objects);
}

/* ---- several at once ---- */

#define ROUNDS 3000

static void *set_and_remove(void *arg)
{
	struct names_pool *p = arg;
	struct cxlshm_client *c;
	char mine[32], text[32];
	cxlshm_ref ref;

	if (cxlshm_join(p->pool, "thread", 0, &c))
		return "join";
	snprintf(mine, sizeof(mine), "user.%u", cxlshm_client_id(c));
	if (cxlshm_lookup(c, 0, "f", 0, &ref))
		return "lookup";
	for (int i = 0; i < ROUNDS; i++) {
		int64_t n = snprintf(text, sizeof(text), "%d", i);

		if (cxlshm_setxattr(c, ref, mine, text, (size_t)n, 0))
			return "set";
		memset(text, 0, sizeof(text));
		if (cxlshm_getxattr(c, ref, mine, text, sizeof(text)) != n || atoi(text) != i)
			return "another's value";
		if (i % 3 == 0 && cxlshm_removexattr(c, ref, mine))
			return "remove";
	}
	if (cxlshm_leave(c))
		return "leave";
	return NULL;
}

static void nobodys_change_is_lost(void **state)
{
	struct names_pool *p = *state;
	cxlshm_ref ref = make(p, "f");
	pthread_t thread[3];
	void *complaint;
	char list[256];

	for (int i = 0; i < 3; i++)
		ok(pthread_create(&thread[i], NULL, set_and_remove, p));
	for (int i = 0; i < 3; i++) {
		ok(pthread_join(thread[i], &complaint));
		assert_string_equal(complaint ? complaint : "", "");
	}
	assert_true(cxlshm_listxattr(p->c, ref, list, sizeof(list)) >= 7);
	ok(cxlshm_release(p->c, ref));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, names_setup, names_teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_value_is_kept_as_it_was_given),
		TEST(flags_say_whether_it_may_exist),
		TEST(all_are_listed),
		TEST(limits_are_those_of_the_system_calls),
		TEST(they_go_with_the_inode),
		TEST(nobodys_change_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
