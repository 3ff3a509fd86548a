/* SPDX-License-Identifier: MIT */
/*
 * pool_info: what a pool is and how full it is, for people and for statfs(2).  Writes nothing.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "pool.h"

#define OWN_INODES 3u	/* of a pool's own tmpfs: its root, heap, x/ */

int cxlshm_pool_info(struct cxlshm_pool *handle, struct cxlshm_pool_info *info)
{
	const struct pool *pool = (const struct pool *)handle;
	const struct super_fmt *super;
	const uint8_t *u;

	if (!pool || !info)
		return -EINVAL;
	super = pool->super;
	u = super->uuid;
	memset(info, 0, sizeof(*info));
	snprintf(info->uuid, sizeof(info->uuid),
		 "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3],
		 u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
	static_assert(sizeof(info->numa) == sizeof(super->numa), "API");
	memcpy(info->numa, super->numa, sizeof(info->numa));
	info->format_version = super->version;
	info->failure_domain = super->failure_domain;
	info->size_bytes = super->pool_bytes;
	info->heap_bytes = super->heap_bytes;
	info->segment_bytes = 1ull << super->segment_shift;
	info->page_bytes = 1ull << super->page_shift;
	info->client_slots = super->slots;
	info->segments = super->segments;
	return 0;
}

/* The pool's own tmpfs: mounted at its directory, and of its size (mkfs.cxlshm's default). */
static int has_own_tmpfs(const struct pool *pool, const struct statvfs *fs)
{
	uint64_t total = (uint64_t)fs->f_blocks * fs->f_frsize;
	struct stat dir, above;
	struct statfs type;

	return fstatfs(pool->dir_fd, &type) == 0 && type.f_type == TMPFS_MAGIC &&
	       fstat(pool->dir_fd, &dir) == 0 && fstatat(pool->dir_fd, "..", &above, 0) == 0 &&
	       dir.st_dev != above.st_dev && total != 0 &&
	       total <= pool->super->pool_bytes + (1ull << pool->segment_shift);
}

static int count_extents(const struct pool *pool, uint64_t *files, uint64_t *bytes)
{
	int fd = openat(pool->extents_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	struct stat st;
	int rc;

	if (!dir) {
		rc = -errno;
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while ((entry = readdir(dir)))
		if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode)) {
			*files += 1;
			*bytes += (uint64_t)st.st_blocks * 512;
		}
	closedir(dir);
	return 0;
}

/*
 * On a tmpfs of its own, what the kernel says is exact for what can be reserved anew.  In a plain directory
 * it is the lesser of what the file system has left and what the pool has not reserved; then every extent is
 * looked at, so it takes longer the more files there are.  Either way room inside segments that are
 * claimed already does not count as free.
 */
int cxlshm_pool_space(struct cxlshm_pool *handle, struct cxlshm_pool_space *space)
{
	const struct pool *pool = (const struct pool *)handle;
	uint64_t files = 0, used = 0, left;
	struct statvfs fs;
	struct stat heap;
	int rc;

	if (!pool || !space)
		return -EINVAL;
	if (pool->forked)
		return -EOWNERDEAD;
	if (fstatvfs(pool->dir_fd, &fs) != 0 || fstat(pool->heap_fd, &heap) != 0)
		return -errno;
	left = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (has_own_tmpfs(pool, &fs) && fs.f_files != 0) {
		uint64_t inodes = fs.f_files - fs.f_ffree;

		files = inodes > OWN_INODES ? inodes - OWN_INODES : 0;
	} else {
		rc = count_extents(pool, &files, &used);
		if (rc)
			return rc;
		used += (uint64_t)heap.st_blocks * 512;
		used = used < pool->super->pool_bytes ? pool->super->pool_bytes - used : 0;
		left = left < used ? left : used;
	}
	space->size_bytes = pool->super->pool_bytes;
	space->free_bytes = left < pool->super->pool_bytes ? left : pool->super->pool_bytes;
	space->files = files;
	space->block_bytes = FORMAT_ALIGN;
	return 0;
}
