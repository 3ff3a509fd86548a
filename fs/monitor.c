/* SPDX-License-Identifier: MIT */
/*
 * monitor.c: noticing clients that died and mappings that went.
 *
 * Owns three threads.  The watcher sleeps in cxlshm_wait_clients() and tells the worker when a client
 * joined or left.  The worker sleeps in epoll on a pidfd for each process that has a client, and on the
 * watcher's eventfd.  A pidfd that becomes readable is a death, and cxlshm_recover() follows at once; the
 * process has closed its files by then, so that its slots' locks are free.  If nothing was found all the
 * same, the worker looks again a few times.  The idler sleeps on the file system's eventfd until an inode is
 * due (idle.c) or a process dies that may have mapped one (holders.c); what it frees may take long, and clients' deaths
 * do not wait for that.
 *
 * A client may be out of the reach of pidfds: in another pid namespace its number is that of nobody here, or of a process
 * that has nothing to do with it, whose death costs no more than a look.  Nothing in a slot tells which, so the worker also
 * recovers every second, which goes by the slots' locks.  Nothing depends on this monitor: clients recover dead ones
 * whenever they join or run short.
 *
 * Threads: the three block all signals.  Worker: the list of pids.  Shared: stop, and fs as documented there.
 */
#include "monitor.h"

#include <errno.h>
#include <fuse_log.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "holders.h"
#include "idle.h"

#define MS 1000000ull
#define ROUND_MS 1000	/* between looks at everything */
#define RETRIES 8	/* after a death: looks at 1, 2, 4 ... ms until something is found */
#define EVENTS 16
#define DEAD 16	/* processes whose deaths the idler takes in at a time */

struct process {
	struct process *next;
	int64_t pid;
	int fd;
	bool seen;
};

struct monitor {
	struct fs *fs;
	struct prune *prune;	/* told of deaths */
	pthread_t watcher, worker, idler;
	struct holders *holders;	/* W, R: idler */
	int epoll_fd;
	int clients_fd;	/* eventfd: a client joined or left, or stop */
	_Atomic bool stop;
	struct process *processes;	/* W, R: worker */
	bool died;	/* somebody was found dead; W, R: worker */
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 * MS + (uint64_t)now.tv_nsec;
}

static void *watch(void *arg)
{
	struct monitor *monitor = arg;
	uint32_t sequence = 0;

	while (!atomic_load(&monitor->stop)) {
		int rc = cxlshm_wait_clients(monitor->fs->pool, &sequence, (int64_t)(ROUND_MS * MS));

		if (!rc) {
			eventfd_write(monitor->clients_fd, 1);
		} else if (rc != -ETIMEDOUT && rc != -EINTR) {
			struct timespec pause = {.tv_nsec = (long)(100 * MS)};

			nanosleep(&pause, NULL);	/* the worker's rounds go on */
		}
	}
	return NULL;
}

/* Recover whoever is dead.  Returns how many there were. */
static uint32_t recover(struct monitor *monitor)
{
	struct fs *fs = monitor->fs;
	struct cxlshm_recovery recovery = {0};
	int rc = cxlshm_recover(fs->pool, &recovery);

	if (rc) {
		fuse_log(FUSE_LOG_ERR, "cxlshmfs: %s: recovering dead clients failed: error %d\n",
			 fs->options->pool, -rc);
		return 0;
	}
	if (!recovery.clients)
		return 0;
	prune_kick(monitor->prune);	/* the dead may have held what had lost its names */
	atomic_fetch_add(&fs->deaths, recovery.clients);
	atomic_fetch_add(&fs->deaths_references, recovery.references);
	atomic_fetch_add(&fs->deaths_ns, recovery.duration_ns);
	fuse_log(FUSE_LOG_INFO,
		 "cxlshmfs: %s: recovered %" PRIu32 " dead client(s): %" PRIu64 " references, %" PRIu64
		 " objects, in %" PRIu64 " us\n",
		 fs->options->pool, recovery.clients, recovery.references, recovery.objects,
		 recovery.duration_ns / 1000);
	return recovery.clients;
}

/* Somebody died: recover now, and a little later in case the lock was not free yet. */
static void recover_soon(struct monitor *monitor)
{
	struct timespec pause = {.tv_nsec = (long)MS};

	for (int i = 0; i < RETRIES && !recover(monitor) && !atomic_load(&monitor->stop); i++) {
		nanosleep(&pause, NULL);
		pause.tv_nsec = pause.tv_nsec < (long)(20 * MS) ? 2 * pause.tv_nsec : pause.tv_nsec;
	}
}

static int see_client(void *arg, const struct cxlshm_client_info *info)
{
	struct monitor *monitor = arg;
	struct process *process;
	/* Once: if the client lives on, it is another process that had its number here, and stays dead. */
	struct epoll_event event = {.events = EPOLLIN | EPOLLONESHOT};

	if (info->pid <= 0 || info->pid == getpid())
		return 0;
	for (process = monitor->processes; process; process = process->next) {
		if (process->pid == info->pid) {
			process->seen = true;
			return 0;
		}
	}
	process = calloc(1, sizeof(*process));
	if (!process)
		return 0;
	process->pid = info->pid;
	process->seen = true;
	process->fd = (int)syscall(SYS_pidfd_open, (pid_t)info->pid, 0);
	event.data.ptr = process;
	if (process->fd < 0 || epoll_ctl(monitor->epoll_fd, EPOLL_CTL_ADD, process->fd, &event)) {
		if (process->fd >= 0)
			close(process->fd);
		else if (!info->alive)
			monitor->died = true;	/* since it joined */
		free(process);	/* else not ours to see: the rounds find it */
		return 0;
	}
	process->next = monitor->processes;
	monitor->processes = process;
	return 0;
}

/* Bring the list of processes up to date; with keep false forget them all. */
static void see_clients(struct monitor *monitor, bool keep)
{
	struct process **link = &monitor->processes, *process;

	for (process = *link; process; process = process->next)
		process->seen = false;
	if (keep)
		cxlshm_each_client(monitor->fs->pool, see_client, monitor);
	while ((process = *link)) {
		if (process->seen) {
			link = &process->next;
			continue;
		}
		*link = process->next;
		close(process->fd);
		free(process);
	}
}

static int timeout_ms(uint64_t due_ns, uint64_t now)
{
	if (due_ns <= now)
		return 0;
	return (due_ns - now) / MS >= ROUND_MS ? ROUND_MS : (int)((due_ns - now) / MS) + 1;
}

static void *work(void *arg)
{
	struct monitor *monitor = arg;
	struct epoll_event events[EVENTS];
	uint64_t round_due = 0, now;
	int count = 0;

	while (!atomic_load(&monitor->stop)) {
		bool changed = false;
		eventfd_t value;

		for (int i = 0; i < count; i++) {
			if (events[i].data.ptr == &monitor->clients_fd) {
				eventfd_read(monitor->clients_fd, &value);
				changed = true;
			} else {
				monitor->died = true;
			}
		}
		if (monitor->died) {
			monitor->died = false;
			recover_soon(monitor);
			changed = true;
		}
		now = now_ns();
		if (now >= round_due) {
			recover(monitor);
			lane_trim(&monitor->fs->lanes);
			changed = true;
			round_due = now + ROUND_MS * MS;
		}
		if (changed)
			see_clients(monitor, true);
		count = epoll_wait(monitor->epoll_fd, events, EVENTS,
				   monitor->died ? 0 : timeout_ms(round_due, now_ns()));
	}
	see_clients(monitor, false);
	return NULL;
}

static void *idle(void *arg)
{
	struct monitor *monitor = arg;
	struct fs *fs = monitor->fs;
	pid_t dead[DEAD];
	unsigned count = 0;

	while (!atomic_load(&monitor->stop)) {
		uint64_t due = idle_work(fs, monitor->holders, dead, count);

		/* idle.c stores an earlier time and wakes us, if it comes after this look */
		if (due < UINT64_MAX)
			atomic_store(&fs->wake_due_ns, due);
		count = holders_wait(monitor->holders, timeout_ms(due, now_ns()), dead, DEAD);
	}
	return NULL;
}

static int add_event(int epoll_fd, int fd, void *key)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = key};

	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static void worker_end(struct monitor *monitor)
{
	atomic_store(&monitor->stop, true);
	eventfd_write(monitor->clients_fd, 1);
	pthread_join(monitor->worker, NULL);
}

void monitor_end(struct monitor *monitor)
{
	worker_end(monitor);
	eventfd_write(monitor->fs->wake_fd, 1);
	pthread_join(monitor->idler, NULL);
}

int monitor_start(struct fs *fs, struct prune *prune, struct monitor **out)
{
	struct monitor *monitor = calloc(1, sizeof(*monitor));
	sigset_t all, before;
	int rc;

	if (!monitor)
		return -ENOMEM;
	monitor->fs = fs;
	monitor->prune = prune;
	monitor->clients_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	monitor->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	rc = monitor->clients_fd < 0 || monitor->epoll_fd < 0 ? -errno : 0;
	if (!rc)
		rc = add_event(monitor->epoll_fd, monitor->clients_fd, &monitor->clients_fd);
	if (!rc)
		rc = holders_new(fs->wake_fd, &monitor->holders);
	if (rc)
		goto close;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = -pthread_create(&monitor->worker, NULL, work, monitor);
	if (!rc) {
		rc = -pthread_create(&monitor->idler, NULL, idle, monitor);
		if (rc)
			worker_end(monitor);
	}
	if (!rc) {
		rc = -pthread_create(&monitor->watcher, NULL, watch, monitor);
		if (rc)
			monitor_end(monitor);
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc)
		goto close;
	*out = monitor;
	return 0;
close:
	if (monitor->holders)
		holders_free(monitor->holders);
	if (monitor->clients_fd >= 0)
		close(monitor->clients_fd);
	if (monitor->epoll_fd >= 0)
		close(monitor->epoll_fd);
	free(monitor);
	return rc;
}

void monitor_stop(struct monitor *monitor)
{
	pthread_join(monitor->watcher, NULL);
	holders_free(monitor->holders);
	close(monitor->clients_fd);
	close(monitor->epoll_fd);
	free(monitor);
}
