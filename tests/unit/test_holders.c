/* SPDX-License-Identifier: MIT */
/*
 * fs/holders.c: deaths of processes that may hold mappings.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fixture.h"
#include "holders.h"

static struct holders *begin(int *wake_fd)
{
	struct holders *holders;

	*wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(*wake_fd >= 0);
	assert_int_equal(holders_new(*wake_fd, &holders), 0);
	return holders;
}

static void end(struct holders *holders, int wake_fd)
{
	holders_free(holders);
	close(wake_fd);
}

static void *tell_thread(void *arg)
{
	pid_t thread = (pid_t)syscall(SYS_gettid);

	if (write(*(int *)arg, &thread, sizeof(thread)) != sizeof(thread))
		_exit(1);
	pause();
	return NULL;
}

/* A process that waits to be killed, and its other thread. */
static pid_t child_with_thread(pid_t *thread)
{
	pthread_t other;
	int pipe_fds[2];
	pid_t child;

	assert_int_equal(pipe(pipe_fds), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		if (pthread_create(&other, NULL, tell_thread, &pipe_fds[1]))
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(pipe_fds[0], thread, sizeof(*thread)), sizeof(*thread));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	assert_int_not_equal(*thread, child);
	return child;
}

static void end_child(pid_t child)
{
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

static void a_death_is_told_once_for_each_thread(void **state)
{
	pid_t dead[4], thread, child = child_with_thread(&thread);
	int wake_fd, seen_child = 0, seen_thread = 0;
	struct holders *holders = begin(&wake_fd);

	(void)state;
	for (int i = 0; i < 2; i++) {	/* twice is once */
		holders_watch(holders, child);
		holders_watch(holders, thread);
	}
	assert_int_equal(holders_wait(holders, 0, dead, 4), 0);
	end_child(child);
	while (seen_child + seen_thread < 2) {
		unsigned count = holders_wait(holders, -1, dead, 1);

		assert_int_equal(count, 1);
		seen_child += dead[0] == child;
		seen_thread += dead[0] == thread;
	}
	assert_true(seen_child == 1 && seen_thread == 1);
	assert_int_equal(holders_wait(holders, 0, dead, 4), 0);
	end(holders, wake_fd);
}

static void who_cannot_be_watched_is_left_out(void **state)
{
	pid_t dead[4], thread, child = child_with_thread(&thread);
	int wake_fd;
	struct holders *holders = begin(&wake_fd);

	(void)state;
	end_child(child);
	holders_watch(holders, 0);
	holders_watch(holders, child);
	holders_watch(holders, thread);
	assert_int_equal(holders_wait(holders, 0, dead, 4), 0);
	end(holders, wake_fd);
}

static void the_wait_ends_when_woken(void **state)
{
	pid_t dead[4];
	int wake_fd;
	struct holders *holders = begin(&wake_fd);

	(void)state;
	assert_int_equal(eventfd_write(wake_fd, 1), 0);
	assert_int_equal(holders_wait(holders, -1, dead, 4), 0);
	assert_int_equal(holders_wait(holders, 0, dead, 4), 0);	/* and once only */
	end(holders, wake_fd);
}

static void who_is_forgotten_is_not_told(void **state)
{
	pid_t dead[4], thread, child = child_with_thread(&thread);
	int wake_fd;
	struct holders *holders = begin(&wake_fd);

	(void)state;
	holders_watch(holders, child);
	holders_forget(holders);
	end_child(child);
	assert_int_equal(holders_wait(holders, 0, dead, 4), 0);
	end(holders, wake_fd);
}

/* One watched longest makes room: descriptors are not used up. */
static void so_many_are_watched_at_most(void **state)
{
	enum { CHILDREN = 1030, MOST = 1024 };
	static pid_t children[CHILDREN], dead[CHILDREN];
	int wake_fd, told = 0;
	struct holders *holders = begin(&wake_fd);
	struct rlimit limit = {4096, 4096};

	(void)state;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < CHILDREN; i++) {
		children[i] = fork();
		assert_true(children[i] >= 0);
		if (!children[i])
			for (;;)
				pause();
		holders_watch(holders, children[i]);
	}
	for (int i = 0; i < CHILDREN; i++)
		end_child(children[i]);
	for (unsigned count; (count = holders_wait(holders, 0, dead, CHILDREN)); told += (int)count)
		for (unsigned i = 0; i < count; i++)
			for (int first = 0; first < CHILDREN - MOST; first++)
				assert_int_not_equal(dead[i], children[first]);
	assert_int_equal(told, MOST);
	end(holders, wake_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_death_is_told_once_for_each_thread),
		cmocka_unit_test(who_cannot_be_watched_is_left_out),
		cmocka_unit_test(the_wait_ends_when_woken),
		cmocka_unit_test(who_is_forgotten_is_not_told),
		cmocka_unit_test(so_many_are_watched_at_most),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
