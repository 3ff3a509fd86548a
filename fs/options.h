/* SPDX-License-Identifier: MIT */
/*
 * options.h: what the command line asked for.
 *
 * Owns struct options: written by options_parse() before the first thread starts, only read afterwards.
 */
#ifndef CXLSHMFS_OPTIONS_H
#define CXLSHMFS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Exit codes, as mount(8) has them. */
#define OPTIONS_EXIT_USAGE 1
#define OPTIONS_EXIT_SYSTEM 2
#define OPTIONS_EXIT_MOUNT 32

struct options {
	char *pool;	/* as given, then absolute (options_resolve) */
	char *mountpoint;	/* the same */
	bool foreground;
	bool debug;
	bool allow_other;
	bool sparse;
	bool remount;
	bool check;	/* options and paths only */
	bool made_directory;	/* the pool's, by options_resolve() */
	bool show_uid, show_gid, show_umask;	/* the next three were given */
	uid_t uid;
	gid_t gid;
	mode_t umask;
	uint64_t size_bytes;	/* 0: the pool must exist */
	char *numa;	/* of a pool to be made.  NULL: none */
	mode_t pool_mode;	/* the same; 0: as the library has it */
	gid_t pool_gid;	/* the same; -1: the caller's */
	unsigned max_threads;
	double attr_timeout_s;
	double entry_timeout_s;
	unsigned long mount_flags;	/* MS_* */
};

/*
 * Read argv.  Prints what is wrong, with the option in it, to stderr.
 * Returns -1 to go on, or the status to exit with (0 after --help and --version).
 */
int options_parse(struct options *options, int argc, char **argv);

/*
 * Make both paths absolute and refuse places that cannot work: no such mount point, a stale or
 * occupied one, a mount point that is the pool or holds it.  Last of all makes the pool's directory if size=
 * asks for a pool, unless they are only checked.  Returns -1 to go on, or the status to exit with.
 */
int options_resolve(struct options *options);

void options_free(struct options *options);

#endif
