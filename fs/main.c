/* SPDX-License-Identifier: MIT */
/*
 * main.c: cxlshmfs, the daemon that shows a pool as files.
 *
 * Owns the order of things: options; fork (nothing of the library survives one); the pool, made if
 * asked; the lanes; the session and the mount; the monitor; the session loop; and all of it backwards.
 *
 * Starting: the process that was started waits on a pipe for one byte, the exit status.  The daemon keeps
 * stderr until then, so that every failure is told there.  Its starter thread calls statvfs(2) on
 * the mount point, which comes back when the daemon answered; only then the byte is sent, READY=1 goes to
 * systemd, and messages go to syslog.  A pipe closed without a byte is a daemon that died.
 * Threads: main (the loop), libfuse's workers, the starter, the monitor's two.  Only main takes signals.
 */
#include <errno.h>
#include <fcntl.h>
#include <fuse_log.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "inode.h"
#include "monitor.h"
#include "ops.h"
#include "options.h"
#include "prune.h"
#include "room.h"

/* What the starter thread needs. */
struct starter {
	struct fs *fs;
	pthread_t thread, main;
	int pipe_fd;	/* -1 in the foreground */
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

static void *start(void *arg)
{
	struct starter *starter = arg;
	struct fs *fs = starter->fs;
	struct statvfs st;
	char state[128];

	if (statvfs(fs->options->mountpoint, &st)) {
		fuse_log(FUSE_LOG_ERR, "cxlshmfs: %s: the mount does not answer: %s\n",
			 fs->options->mountpoint, strerror(errno));
		starter->failed = 1;
		pthread_kill(starter->main, SIGTERM);
		return NULL;
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
	return NULL;
}

/* Append one mount option for libfuse, with what its parser would take for syntax escaped. */
static int add_fuse_option(struct fuse_args *args, const char *name, const char *value)
{
	size_t length = strlen(name) + 2 * strlen(value) + 3;
	char *text = malloc(length), *at;
	int rc;

	if (!text)
		return -ENOMEM;
	at = text + sprintf(text, "-o%s", name);
	for (; *value; value++) {
		if (*value == ',' || *value == '\\')
			*at++ = '\\';
		*at++ = *value;
	}
	*at = 0;
	rc = fuse_opt_add_arg(args, text) ? -ENOMEM : 0;
	free(text);
	return rc;
}

/* libfuse's own arguments: they count when it mounts through fusermount3. */
static int make_fuse_args(const struct options *options, struct fuse_args *args)
{
	static const struct {
		unsigned long flag;
		const char *word;
	} words[] = {
		{MS_RDONLY, "ro"}, {MS_NOEXEC, "noexec"}, {MS_NOATIME, "noatime"},
		{MS_SYNCHRONOUS, "sync"}, {MS_DIRSYNC, "dirsync"},
	};
	int rc = fuse_opt_add_arg(args, "cxlshmfs") ? -ENOMEM : 0;

	if (!rc && options->debug)
		rc = fuse_opt_add_arg(args, "-d") ? -ENOMEM : 0;
	if (!rc)
		rc = add_fuse_option(args, "fsname=", options->pool);
	if (!rc)
		rc = add_fuse_option(args, "subtype=cxlshm", "");
	if (!rc)
		rc = add_fuse_option(args, "default_permissions", "");
	if (!rc && options->allow_other)
		rc = add_fuse_option(args, "allow_other", "");
	for (size_t i = 0; !rc && i < sizeof(words) / sizeof(words[0]); i++)
		if (options->mount_flags & words[i].flag)
			rc = add_fuse_option(args, words[i].word, "");
	return rc;
}

/* A plain pool, for size= by hand: mount.cxlshm has mkfs.cxlshm make one with a tmpfs of its own.  0 or -errno. */
static int make_pool(const struct options *options, struct cxlshm_error *error)
{
	struct cxlshm_pool_options make = {
		.size_bytes = options->size_bytes,
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
		.numa = options->numa,
	};
	struct statvfs under;

	if (!statvfs(options->pool, &under) && under.f_blocks * under.f_frsize < options->size_bytes) {
		snprintf(error->text, sizeof(error->text), "%s: a pool of %llu bytes (size=) is larger than the file system "
			 "it is on", options->pool, (unsigned long long)options->size_bytes);
		return -ENOSPC;
	}
	return cxlshm_pool_create(options->pool, &make, error);
}

/* Open the pool; with size= make it first if there is none.  Returns 0 or an exit status. */
static int open_pool(struct fs *fs)
{
	const struct options *options = fs->options;
	unsigned flags = options->sparse ? CXLSHM_SPARSE : 0;
	struct cxlshm_error error = {.text = ""};
	int rc = cxlshm_pool_open(options->pool, flags, &fs->pool, &error);

	if (rc == -ENOENT && options->size_bytes) {
		rc = make_pool(options, &error);
		if (!rc || rc == -EEXIST)
			rc = cxlshm_pool_open(options->pool, flags, &fs->pool, &error);
	}
	if (!rc)
		rc = cxlshm_pool_info(fs->pool, &fs->info);
	if (rc) {
		fprintf(stderr, "cxlshmfs: %s%s%s\n", error.text[0] ? "" : options->pool,
			error.text[0] ? "" : ": ", error.text[0] ? error.text : strerror(-rc));
		return OPTIONS_EXIT_MOUNT;
	}
	/* A pool is whole pages of 4 KiB. */
	if (options->size_bytes && options->size_bytes >> 12 != fs->info.size_bytes >> 12)
		fprintf(stderr, "cxlshmfs: %s: note: the pool has %llu bytes; size= counts when it is made\n",
			options->pool, (unsigned long long)fs->info.size_bytes);
	return 0;
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
 * Join the starter.  If it still waits for the mount, only closing the device ends that; it does not touch
 * the session any more then.
 */
static void end_starter(struct starter *starter)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec++;
	if (!pthread_timedjoin_np(starter->thread, NULL, &limit))
		return;
	fuse_session_destroy(starter->fs->session);
	starter->fs->session = NULL;
	pthread_join(starter->thread, NULL);
}

/* From the mount to its end.  The session is made, the pool joined.  Returns an exit status. */
static int serve(struct fs *fs, int pipe_fd)
{
	struct starter starter = {.fs = fs, .main = pthread_self(), .pipe_fd = pipe_fd};
	struct monitor *monitor = NULL;
	struct prune *prune = NULL;
	sigset_t all, before;
	int status = OPTIONS_EXIT_SYSTEM, rc;

	if (passthrough_mount(fs->passthrough, fs->session, fs->options)) {
		lane_stop(&fs->lanes);
		return OPTIONS_EXIT_MOUNT;
	}
	if (fuse_set_signal_handlers(fs->session))
		goto unmount;
	rc = prune_start(fs, &prune);
	if (!rc)
		rc = monitor_start(fs, prune, &monitor);
	if (rc) {
		fprintf(stderr, "cxlshmfs: cannot start a thread: %s\n", strerror(-rc));
		goto handlers;
	}
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&starter.thread, NULL, start, &starter);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (rc) {
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
unmount:
	passthrough_unmount(fs->passthrough, fs->session);
	lane_stop(&fs->lanes);
	if (monitor)
		monitor_stop(monitor);
	return status;
}

/* Everything behind the fork.  Returns an exit status; says on stderr why it is not 0. */
static int run(const struct options *options, int pipe_fd)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_lowlevel_ops ops;
	struct fs *fs = calloc(1, sizeof(*fs));
	int status = OPTIONS_EXIT_SYSTEM, rc;

	signal(SIGIO, SIG_IGN);	/* an open that meets a lease probe sends it */
	if (!fs)
		return status;
	fs->options = options;
	fs->started = time(NULL);
	atomic_init(&fs->wake_due_ns, UINT64_MAX);
	fs->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fs->passthrough = passthrough_new();
	if (fs->wake_fd < 0 || !fs->passthrough) {
		fprintf(stderr, "cxlshmfs: out of memory or descriptors\n");
		goto free_fs;
	}
	status = open_pool(fs);
	if (status)
		goto free_fs;
	status = OPTIONS_EXIT_MOUNT;
	rc = lane_start(&fs->lanes, fs->pool, options->max_threads);
	if (!rc)
		rc = inode_start(fs);
	if (rc) {
		fprintf(stderr, "cxlshmfs: %s: cannot join the pool: %s\n", options->pool,
			rc == -EUSERS ? "every client slot is taken" :
			rc == -EUCLEAN ? "it is damaged; run fsck.cxlshm" : strerror(-rc));
		lane_stop(&fs->lanes);
		goto close_pool;
	}
	room_start(fs);
	ops_fill(&ops, fs);
	status = OPTIONS_EXIT_SYSTEM;
	if (!make_fuse_args(options, &args))
		fs->session = fuse_session_new(&args, &ops, sizeof(ops), fs);
	if (!fs->session) {
		fprintf(stderr, "cxlshmfs: libfuse gave no session\n");
		lane_stop(&fs->lanes);
		goto close_pool;
	}
	status = serve(fs, pipe_fd);
close_pool:
	fuse_opt_free_args(&args);
	if (fs->session)
		fuse_session_destroy(fs->session);
	inode_stop(fs);
	cxlshm_pool_close(fs->pool);
free_fs:
	passthrough_free(fs->passthrough);
	if (fs->wake_fd >= 0)
		close(fs->wake_fd);
	free(fs);
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

	status = options_parse(&options, argc, argv);
	if (status < 0)
		status = options_resolve(&options);
	if (status >= 0)
		goto out;
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
		close(pipe_fds[0]);
		setsid();
		status = run(&options, pipe_fds[1]);
	}
out:
	options_free(&options);
	return status;
}
