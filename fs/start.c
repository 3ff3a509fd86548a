/* SPDX-License-Identifier: MIT */
/*
 * start.c: a daemon put together up to its mount, and taken apart.
 *
 * Owns struct fs, and the order of what hangs on it: the pool, made if asked; the lanes; the root; the session.
 * Says nothing itself: main.c tells people, and the tests, which mount without a kernel, look at the error.
 * Threads: one, before there are others and when there are none any more.
 */
#include "start.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "ops.h"
#include "room.h"
#include "shrink.h"

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

static int fail(struct start_failure *failure, int status, int rc, const char *path, const char *what)
{
	failure->status = status;
	snprintf(failure->text, sizeof(failure->text), "%s%s%s", path ? path : "", path ? ": " : "", what);
	return rc;
}

/* A plain pool, for size= by hand: mount.cxlshm has mkfs.cxlshm make one with a tmpfs of its own.  0 or -errno. */
static int make_pool(const struct options *options, struct cxlshm_error *error)
{
	struct cxlshm_pool_options make = {
		.size_bytes = options->size_bytes,
		.mode = options->pool_mode,
		.uid = (uid_t)-1,
		.gid = options->pool_gid,
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

/* Open the pool; with size= make it first if there is none, or one that was never finished. */
static int open_pool(struct fs *fs, struct start_failure *failure)
{
	const struct options *options = fs->options;
	unsigned flags = options->sparse ? CXLSHM_SPARSE : 0;
	struct cxlshm_error error = {.text = ""};
	int rc = cxlshm_pool_open(options->pool, flags, &fs->pool, &error);

	if ((rc == -ENOENT || rc == -EUCLEAN) && options->size_bytes) {
		struct cxlshm_error first = error;
		int opened = rc;

		rc = make_pool(options, &error);
		if (!rc || rc == -EEXIST) {
			rc = cxlshm_pool_open(options->pool, flags, &fs->pool, &error);
		} else if (opened == -EUCLEAN) {	/* not one that was never finished, but a damaged one */
			rc = opened;
			error = first;
		}
	}
	if (!rc)
		rc = cxlshm_pool_info(fs->pool, &fs->info);
	if (!rc && fs->info.failure_domain == CXLSHM_FAILURE_HOST)
		rc = shrink_start();
	if (!rc)
		return 0;
	if (error.text[0]) {
		fail(failure, OPTIONS_EXIT_MOUNT, rc, NULL, error.text);
		if ((rc == -EACCES || rc == -EROFS) && options->mount_flags & MS_RDONLY)
			strncat(failure->text, "; with ro, too, a mount needs to write to the heap, for it is a client",
				sizeof(failure->text) - strlen(failure->text) - 1);
		return rc;
	}
	return fail(failure, OPTIONS_EXIT_MOUNT, rc, options->pool, strerror(-rc));
}

/* Join the pool and look at its root. */
static int join(struct fs *fs, struct start_failure *failure)
{
	char what[100];
	int rc = lane_start(&fs->lanes, fs->pool, fs->options->max_threads);

	if (!rc)
		rc = inode_start(fs);
	if (!rc)
		return 0;
	lane_stop(&fs->lanes);
	snprintf(what, sizeof(what), "cannot join the pool: %s",
		 rc == -EUSERS ? "every client slot is taken" :
		 rc == -EUCLEAN ? "it is damaged; run fsck.cxlshm" : strerror(-rc));
	return fail(failure, OPTIONS_EXIT_MOUNT, rc, fs->options->pool, what);
}

static int make_session(struct fs *fs, struct start_failure *failure)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_lowlevel_ops ops;

	ops_fill(&ops, fs);
	if (!make_fuse_args(fs->options, &args))
		fs->session = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args);
	if (fs->session)
		return 0;
	lane_stop(&fs->lanes);
	return fail(failure, OPTIONS_EXIT_SYSTEM, -ENOMEM, NULL, "libfuse gave no session");
}

int start_fs(const struct options *options, struct fs **out, struct start_failure *failure)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	struct timespec now;
	int rc;

	if (!fs)
		return fail(failure, OPTIONS_EXIT_SYSTEM, -ENOMEM, NULL, "out of memory");
	fs->options = options;
	fs->started = time(NULL);
	clock_gettime(CLOCK_MONOTONIC, &now);
	fs->started_monotonic = now.tv_sec;
	atomic_init(&fs->wake_due_ns, UINT64_MAX);
	fs->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fs->passthrough = passthrough_new();
	if (fs->wake_fd < 0 || !fs->passthrough)
		rc = fail(failure, OPTIONS_EXIT_SYSTEM, -ENOMEM, NULL, "out of memory or descriptors");
	else
		rc = open_pool(fs, failure);
	if (!rc)
		rc = join(fs, failure);
	if (!rc) {
		room_start(fs);
		rc = make_session(fs, failure);
	}
	if (rc) {
		start_undo(fs);
		return rc;
	}
	*out = fs;
	return 0;
}

void start_undo(struct fs *fs)
{
	if (fs->session)
		fuse_session_destroy(fs->session);
	inode_stop(fs);
	if (fs->pool)
		cxlshm_pool_close(fs->pool);
	passthrough_free(fs->passthrough);
	if (fs->wake_fd >= 0)
		close(fs->wake_fd);
	free(fs);
}
