/* SPDX-License-Identifier: MIT */
/*
 * pool_create: make the files of a pool, delete them, and repair the superblock.
 *
 * Whoever does one of these holds LOCK_POOL of the heap file for writing, so nobody has the pool open.
 * The superblock is written last, and wiped first; in between there is a heap without one, which nobody opens and which
 * who makes a pool, or removes it, takes.  Nothing in the heap behind the segment table is touched here.
 *
 * Other people's files are never deleted: in the directory only heap and x/ are ours, in x/ only regular files with an
 * extent's name, and a heap only if it has a superblock or nothing in its place.  All of that is looked at before the first
 * step that destroys anything.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pool.h"

#define HEAP "heap"
#define EXTENTS "x"
#define LOCK_TRIES 200	/* of 1 ms: who looks at a heap that is just being made goes away again */

/* ---------------------------------------------------------------- the directory */

/* A list of names in the directory: -ENOTEMPTY with the first one that is not ours. */
static int only_ours(const struct pool *pool, struct cxlshm_error *error)
{
	int fd = openat(pool->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int rc = 0;

	if (!dir) {
		rc = error_set(error, -errno, "%s: %s", pool->path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return rc;
	}
	while (rc == 0 && (entry = readdir(dir))) {
		const char *n = entry->d_name;

		if (strcmp(n, ".") && strcmp(n, "..") && strcmp(n, HEAP) && strcmp(n, EXTENTS) &&
		    strcmp(n, "lost+found"))
			rc = error_set(error, -ENOTEMPTY, "%s: holds other files (%s); a pool needs a directory "
				       "of its own", pool->path, n);
	}
	closedir(dir);
	return rc;
}

/* As extent.c writes it: 16 hexadecimal digits.  An extent never has another name, not even while it is made. */
static int is_extent_name(const char *name)
{
	return strlen(name) == 16 && strspn(name, "0123456789abcdef") == 16;
}

/* The list of names in x/.  -ENOENT when there is no x/. */
static int extents_list(const struct pool *pool, DIR **list, struct cxlshm_error *error)
{
	int fd = openat(pool->dir_fd, EXTENTS, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), rc;

	*list = fd < 0 ? NULL : fdopendir(fd);
	if (*list)
		return 0;
	rc = -errno;
	if (fd >= 0)
		close(fd);
	if (rc == -ENOTDIR || rc == -ELOOP)
		return error_set(error, -ENOTEMPTY, "%s/x: not a folder of a pool's files, so it stays; delete it yourself "
				 "if it is to go", pool->path);
	return rc == -ENOENT ? rc : error_set(error, rc, "%s/x: %s", pool->path, strerror(-rc));
}

/* How many extents are in x/; -ENOTEMPTY with the first entry that is none. */
static int extents_scan(const struct pool *pool, uint64_t *count, struct cxlshm_error *error)
{
	struct dirent *entry;
	struct stat st;
	DIR *list;
	int rc = extents_list(pool, &list, error);

	*count = 0;
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	while (rc == 0 && (entry = readdir(list))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		if (fstatat(dirfd(list), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;	/* gone: a client may be ending */
		++*count;
		if (!is_extent_name(entry->d_name) || !S_ISREG(st.st_mode))
			rc = error_set(error, -ENOTEMPTY, "%s/x/%s: not a file of a pool, so nothing is deleted; move it "
				       "away, or delete it yourself, first", pool->path, entry->d_name);
	}
	closedir(list);
	return rc;
}

/* Delete the extents in x/, and x/, which was scanned before.  -ENOENT when there is no x/. */
static int extents_delete(const struct pool *pool, struct cxlshm_error *error)
{
	struct dirent *entry;
	DIR *list;
	int rc = extents_list(pool, &list, error);

	if (rc)
		return rc;
	while (rc == 0 && (entry = readdir(list)))
		if (is_extent_name(entry->d_name) && unlinkat(dirfd(list), entry->d_name, 0) != 0 && errno != ENOENT)
			rc = error_set(error, -errno, "%s/x/%s: cannot delete it: %s", pool->path, entry->d_name,
				       strerror(errno));
	closedir(list);
	if (rc == 0 && unlinkat(pool->dir_fd, EXTENTS, AT_REMOVEDIR) != 0)
		rc = error_set(error, -errno, "%s/x: cannot delete it: %s", pool->path, strerror(errno));
	return rc;
}

/* The open, locked heap file was made by us: it has a superblock (*finished), or nothing is in the place of both copies. */
static int heap_is_ours(const struct pool *pool, int *finished, struct cxlshm_error *error)
{
	static const struct super_fmt none;
	struct super_fmt first, copy;
	int rc = pool_super_read(pool->heap_fd, &first, &copy);

	if (rc)
		return error_set(error, rc, "%s/heap: %s", pool->path, strerror(-rc));
	*finished = first.magic == FORMAT_MAGIC || copy.magic == FORMAT_MAGIC;
	if (*finished || (!memcmp(&first, &none, sizeof(none)) && !memcmp(&copy, &none, sizeof(none))))
		return 0;
	return error_set(error, -ENOTEMPTY, "%s/heap: no heap of a pool, so it stays; delete it yourself if it "
			 "is to go", pool->path);
}

/*
 * Delete the pool whose heap is open and locked.  Without force only what was never finished and has no extent: in that
 * there is nothing that anybody could miss.
 */
static int delete_files(struct pool *pool, int force, struct cxlshm_error *error)
{
	uint64_t extents;
	int finished, rc;

	rc = heap_is_ours(pool, &finished, error);
	if (rc == 0)
		rc = extents_scan(pool, &extents, error);
	if (rc)
		return rc;
	if (!force && (finished || extents))
		return error_set(error, -EEXIST, finished ? "%s: holds a pool already; --force makes it anew, and what is in "
				 "it is lost" : "%s: holds what is left of a pool, with files in x/; --force makes it anew, "
				 "and --remove takes it away", pool->path);
	/* Crash after this and before the end: a heap without superblock, which delete_files() takes again. */
	rc = pool_super_wipe(pool->heap_fd);
	if (rc)
		return error_set(error, rc, "%s/heap: %s", pool->path, strerror(-rc));
	rc = extents_delete(pool, error);
	if (rc && rc != -ENOENT)
		return rc;
	if (unlinkat(pool->dir_fd, HEAP, 0) != 0)
		return error_set(error, -errno, "%s/heap: cannot delete it: %s", pool->path, strerror(errno));
	return 0;
}

int cxlshm_pool_remove(const char *path, struct cxlshm_error *error)
{
	struct pool *pool;
	int rc;

	if (error)
		error->text[0] = 0;
	rc = pool_begin(path, 0, &pool, error);
	if (rc)
		return rc;
	rc = pool_heap_open(pool, O_RDWR, 0, F_WRLCK, error);
	if (rc == 0)
		rc = delete_files(pool, 1, error);
	pool_unmap(pool);
	return rc;
}

/* ---------------------------------------------------------------- making */

static int options_check(const struct cxlshm_pool_options *o, const char *path, struct super_fmt *super,
			 struct cxlshm_error *error)
{
	int rc;

	if (o->size_bytes < POOL_BYTES_MIN || o->size_bytes > POOL_BYTES_MAX)
		return error_set(error, -EINVAL, "%s: a pool of %" PRIu64 " bytes: the size must be 1 MiB to "
				 "128 TiB", path, o->size_bytes);
	if (o->client_slots > SLOTS_MAX)
		return error_set(error, -EINVAL, "%s: %" PRIu32 " client slots: it must be %u to %u", path,
				 o->client_slots, POOL_SLOTS_MIN, SLOTS_MAX);
	if (o->failure_domain > CXLSHM_FAILURE_HOST)
		return error_set(error, -EINVAL, "%s: unknown failure domain %" PRIu32, path,
				 o->failure_domain);
	if (o->mode & ~0666u || (o->mode && (o->mode & 0600) != 0600))
		return error_set(error, -EINVAL, "%s: mode 0%o: the heap's mode is read and write bits only, and "
				 "its owner needs both", path, (unsigned)o->mode);
	if (!arch_supported())
		return error_set(error, -ENOTSUP, "%s: this processor has no 16-byte atomic loads and stores",
				 path);
	if (o->failure_domain == CXLSHM_FAILURE_HOST && !arch_can_write_back())
		return error_set(error, -ENOTSUP, "%s: failure domain host: this processor cannot write cache "
				 "lines back (clwb)", path);
	if (o->numa && strlen(o->numa) >= sizeof(super->numa))
		return error_set(error, -EINVAL, "%s: the NUMA policy is longer than %zu characters", path,
				 sizeof(super->numa) - 1);
	rc = numa_check(o->numa, error);
	if (rc)
		return rc;
	super->pool_bytes = o->size_bytes & ~(FORMAT_ALIGN - 1);
	super->segment_shift = pool_super_default_shift(super->pool_bytes);
	super->slots = o->client_slots ? o->client_slots : pool_super_default_slots(super->pool_bytes);
	rc = pool_super_layout(super);
	if (rc)
		return error_set(error, -EINVAL, "%s: %" PRIu32 " client slots leave no room for objects in a pool "
				 "of %" PRIu64 " bytes: fewer --clients or a larger --size", path, super->slots,
				 super->pool_bytes);
	return 0;
}

static int super_fill(struct super_fmt *super, const struct cxlshm_pool_options *o)
{
	struct timespec now;

	super->magic = FORMAT_MAGIC;
	super->version = FORMAT_VERSION;
	super->super_bytes = sizeof(*super);
	super->compat = FORMAT_COMPAT;
	super->incompat = FORMAT_INCOMPAT;
	super->fingerprint = pool_super_fingerprint();
	super->failure_domain = o->failure_domain;
	if (o->numa)
		memcpy(super->numa, o->numa, strlen(o->numa));
	/* Up to 256 bytes come whole or not at all. */
	if (getrandom(super->uuid, sizeof(super->uuid), 0) != (ssize_t)sizeof(super->uuid) ||
	    getrandom(super->hash_key, sizeof(super->hash_key), 0) != (ssize_t)sizeof(super->hash_key))
		return -EIO;
	super->uuid[6] = (uint8_t)((super->uuid[6] & 0x0f) | 0x40);	/* RFC 4122, random */
	super->uuid[8] = (uint8_t)((super->uuid[8] & 0x3f) | 0x80);
	clock_gettime(CLOCK_REALTIME, &now);
	super->created_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
	return 0;
}

/* Owner first: chown clears set-id bits.  x/ gives its group to the files in it. */
static int access_set(const struct pool *pool, const struct cxlshm_pool_options *o)
{
	mode_t mode = o->mode ? o->mode : 0660;

	if ((o->uid != (uid_t)-1 || o->gid != (gid_t)-1) &&
	    (fchown(pool->heap_fd, o->uid, o->gid) != 0 || fchown(pool->extents_fd, o->uid, o->gid) != 0))
		return -errno;
	if (fchmod(pool->heap_fd, mode) != 0 ||
	    fchmod(pool->extents_fd, mode | (mode & 0444) >> 2 | S_ISGID) != 0)
		return -errno;
	return 0;
}

/* ftruncate gives the heap its length; only the areas up to the segment table get memory. */
static int heap_size(const struct pool *pool)
{
	int rc;

	do
		rc = ftruncate(pool->heap_fd, (off_t)pool->super->heap_bytes) ? -errno : 0;
	while (rc == -EINTR);
	if (rc)
		return rc;
	do
		rc = fallocate(pool->heap_fd, 0, 0, (off_t)pool->super->slots_off) ? -errno : 0;
	while (rc == -EINTR);
	return rc;
}

static void tables_fill(struct pool *pool)
{
	for (uint32_t i = 0; i < pool->first_segment; i++)
		a128_store_value_release(&pool->segment_table[i].word, segment_value(SEGMENT_RESERVED, 0, 0));
	for (uint32_t i = 0; i < hint_words(pool->segments); i++) {
		uint32_t first = i * 64, bits = pool->segments - first;
		uint64_t word = bits >= 64 ? ~0ull : (1ull << bits) - 1;

		if (pool->first_segment > first)
			word &= pool->first_segment - first >= 64 ? 0 : ~0ull << (pool->first_segment - first);
		a64_store_relaxed(&pool->hints[i], word);
	}
}

/* Make the heap file and lock it, before anybody can take it for a pool. */
static int heap_new(struct pool *pool, struct cxlshm_error *error)
{
	struct timespec pause = { .tv_nsec = 1000000 };
	struct stat st;
	int rc = pool_heap_open(pool, O_RDWR | O_CREAT | O_EXCL, 0600, F_WRLCK, error);

	if (rc == -EEXIST)
		return error_set(error, -EBUSY, "%s: somebody else is making a pool here just now", pool->path);
	for (int i = 0; rc == -EBUSY && pool->heap_fd >= 0 && i < LOCK_TRIES; i++) {
		nanosleep(&pause, NULL);
		rc = pool_lock(pool->heap_fd, F_WRLCK, LOCK_POOL);
	}
	/* Somebody with the lock just before us may have deleted it as an unfinished pool. */
	if (rc == 0 && (fstat(pool->heap_fd, &st) != 0 || st.st_nlink == 0))
		rc = error_set(error, -EBUSY, "%s: somebody else made or removed a pool here just now", pool->path);
	return rc;
}

/*
 * Who made this pool was killed between its superblock's copy, which comes last but one, and the superblock; or who removed
 * it, between the other two steps.  Either way all of it is there.
 */
static int finish_super(const struct pool *old)
{
	static const struct super_fmt none;
	struct super_fmt first, copy;
	struct stat st;

	if (pool_super_read(old->heap_fd, &first, &copy) || memcmp(&first, &none, sizeof(first)) ||
	    pool_super_judge(&copy, old->path, NULL) || fstat(old->heap_fd, &st) != 0 || (uint64_t)st.st_size != copy.heap_bytes)
		return 0;
	return pool_super_write(old->heap_fd, &copy);
}

/* Take away what is there, if that is a pool and we may. */
static int make_room(struct pool *pool, int force, struct cxlshm_error *error)
{
	struct pool *old;
	struct stat st;
	int rc = only_ours(pool, error);

	if (rc || fstatat(pool->dir_fd, HEAP, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return rc;
	rc = pool_begin(pool->path, 0, &old, error);
	if (rc)
		return rc;
	rc = pool_heap_open(old, O_RDWR, 0, F_WRLCK, error);
	if (rc == 0 && !force) {
		rc = finish_super(old);
		if (rc)
			error_set(error, rc, "%s/heap: %s", old->path, strerror(-rc));
	}
	if (rc == 0)
		rc = delete_files(old, force, error);
	else if (!force && (rc == -EBUSY || rc == -EACCES))
		rc = error_set(error, -EEXIST, "%s: holds a pool already, which %s", pool->path, rc == -EBUSY ?
			       "is in use" : "you may not write to");
	pool_unmap(old);
	if (rc == -ENOENT)	/* removed meanwhile */
		rc = error_set(error, 0, "%s", "");
	return rc;
}

/*
 * A new x/, in place of one without a heap: what is left of a pool.  The heap is ours and locked by now; without that x/
 * might be of a pool that somebody else is making just now.
 */
static int extents_new(struct pool *pool, int force, struct cxlshm_error *error)
{
	uint64_t extents;
	int rc;

	if (mkdirat(pool->dir_fd, EXTENTS, 0700) == 0)
		return 0;
	if (errno == EEXIST) {
		rc = extents_scan(pool, &extents, error);
		if (rc == 0 && extents && !force)
			rc = error_set(error, -ENOTEMPTY, "%s/x: holds files, perhaps what is left of a pool: --force deletes "
				       "them", pool->path);
		if (rc == 0)
			rc = extents_delete(pool, error);
		if (rc && rc != -ENOENT)
			return rc;
	}
	return mkdirat(pool->dir_fd, EXTENTS, 0700) == 0 ? 0 :
	       error_set(error, -errno, "%s/x: %s", pool->path, strerror(errno));
}

int pool_make(const char *path, const struct cxlshm_pool_options *options, struct pool **out,
	      struct cxlshm_error *error)
{
	struct pool *pool;
	int rc;

	if (error)
		error->text[0] = 0;
	if (!options)
		return error_set(error, -EINVAL, "%s: no options given", path ? path : "");
	rc = pool_begin(path, 0, &pool, error);
	if (rc)
		return rc;
	rc = options_check(options, pool->path, &pool->checked, error);
	if (rc == 0)
		rc = super_fill(&pool->checked, options);
	if (rc == 0)
		rc = make_room(pool, options->force, error);
	if (rc == 0)
		rc = heap_new(pool, error);
	if (rc) {
		pool_unmap(pool);
		return rc;
	}
	rc = extents_new(pool, options->force, error);
	if (rc) {
		/* What is in x/ is not ours to delete. */
		(void)!unlinkat(pool->dir_fd, HEAP, 0);
		pool_unmap(pool);
		return rc;
	}
	pool->extents_fd = openat(pool->dir_fd, EXTENTS, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (pool->extents_fd < 0) {
		rc = error_set(error, -errno, "%s/x: %s", pool->path, strerror(errno));
		goto fail;
	}
	rc = access_set(pool, options);
	if (rc) {
		error_set(error, rc, "%s: cannot set owner, group or mode: %s", pool->path, strerror(-rc));
		goto fail;
	}
	rc = heap_size(pool);
	if (rc) {
		error_set(error, rc, "%s/heap: cannot reserve %" PRIu64 " bytes (of %" PRIu64 "): %s", pool->path,
			  pool->super->slots_off, pool->super->heap_bytes, strerror(-rc));
		goto fail;
	}
	rc = pool_map(pool, error);
	if (rc)
		goto fail;
	/* Before any byte of the heap has its place: the policy goes with the file. */
	rc = numa_apply(pool, pool->base, pool->heap_bytes);
	if (rc) {
		error_set(error, rc, "%s: the kernel refuses NUMA policy %s: %s", pool->path, pool->super->numa,
			  strerror(-rc));
		goto fail;
	}
	tables_fill(pool);
	*out = pool;
	return 0;
fail:
	pool_discard(pool);
	return rc;
}

int pool_seal(struct pool *pool, uint64_t root_dir)
{
	int rc;

	pool->checked.root_dir = root_dir;
	pool->checked.checksum = pool_super_checksum(&pool->checked);
	persist(pool, pool->base + SHARED_OFF, sizeof(struct shared_fmt));
	persist(pool, pool->hints, pool->super->slots_off - HINTS_OFF);
	rc = pool_super_write(pool->heap_fd, &pool->checked);
	if (rc)
		return rc;
	persist(pool, pool->base + SUPER_COPY_OFF, sizeof(struct super_fmt));
	persist(pool, pool->base + SUPER_OFF, sizeof(struct super_fmt));
	return pool_lock(pool->heap_fd, F_RDLCK, LOCK_POOL);
}

void pool_discard(struct pool *pool)
{
	if (pool->heap_fd >= 0)
		(void)delete_files(pool, 1, NULL);
	pool_unmap(pool);
}

/* ---------------------------------------------------------------- repair */

int pool_super_repair(const char *path, struct cxlshm_error *error)
{
	struct super_fmt first, copy;
	struct pool *pool;
	struct stat st;
	uint64_t whole;
	int rc, bad_first, bad_copy;

	if (error)
		error->text[0] = 0;
	rc = pool_begin(path, 0, &pool, error);
	if (rc)
		return rc;
	rc = pool_heap_open(pool, O_RDWR, 0, F_WRLCK, error);
	if (rc)
		goto out;
	rc = pool_super_read(pool->heap_fd, &first, &copy);
	if (rc) {
		error_set(error, rc, "%s/heap: %s", pool->path, strerror(-rc));
		goto out;
	}
	bad_first = pool_super_judge(&first, pool->path, error);
	bad_copy = pool_super_judge(&copy, pool->path, NULL);
	/* Writing into a truncated file would make it longer and hide that. */
	whole = bad_first ? copy.heap_bytes : first.heap_bytes;
	if (fstat(pool->heap_fd, &st) != 0 || st.st_size < (off_t)(SUPER_COPY_OFF + sizeof(copy)) ||
	    (!(bad_first && bad_copy) && (uint64_t)st.st_size != whole)) {
		rc = error_set(error, -EUCLEAN, "%s/heap: truncated; run mkfs.cxlshm --force to make the pool anew",
			       pool->path);
		goto out;
	}
	if (bad_first && bad_copy) {
		rc = bad_first;
		goto out;
	}
	if (error)
		error->text[0] = 0;
	if (!bad_first && !memcmp(&first, &copy, sizeof(first)))
		goto out;
	rc = pool_super_write(pool->heap_fd, bad_first ? &copy : &first);
	rc = rc ? error_set(error, rc, "%s/heap: %s", pool->path, strerror(-rc)) : 1;
out:
	pool_unmap(pool);
	return rc;
}
