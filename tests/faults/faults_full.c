/* SPDX-License-Identifier: MIT */
/*
 * Faults of room: a tmpfs that is full at every call that needs some.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <unistd.h>

#include "faults.h"

/* Fill what is left of a file system. */
static void fill(const char *folder)
{
	static char bytes[4096];
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/filler", folder);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	MUST(fd < 0);
	while (write(fd, bytes, sizeof(bytes)) > 0)
		;
	REQUIRE(errno == ENOSPC);
	close(fd);
}

static void empty(const char *folder)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/filler", folder);
	MUST(unlink(path));
}

/* ---- every call that needs room ---- */

struct world {
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
	cxlshm_ref holder, file, spare;
	const char *prefix;	/* of names */
	int64_t file_bytes;
};

#define ALLOCATING 16

static void name_of(const struct world *w, int which, int turn, char name[32])
{
	snprintf(name, 32, "%s%d-%d", w->prefix, which, turn);
}

/* One call that may need memory.  0 or what it answered. */
static int allocating(struct world *w, int which, int turn)
{
	cxlshm_ref ref = 0;
	char name[32];
	int rc;

	name_of(w, which, turn, name);
	switch (which) {
	case 0: rc = cxlshm_alloc(w->c, 100, &ref); break;
	case 1: rc = cxlshm_alloc(w->c, 5000, &ref); break;
	case 2: rc = cxlshm_alloc(w->c, 100000, &ref); break;
	case 3: rc = cxlshm_alloc(w->c, 3 * MIB, &ref); break;
	case 4: rc = cxlshm_alloc_with(w->c, 50000, 0, CXLSHM_EXTENT, &ref); break;
	case 5: rc = cxlshm_alloc_with(w->c, 8192, 0, CXLSHM_PAGE_ALIGNED, &ref); break;
	case 6: rc = cxlshm_queue_create(w->c, 1000, 0, &ref); break;
	case 7: return cxlshm_create(w->c, 0, name, 50000, 0600, NULL);
	case 8: return cxlshm_mkdir(w->c, 0, name, 0700, NULL);
	case 9: return cxlshm_symlink(w->c, "somewhere", 0, name, NULL);
	case 10: return cxlshm_mknod(w->c, 0, name, S_IFIFO | 0600, NULL);
	case 11: return cxlshm_link(w->c, w->holder, 0, name, 0600);
	case 12: return cxlshm_setxattr(w->c, w->file, name, "0123456789abcdef", 16, 0);
	case 13: return cxlshm_resize(w->c, w->file, (uint64_t)(turn + 1) * 65536);
	case 14: return cxlshm_reserve(w->c, w->file, 0, (uint64_t)turn * 65536, 65536);
	default: rc = cxlshm_attach(w->c, w->holder, &ref); break;
	}
	return rc;	/* kept until the client leaves */
}

/* It said no and did nothing: no name, no attribute, and sizes as they were. */
static void refused(struct world *w, int which, int turn)
{
	cxlshm_ref ref;
	char name[32];

	name_of(w, which, turn, name);
	REQUIRE(cxlshm_size(w->c, w->holder) == 100);
	REQUIRE(cxlshm_size(w->c, w->file) == w->file_bytes);
	/* To look takes a reference, and there may be room for no more. */
	MUST(cxlshm_release(w->c, w->spare));
	REQUIRE(cxlshm_lookup(w->c, 0, name, CXLSHM_INODE, &ref) == -ENOENT);
	REQUIRE(cxlshm_getxattr(w->c, w->file, name, NULL, 0) == -ENODATA);
	MUST(cxlshm_attach(w->c, w->holder, &w->spare));
}

static void full(const char *path, const char *folder)
{
	struct world w = {.prefix = "n", .file_bytes = 10000};
	struct cxlshm_counters counters;

	MUST(cxlshm_pool_open(path, 0, &w.pool, NULL));
	MUST(cxlshm_join(w.pool, "full", 0, &w.c));
	MUST(cxlshm_alloc(w.c, 100, &w.holder));
	MUST(cxlshm_create(w.c, 0, "file", 10000, 0600, &w.file));
	MUST(cxlshm_setxattr(w.c, w.file, "user.x", "y", 1, 0));
	MUST(cxlshm_attach(w.c, w.holder, &w.spare));
	fill(folder);
	for (int which = 0; which < ALLOCATING; which++) {
		int rc = 0, turn;

		for (turn = 0; turn < 400000; turn++) {
			rc = allocating(&w, which, turn);
			if (rc)
				break;
			if (which == 13 || (which == 14 && w.file_bytes < (turn + 1) * 65536))
				w.file_bytes = (turn + 1) * 65536;
		}
		if (rc != -ENOSPC) {
			printf("FAIL call %d answers %d after %d times\n", which, rc, turn);
			exit(1);
		}
		refused(&w, which, turn);
	}
	/* It was the file system that had no room: the pool itself has. */
	MUST(cxlshm_counters(w.pool, &counters));
	REQUIRE(counters.segments_free > 0);
	cxlshm_pool_close(w.pool);
	faults_in_order(path);
	empty(folder);
	/* With room again, each of them works. */
	w.prefix = "again";
	MUST(cxlshm_pool_open(path, 0, &w.pool, NULL));
	MUST(cxlshm_join(w.pool, "again", 0, &w.c));
	MUST(cxlshm_alloc(w.c, 100, &w.holder));
	MUST(cxlshm_lookup(w.c, 0, "file", 0, &w.file));
	for (int which = 0; which < ALLOCATING; which++)
		MUST(allocating(&w, which, 0));
	cxlshm_pool_close(w.pool);
	faults_in_order(path);
	printf("     %d kinds of calls were refused with ENOSPC\n", ALLOCATING);
}

/* A tmpfs of 12 MiB at dir that a plain pool of 8 MiB shares with others, in a mount namespace of its own. */
static void small_tmpfs(const char *dir, unsigned slots, char pool[POOL_PATH])
{
	if (geteuid() || unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		exit(SKIPPED);
	MUST(mount("faults", dir, "tmpfs", 0, "size=12m") ? errno : 0);
	snprintf(pool, POOL_PATH, "%s/pool", dir);
	faults_make(pool, 8 * MIB, slots);
}

/* What fill() has filled dir with, less so many bytes. */
static void make_room(const char *dir, uint64_t bytes)
{
	char filler[POOL_PATH];
	struct stat st;

	snprintf(filler, sizeof(filler), "%s/filler", dir);
	MUST(stat(filler, &st) ? errno : 0);
	MUST(truncate(filler, st.st_size - (off_t)bytes) ? errno : 0);
}

void faults_full_tmpfs(const char *dir)
{
	char pool[POOL_PATH];

	small_tmpfs(dir, 4, pool);
	full(pool, dir);
	MUST(umount2(dir, MNT_DETACH));
}

/* One object of several segments, and room for more and more of them: it is refused, or all of it is there. */
void faults_full_tmpfs_span(const char *dir)
{
	struct cxlshm_pool_info info;
	struct cxlshm_client *c;
	struct cxlshm_pool *p;
	char pool[POOL_PATH];
	cxlshm_ref ref;
	int rc = -ENOSPC, refused = 0;

	small_tmpfs(dir, 4, pool);
	MUST(cxlshm_pool_open(pool, 0, &p, NULL));
	MUST(cxlshm_pool_info(p, &info));
	MUST(cxlshm_join(p, NULL, 0, &c));
	fill(dir);
	for (int turn = 0; rc && turn < 20; turn++) {
		rc = cxlshm_alloc(c, 5 * info.segment_bytes / 2, &ref);
		REQUIRE(!rc || rc == -ENOSPC);
		refused += rc != 0;
		if (rc)	/* in halves, so that the first has room and the others have not */
			make_room(dir, info.segment_bytes / 2);
	}
	REQUIRE(!rc && refused >= 4);
	memset(cxlshm_ptr(c, ref), 1, 5 * info.segment_bytes / 2);	/* no SIGBUS */
	MUST(cxlshm_release(c, ref));
	cxlshm_pool_close(p);
	faults_in_order(pool);
	MUST(umount2(dir, MNT_DETACH));
}

/* A file made longer, whose last page was cut out of it: that page is wanted, too. */
void faults_full_tmpfs_tail(const char *dir)
{
	struct cxlshm_client *c;
	struct cxlshm_pool *p;
	char pool[POOL_PATH];
	cxlshm_ref ref;
	void *map;

	small_tmpfs(dir, 4, pool);
	MUST(cxlshm_pool_open(pool, 0, &p, NULL));
	MUST(cxlshm_join(p, NULL, 0, &c));
	MUST(cxlshm_alloc_with(c, 100, 0, CXLSHM_EXTENT, &ref));
	MUST(cxlshm_reserve(c, ref, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	fill(dir);
	for (int room = 0; room < 2; room++) {
		REQUIRE(cxlshm_resize(c, ref, 8192) == -ENOSPC);
		REQUIRE(cxlshm_size(c, ref) == 100);
		make_room(dir, 4096);
	}
	MUST(cxlshm_resize(c, ref, 8192));
	MUST(cxlshm_map(c, ref, 0, 8192, PROT_READ | PROT_WRITE, &map));
	memset(map, 1, 8192);
	MUST(cxlshm_unmap(c, map));
	MUST(cxlshm_release(c, ref));
	cxlshm_pool_close(p);
	faults_in_order(pool);
	MUST(umount2(dir, MNT_DETACH));
}

/* A slot whose pages cannot be had: a join is refused, and later works. */
void faults_full_tmpfs_join(const char *dir)
{
	struct cxlshm_client *c[16];
	struct cxlshm_pool *p;
	char pool[POOL_PATH];
	int joined = 0, rc = 0;

	small_tmpfs(dir, 16, pool);
	MUST(cxlshm_pool_open(pool, 0, &p, NULL));
	fill(dir);
	while (joined < 16 && !(rc = cxlshm_join(p, NULL, 0, &c[joined])))
		joined++;
	REQUIRE(rc == -ENOSPC);
	empty(dir);
	while (joined < 16)
		MUST(cxlshm_join(p, NULL, 0, &c[joined++]));
	cxlshm_pool_close(p);
	faults_in_order(pool);
	MUST(umount2(dir, MNT_DETACH));
}
