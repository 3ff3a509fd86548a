/* SPDX-License-Identifier: MIT */
/*
 * main.c: cxlshmfs, the daemon that shows a pool as files.
 *
 * Owns the order of things: options; fork (nothing of the library survives one); what start.c puts together;
 * the mount; the monitor; the session loop; and all of it backwards.
 *
 * Starting: the process that was started waits on a pipe for one byte, the exit status.  The daemon keeps
 * stderr until then, so that every failure is told there.  Its starter thread calls statvfs(2) on
 * the mount point, which comes back when the daemon answered; only then the byte is sent, READY=1 goes to
 * systemd, and messages go to syslog.  A pipe closed without a byte is a daemon that died.
 * Threads: main (the loop), libfuse's workers, the starter, the monitor's three.  Only main takes signals.
 */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <fuse_log.h>
#include <limits.h>
#include <linux/magic.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "inode.h"
#include "monitor.h"
#include "options.h"
#include "prune.h"
#include "start.h"

/* What the starter thread needs. */
struct starter {
	struct fs *fs;
	pthread_t thread, main;
	int pipe_fd;	/* -1 in the foreground */
	int ended_fd;	/* an eventfd: the thread is at its end.  -1: there is no descriptor left for it */
	int failed;	/* W: starter thread; R: main, after joining it */
};

static void log_to_syslog(enum fuse_log_level level, const char *format, va_list arguments)
{
	vsyslog((int)level, format, arguments);	/* the levels are syslog's */
}

/* Tell systemd, if it listens: the protocol of sd_notify(3). */
static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = path ? strlen(path) : 0;
	int fd;

	if (!length || length >= sizeof(address.sun_path) || (*path != '/' && *path != '@'))
		return;
	memcpy(address.sun_path, path, length);
	if (*path == '@')
		address.sun_path[0] = 0;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
	       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
	close(fd);
}

/* Leave the terminal: the parent's wait is over. */
static void detach(int pipe_fd)
{
	unsigned char status = 0;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	ssize_t written;

	openlog("cxlshmfs", LOG_PID, LOG_DAEMON);
	fuse_set_log_func(log_to_syslog);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
	if (chdir("/"))
		fuse_log(FUSE_LOG_WARNING, "cxlshmfs: chdir /: %s\n", strerror(errno));
	written = write(pipe_fd, &status, 1);
	if (written != 1)
		fuse_log(FUSE_LOG_WARNING, "cxlshmfs: nobody waits for the start\n");
	close(pipe_fd);
}

static void answer_and_tell(struct starter *starter)
{
	struct fs *fs = starter->fs;
	struct statfs st;
	char state[128];
	int rc = statfs(fs->options->mountpoint, &st) ? errno : 0;

	/* If the loop could not begin, the mount may have gone again, and then what it was made on has answered. */
	if (rc || st.f_type != FUSE_SUPER_MAGIC) {
		fuse_log(FUSE_LOG_ERR, "cxlshmfs: %s: the mount does not answer: %s\n",
			 fs->options->mountpoint, rc ? strerror(rc) : "it has ended");
		starter->failed = 1;
		pthread_kill(starter->main, SIGTERM);
		return;
	}
	if (!passthrough_ready(fs->passthrough, fs->session))
		fuse_log(FUSE_LOG_WARNING,
			 "cxlshmfs: %s: no passthrough, because %s: files work, shared mmap of them is "
			 "refused (ENODEV)\n",
			 fs->options->mountpoint, passthrough_why(fs->passthrough));
	if (starter->pipe_fd >= 0)
		detach(starter->pipe_fd);
	fuse_log(FUSE_LOG_INFO, "cxlshmfs: %s is mounted on %s\n", fs->options->pool,
		 fs->options->mountpoint);
	snprintf(state, sizeof(state), "READY=1\nMAINPID=%d\nSTATUS=Mounted", (int)getpid());
	notify(state);
}

static void *start(void *arg)
{
	struct starter *starter = arg;

	answer_and_tell(starter);
	if (starter->ended_fd >= 0)
		(void)eventfd_write(starter->ended_fd, 1);
	return NULL;
}

static int run_loop(struct fs *fs)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int rc;

	if (!config)
		return OPTIONS_EXIT_SYSTEM;
	fuse_loop_cfg_set_max_threads(config, fs->options->max_threads);
	fuse_loop_cfg_set_idle_threads(config, fs->options->max_threads);
	rc = fuse_session_loop_mt(fs->session, config);
	fuse_loop_cfg_destroy(config);
	return rc < 0 ? OPTIONS_EXIT_SYSTEM : 0;	/* a signal's number means a clean end */
}

/*
 * Join the starter.  If it still waits for the mount a second from now, by no wall clock, only closing the device ends that;
 * it does not touch the session any more then.
 */
static void end_starter(struct starter *starter)
{
	struct pollfd ended = {.fd = starter->ended_fd, .events = POLLIN};
	int rc;

	do
		rc = poll(&ended, 1, 1000);
	while (rc < 0 && errno == EINTR);
	if (rc <= 0) {
		fuse_session_destroy(starter->fs->session);
		starter->fs->session = NULL;
	}
	pthread_join(starter->thread, NULL);
	if (starter->ended_fd >= 0)
		close(starter->ended_fd);
}

/*
 * Without passthrough each open file is a descriptor of ours, and the soft limit is made for programs that use select(2).
 * Behind the mount, so that the fusermount3 that makes it has its limit; the one that takes it away opens little, and ends.
 */
static void allow_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		fuse_log(FUSE_LOG_WARNING, "cxlshmfs: limit of open files: %s\n", strerror(errno));
}

/* From the mount to its end.  The session is made, the pool joined.  Returns an exit status. */
static int serve(struct fs *fs, int pipe_fd)
{
	struct starter starter = {.fs = fs, .main = pthread_self(), .pipe_fd = pipe_fd};
	struct monitor *monitor = NULL;
	struct prune *prune = NULL;
	sigset_t all, before;
	int status = OPTIONS_EXIT_SYSTEM, rc;

	/* Before the mount, or a signal behind it would leave it without a daemon. */
	if (fuse_set_signal_handlers(fs->session)) {
		lane_stop(&fs->lanes);
		return status;
	}
	if (passthrough_mount(fs->passthrough, fs->session, fs->options)) {
		fuse_remove_signal_handlers(fs->session);
		lane_stop(&fs->lanes);
		return OPTIONS_EXIT_MOUNT;
	}
	allow_descriptors();
	rc = prune_start(fs, &prune);
	if (!rc)
		rc = monitor_start(fs, prune, &monitor);
	if (rc) {
		fprintf(stderr, "cxlshmfs: cannot start a thread: %s\n", strerror(-rc));
		goto handlers;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	starter.ended_fd = eventfd(0, EFD_CLOEXEC);
	rc = pthread_create(&starter.thread, NULL, start, &starter);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc) {
		if (starter.ended_fd >= 0)
			close(starter.ended_fd);
		fprintf(stderr, "cxlshmfs: cannot start a thread: %s\n", strerror(rc));
		goto handlers;
	}
	status = run_loop(fs);
	notify("STOPPING=1");
	passthrough_unmount(fs->passthrough, fs->session);
	fuse_remove_signal_handlers(fs->session);
	signal(SIGTERM, SIG_IGN);
	monitor_end(monitor);
	prune_stop(prune);
	end_starter(&starter);
	lane_stop(&fs->lanes);
	monitor_stop(monitor);
	return starter.failed ? OPTIONS_EXIT_MOUNT : status;
handlers:
	fuse_remove_signal_handlers(fs->session);
	if (monitor)
		monitor_end(monitor);
	if (prune)
		prune_stop(prune);
	passthrough_unmount(fs->passthrough, fs->session);
	lane_stop(&fs->lanes);
	if (monitor)
		monitor_stop(monitor);
	return status;
}

/* What is opened later must not get the numbers of standard input, output and error, which detach() closes. */
static void open_stdio(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

/* What whoever started us has open, a lock file or a directory of another mount, is not ours to keep open. */
static void close_inherited(int pipe_fd)
{
	if (pipe_fd > STDERR_FILENO + 1)
		close_range(STDERR_FILENO + 1, (unsigned)pipe_fd - 1, 0);
	close_range((unsigned)pipe_fd + 1, ~0u, 0);
}

/* What a pool that was there already does not have from the options. */
static void tell_differences(const struct fs *fs)
{
	const struct options *options = fs->options;
	char heap[PATH_MAX];
	struct stat st;

	/* A pool is whole pages of 4 KiB. */
	if (options->size_bytes && options->size_bytes >> 12 != fs->info.size_bytes >> 12)
		fprintf(stderr, "cxlshmfs: %s: note: the pool has %llu bytes; size= counts when it is made\n",
			options->pool, (unsigned long long)fs->info.size_bytes);
	if (options->numa && strcmp(options->numa, fs->info.numa))
		fprintf(stderr, "cxlshmfs: %s: note: the pool has %s%s; numa= counts when it is made\n", options->pool,
			fs->info.numa[0] ? "NUMA policy " : "no NUMA policy", fs->info.numa);
	if ((size_t)snprintf(heap, sizeof(heap), "%s/heap", options->pool) >= sizeof(heap) || stat(heap, &st))
		return;
	if (options->pool_mode && options->pool_mode != (st.st_mode & 0777))
		fprintf(stderr, "cxlshmfs: %s: note: the pool has mode 0%o; mode= counts when it is made\n", options->pool,
			st.st_mode & 0777u);
	if (options->pool_gid != (gid_t)-1 && options->pool_gid != st.st_gid)
		fprintf(stderr, "cxlshmfs: %s: note: the pool belongs to group %u; group= counts when it is made\n",
			options->pool, (unsigned)st.st_gid);
}

/* Everything behind the fork.  Returns an exit status; says on stderr why it is not 0. */
static int run(const struct options *options, int pipe_fd)
{
	struct start_failure failure;
	struct fs *fs;
	void *frame;
	int status;

	/*
	 * libfuse ends its threads with pthread_cancel(3), for which glibc loads libgcc_s the first time, and aborts if it cannot,
	 * for want of address space or a descriptor.  So it is loaded here, while there are both.
	 */
	(void)backtrace(&frame, 1);
	signal(SIGIO, SIG_IGN);	/* an open that meets a lease probe sends it */
	if (start_fs(options, &fs, &failure)) {
		fprintf(stderr, "cxlshmfs: %s\n", failure.text);
		return failure.status;
	}
	tell_differences(fs);
	status = serve(fs, pipe_fd);
	start_undo(fs);
	return status;
}

/* The process that was started: wait for the daemon's word. */
static int wait_for_daemon(pid_t pid, int pipe_fd)
{
	unsigned char status;
	int wait_status;
	ssize_t length;

	do
		length = read(pipe_fd, &status, 1);
	while (length < 0 && errno == EINTR);
	if (length == 1)
		return status;
	if (waitpid(pid, &wait_status, 0) == pid && WIFEXITED(wait_status) && WEXITSTATUS(wait_status))
		return WEXITSTATUS(wait_status);	/* it has said why */
	fprintf(stderr, "cxlshmfs: the daemon ended before the mount answered\n");
	return OPTIONS_EXIT_SYSTEM;
}

int main(int argc, char **argv)
{
	struct options options;
	int pipe_fds[2] = {-1, -1}, status;
	pid_t pid;

	open_stdio();
	status = options_parse(&options, argc, argv);
	if (status < 0)
		status = options_resolve(&options);
	if (status >= 0)
		goto out;
	if (options.check) {
		status = 0;
		goto out;
	}
	if (options.foreground) {
		status = run(&options, -1);
		goto out;
	}
	status = OPTIONS_EXIT_SYSTEM;
	if (pipe2(pipe_fds, O_CLOEXEC)) {
		fprintf(stderr, "cxlshmfs: pipe: %s\n", strerror(errno));
		goto out;
	}
	pid = fork();
	if (pid < 0) {
		fprintf(stderr, "cxlshmfs: fork: %s\n", strerror(errno));
	} else if (pid) {
		close(pipe_fds[1]);
		status = wait_for_daemon(pid, pipe_fds[0]);
	} else {
		close_inherited(pipe_fds[1]);
		setsid();
		status = run(&options, pipe_fds[1]);
	}
out:
	/* Only if it is empty: a pool in it stays, for somebody else may be using it. */
	if (status && options.made_directory)
		rmdir(options.pool);
	options_free(&options);
	return status;
}
