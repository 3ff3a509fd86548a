/* SPDX-License-Identifier: MIT */
/*
 * Clients: slots, fork, exec, threads, several pools.
 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "fixture.h"

static int count_clients(void *arg, const struct cxlshm_client_info *info)
{
	(void)info;
	++*(int *)arg;
	return 0;
}

static int clients(struct fixture *f)
{
	int n = 0;

	assert_int_equal(cxlshm_each_client(f->pool, count_clients, &n), 0);
	return n;
}

/* Run body in a child; its exit code. */
static int in_child(void (*body)(struct fixture *f), struct fixture *f)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		body(f);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void a_full_slot_table_is_eusers(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_client *c[4], *again;

	(void)state;
	for (int i = 0; i < 3; i++)
		assert_int_equal(cxlshm_join(f->pool, NULL, 0, &c[i]), 0);
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &again), -EUSERS);
	assert_int_equal(clients(f), 4);
	assert_int_equal(cxlshm_leave(c[1]), 0);
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &again), 0);
	assert_int_equal(cxlshm_leave(again), 0);
	assert_int_equal(cxlshm_leave(c[0]), 0);
	assert_int_equal(cxlshm_leave(c[2]), 0);
	assert_int_equal(clients(f), 1);
	fixture_free(f);
}

static void die_holding_slots(struct fixture *f)
{
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;

	if (cxlshm_pool_open(f->dir, 0, &pool, NULL))
		_exit(1);
	while (!cxlshm_join(pool, NULL, 0, &c))
		;
	kill(getpid(), SIGKILL);
}

static void slots_of_the_dead_are_taken_again(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_client *c;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(in_child(die_holding_slots, f), 128 + SIGKILL);
		assert_int_equal(cxlshm_join(f->pool, NULL, 0, &c), 0);
		assert_int_equal(clients(f), 2);
		assert_int_equal(cxlshm_leave(c), 0);
	}
	fixture_free(f);
}

static void use_inherited(struct fixture *f)
{
	struct cxlshm_client *c;
	struct cxlshm_pool *pool;
	cxlshm_ref ref;

	if (cxlshm_alloc(f->client, 10, &ref) != -EOWNERDEAD || cxlshm_release(f->client, 1) != -EOWNERDEAD ||
	    cxlshm_join(f->pool, NULL, 0, &c) != -EOWNERDEAD || cxlshm_recover(f->pool, NULL) != -EOWNERDEAD)
		_exit(1);
	/* Its own it may have. */
	if (cxlshm_pool_open(f->dir, 0, &pool, NULL) || cxlshm_join(pool, NULL, 0, &c) ||
	    cxlshm_alloc(c, 10, &ref) || cxlshm_leave(c))
		_exit(2);
	cxlshm_pool_close(pool);
	cxlshm_leave(f->client);
	cxlshm_pool_close(f->pool);
}

static void a_child_cannot_use_inherited_handles(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	cxlshm_ref ref;

	(void)state;
	assert_int_equal(cxlshm_alloc(f->client, 10, &ref), 0);
	assert_int_equal(in_child(use_inherited, f), 0);
	assert_int_equal(cxlshm_release(f->client, ref), 0);
	fixture_free(f);
}

/* A parent dies while a child that it forked lives on: the parent's client is dead all the same. */
static void a_childs_copies_do_not_keep_the_parent_alive(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_recovery recovery;
	int ready[2], stop[2], status;
	char byte;
	pid_t parent;

	(void)state;
	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(stop), 0);
	parent = fork();
	if (!parent) {
		struct cxlshm_pool *pool;
		struct cxlshm_client *c;
		cxlshm_ref ref;

		if (cxlshm_pool_open(f->dir, 0, &pool, NULL) || cxlshm_join(pool, NULL, 0, &c) ||
		    cxlshm_alloc(c, 100, &ref))
			_exit(1);
		if (!fork()) {
			close(stop[1]);
			(void)!write(ready[1], "r", 1);
			(void)!read(stop[0], &byte, 1);	/* until the test is over */
			_exit(0);
		}
		pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	kill(parent, SIGKILL);
	assert_int_equal(waitpid(parent, &status, 0), parent);
	assert_int_equal(cxlshm_recover(f->pool, &recovery), 0);
	assert_int_equal(recovery.clients, 1);
	assert_int_equal(recovery.references, 1);
	close(stop[1]);
	close(stop[0]);
	close(ready[0]);
	close(ready[1]);
	fixture_free(f);
}

static void exec_and_tell(struct fixture *f)
{
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;

	if (cxlshm_pool_open(f->dir, 0, &pool, NULL) || cxlshm_join(pool, NULL, 0, &c))
		_exit(1);
	execl("/bin/true", "true", NULL);
	_exit(2);
}

static void exec_is_the_end_of_a_client(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_recovery recovery;

	(void)state;
	assert_int_equal(in_child(exec_and_tell, f), 0);
	assert_int_equal(cxlshm_recover(f->pool, &recovery), 0);
	assert_int_equal(recovery.clients, 1);
	fixture_free(f);
}

/* closefrom(3), as far as the lock goes; the number stays in use, for pool_close() closes it. */
static void close_behind_its_back(struct cxlshm_pool *pool)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(null >= 0);
	assert_true(dup2(null, ((struct pool *)pool)->heap_fd) >= 0);
	close(null);
}

static void a_client_without_descriptors_is_told_of_its_death(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_recovery recovery;
	struct cxlshm_client *c, *next;
	struct cxlshm_pool *pool;
	cxlshm_ref file, queue, ref;
	uint64_t token, position = 0;
	struct cxlshm_dirent entry;
	void *address;

	(void)state;
	for (int again = 0; again < 2; again++) {
		assert_int_equal(cxlshm_pool_open(f->dir, 0, &pool, NULL), 0);
		assert_int_equal(cxlshm_join(pool, "closes", 0, &c), 0);
		assert_int_equal(cxlshm_alloc_with(c, 4096, 0, CXLSHM_EXTENT, &file), 0);
		assert_int_equal(cxlshm_map(c, file, 0, 4096, PROT_READ, &address), 0);
		assert_int_equal(cxlshm_queue_create(c, 4, 0, &queue), 0);
		close_behind_its_back(pool);
		assert_int_equal(cxlshm_recover(f->pool, &recovery), 0);
		assert_int_equal(recovery.clients, 1);
		/* Its slot is free, or another's. */
		if (again) {
			assert_int_equal(cxlshm_join(f->pool, "next", 0, &next), 0);
			assert_int_equal(cxlshm_client_id(next), cxlshm_client_id(c));
			assert_int_equal(cxlshm_alloc(next, 100, &ref), 0);
		}
		assert_int_equal(cxlshm_alloc(c, 300000, &ref), -ESTALE);
		assert_int_equal(cxlshm_alloc_with(c, 100, 0, CXLSHM_ZERO, &ref), -ESTALE);
		assert_int_equal(cxlshm_lookup(c, 0, "n", 0, &ref), -ESTALE);
		assert_int_equal(cxlshm_mkdir(c, 0, "n", 0700, NULL), -ESTALE);
		assert_int_equal(cxlshm_readdir(c, 0, &position, &entry, NULL), -ESTALE);
		assert_int_equal(cxlshm_resize(c, file, 10), -ESTALE);
		assert_int_equal(cxlshm_export(c, file, &token), -ESTALE);
		assert_int_equal(cxlshm_import(c, 1, &ref), -ESTALE);
		assert_int_equal(cxlshm_queue_create(c, 4, 0, &queue), -ESTALE);
		if (!again)	/* its rows are empty, or the next one's */
			assert_int_equal(cxlshm_attach(c, file, &ref), -ESTALE);
		assert_int_equal(cxlshm_unmap(c, address), 0);
		assert_int_equal(cxlshm_leave(c), 0);
		if (again)
			assert_int_equal(cxlshm_leave(next), 0);
		cxlshm_pool_close(pool);
		fixture_check(f);
	}
	fixture_free(f);
}

static void *join_and_exit(void *arg)
{
	struct fixture *f = arg;
	struct cxlshm_client *c[3];
	cxlshm_ref ref;

	for (int i = 0; i < 3; i++)
		if (cxlshm_join(f->pool, "thread", CXLSHM_JOIN_THREAD, &c[i]) || cxlshm_alloc(c[i], 100, &ref))
			return (void *)1;
	/* One of them before. */
	return cxlshm_leave(c[1]) ? (void *)1 : NULL;
}

static void a_thread_that_exits_leaves(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 8);
	pthread_t thread;
	void *result;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, join_and_exit, f), 0);
	assert_int_equal(pthread_join(thread, &result), 0);
	assert_null(result);
	assert_int_equal(clients(f), 1);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

static void closing_a_pool_leaves_with_all(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 8);
	struct cxlshm_pool *second;
	struct cxlshm_client *c;
	cxlshm_ref ref;

	(void)state;
	assert_int_equal(cxlshm_pool_open(f->dir, 0, &second, NULL), 0);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(cxlshm_join(second, NULL, 0, &c), 0);
		assert_int_equal(cxlshm_alloc(c, 100, &ref), 0);
	}
	assert_int_equal(clients(f), 4);
	cxlshm_pool_close(second);
	assert_int_equal(clients(f), 1);
	assert_int_equal(fixture_objects(f), 1);
	fixture_free(f);
}

static void pools_do_not_know_each_other(void **state)
{
	struct fixture *a = fixture_new(4 << 20, 4), *b = fixture_new(8 << 20, 4);
	cxlshm_ref in_a, in_b;

	(void)state;
	assert_int_equal(cxlshm_alloc(a->client, 100, &in_a), 0);
	assert_int_equal(cxlshm_alloc(b->client, 100, &in_b), 0);
	strcpy(cxlshm_ptr(a->client, in_a), "a");
	strcpy(cxlshm_ptr(b->client, in_b), "b");
	assert_string_equal(cxlshm_ptr(a->client, in_a), "a");
	assert_int_equal(cxlshm_release(a->client, in_a), 0);
	assert_string_equal(cxlshm_ptr(b->client, in_b), "b");
	assert_int_equal(cxlshm_release(b->client, in_b), 0);
	fixture_free(a);
	fixture_free(b);
}

static void monitors_hear_of_joins(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_client *c;
	uint32_t sequence = 0;

	(void)state;
	assert_int_equal(cxlshm_wait_clients(f->pool, &sequence, -1), 0);
	assert_int_equal(cxlshm_wait_clients(f->pool, &sequence, 1000000), -ETIMEDOUT);
	assert_int_equal(cxlshm_join(f->pool, NULL, 0, &c), 0);
	assert_int_equal(cxlshm_wait_clients(f->pool, &sequence, -1), 0);
	assert_int_equal(cxlshm_leave(c), 0);
	assert_int_equal(cxlshm_wait_clients(f->pool, &sequence, -1), 0);
	fixture_free(f);
}

static void a_read_only_pool_takes_no_clients(void **state)
{
	struct fixture *f = fixture_new(4 << 20, 4);
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;

	(void)state;
	assert_int_equal(cxlshm_pool_open(f->dir, CXLSHM_READONLY, &pool, NULL), 0);
	assert_int_equal(cxlshm_join(pool, NULL, 0, &c), -EROFS);
	assert_int_equal(cxlshm_recover(pool, NULL), -EROFS);
	cxlshm_pool_close(pool);
	fixture_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_full_slot_table_is_eusers),
		cmocka_unit_test(slots_of_the_dead_are_taken_again),
		cmocka_unit_test(a_child_cannot_use_inherited_handles),
		cmocka_unit_test(a_childs_copies_do_not_keep_the_parent_alive),
		cmocka_unit_test(exec_is_the_end_of_a_client),
		cmocka_unit_test(a_client_without_descriptors_is_told_of_its_death),
		cmocka_unit_test(a_thread_that_exits_leaves),
		cmocka_unit_test(closing_a_pool_leaves_with_all),
		cmocka_unit_test(pools_do_not_know_each_other),
		cmocka_unit_test(monitors_hear_of_joins),
		cmocka_unit_test(a_read_only_pool_takes_no_clients),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
