/* SPDX-License-Identifier: MIT */
/*
 * tmpfs: the file system of a pool's own, mounted at its directory so that the kernel enforces its size.
 */
#ifndef MOUNT_HELPER_TMPFS_H
#define MOUNT_HELPER_TMPFS_H

#include <stdint.h>
#include <sys/types.h>

struct tmpfs_options {
	uint64_t size_bytes;
	mode_t mode;	/* of its root directory */
	uid_t uid;	/* -1: the caller's */
	gid_t gid;
	const char *numa;	/* as mkfs.cxlshm --numa takes it, or NULL */
};

enum tmpfs_there {
	TMPFS_NONE,	/* path is no mount point */
	TMPFS_OWN,	/* what tmpfs_mount() mounted */
	TMPFS_OTHER
};

/* What is mounted at the absolute path. */
enum tmpfs_there tmpfs_at(const char *path);

/* Mount one at path.  *swappable: the kernel does not know noswap (before 6.4, or not in this user
 * namespace).  A NUMA policy that makes no sense is left out: cxlshm_pool_create() says so with a sentence.
 * -EPERM without privilege. */
int tmpfs_mount(const char *path, const struct tmpfs_options *options, int *swappable);

#endif
