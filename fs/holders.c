/* SPDX-License-Identifier: MIT */
/*
 * holders.c: processes that may hold mappings, and their deaths.
 *
 * Owns a pidfd for each, in an epoll, and the list of them.  Nothing depends on it: idle.c looks at every mapped inode from
 * time to time, whoever holds it.  So whom we cannot watch (a thread in another pid namespace is 0 here; one has ended; no
 * descriptor is left) is only noticed later, and a number that has gone to another process costs no more than a look when that one dies.
 */
#include "holders.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WATCHED_MAX 1024	/* the one watched longest makes room for another */
#define EVENTS 16

struct holder {
	struct holder *next;
	pid_t thread;
	int fd;
};

struct holders {
	int epoll_fd, wake_fd;
	struct holder *list;	/* the latest first */
	unsigned count;
};

int holders_new(int wake_fd, struct holders **out)
{
	struct holders *holders = calloc(1, sizeof(*holders));
	struct epoll_event event = {.events = EPOLLIN};
	int rc;

	if (!holders)
		return -ENOMEM;
	holders->wake_fd = wake_fd;
	holders->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (holders->epoll_fd < 0 || epoll_ctl(holders->epoll_fd, EPOLL_CTL_ADD, wake_fd, &event)) {
		rc = -errno;
		if (holders->epoll_fd >= 0)
			close(holders->epoll_fd);
		free(holders);
		return rc;
	}
	*out = holders;
	return 0;
}

static void end(struct holders *holders, struct holder **link)
{
	struct holder *holder = *link;

	*link = holder->next;
	/* Not by close() alone: a child that has yet to call exec holds it, too. */
	epoll_ctl(holders->epoll_fd, EPOLL_CTL_DEL, holder->fd, NULL);
	close(holder->fd);
	free(holder);
	holders->count--;
}

void holders_forget(struct holders *holders)
{
	while (holders->list)
		end(holders, &holders->list);
}

void holders_free(struct holders *holders)
{
	holders_forget(holders);
	close(holders->epoll_fd);
	free(holders);
}

/* A pidfd of the process that the thread is of, or -1. */
static int open_process(pid_t thread)
{
	int fd = (int)syscall(SYS_pidfd_open, thread, 0), process = 0;
	char line[256];
	FILE *status;

	if (fd >= 0 || (errno != EINVAL && errno != ENOENT))
		return fd;
	/* It is not the first thread of its process. */
	snprintf(line, sizeof(line), "/proc/%d/status", (int)thread);
	status = fopen(line, "re");
	if (!status)
		return -1;
	while (!process && fgets(line, sizeof(line), status))
		if (sscanf(line, "Tgid: %d", &process) != 1)
			process = 0;
	fclose(status);
	return process > 0 ? (int)syscall(SYS_pidfd_open, process, 0) : -1;
}

void holders_watch(struct holders *holders, pid_t thread)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct holder *holder, **last = &holders->list;

	if (thread <= 0)
		return;
	for (holder = holders->list; holder; holder = holder->next)
		if (holder->thread == thread)
			return;
	holder = calloc(1, sizeof(*holder));
	if (!holder)
		return;
	holder->thread = thread;
	holder->fd = open_process(thread);
	event.data.ptr = holder;
	if (holder->fd < 0 || epoll_ctl(holders->epoll_fd, EPOLL_CTL_ADD, holder->fd, &event)) {
		if (holder->fd >= 0)
			close(holder->fd);
		free(holder);
		return;
	}
	if (holders->count == WATCHED_MAX) {
		while ((*last)->next)
			last = &(*last)->next;
		end(holders, last);
	}
	holder->next = holders->list;
	holders->list = holder;
	holders->count++;
}

unsigned holders_wait(struct holders *holders, int timeout_ms, pid_t *dead, unsigned most)
{
	struct epoll_event events[EVENTS];
	int n = epoll_wait(holders->epoll_fd, events, most < EVENTS ? (int)most : EVENTS, timeout_ms);
	unsigned count = 0;

	for (int i = 0; i < n; i++) {
		struct holder *holder = events[i].data.ptr, **link = &holders->list;
		eventfd_t value;

		if (!holder) {
			eventfd_read(holders->wake_fd, &value);
			continue;
		}
		dead[count++] = holder->thread;
		while (*link != holder)
			link = &(*link)->next;
		end(holders, link);
	}
	return count;
}
