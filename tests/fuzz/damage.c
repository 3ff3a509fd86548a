/* SPDX-License-Identifier: MIT */
/*
 * Pools to be damaged: making them, putting them back as they were, and which of their bytes mean something.
 */
#include "damage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define RESTORE_PAGE 4096u

/* ---- making pools ---- */

static void furnish(struct cxlshm_client *c)
{
	cxlshm_ref ref, child, cells, queue, dir;
	char name[40];

	MUST(cxlshm_mkdir(c, 0, "dir", 0700, &dir));
	MUST(cxlshm_mkdir(c, 0, "dir/inner", 0700, NULL));
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "dir/many%d", i);
		MUST(cxlshm_mknod(c, 0, name, S_IFIFO | 0600, NULL));
	}
	MUST(cxlshm_create(c, 0, "file", 10000, 0600, &ref));
	MUST(cxlshm_link(c, ref, 0, "dir/inner/hard", 0));
	MUST(cxlshm_setxattr(c, ref, "user.some", "value", 5, 0));
	MUST(cxlshm_setxattr(c, ref, "user.other", "another value", 13, 0));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_create(c, dir, "empty", 0, 0600, NULL));
	MUST(cxlshm_symlink(c, "dir/inner", 0, "symlink", NULL));
	MUST(cxlshm_alloc_with(c, 100, 4, 0, &ref));
	MUST(cxlshm_alloc_with(c, 200, 4, CXLSHM_CELLS, &cells));
	for (uint32_t i = 0; i < 3; i++) {
		MUST(cxlshm_alloc(c, 40, &child));
		MUST(cxlshm_field_store(c, ref, i, child));
		MUST(cxlshm_cell_store(c, cells, i, child));
		MUST(cxlshm_release(c, child));
	}
	MUST(cxlshm_link(c, ref, 0, "fields", 0600));
	MUST(cxlshm_link(c, cells, dir, "cells", 0600));
	MUST(cxlshm_release(c, cells));
	for (unsigned flags = 0; flags < 2; flags++) {
		MUST(cxlshm_queue_create(c, 4, flags ? CXLSHM_SPSC : 0, &queue));
		MUST(cxlshm_link(c, queue, 0, flags ? "spsc" : "queue", 0600));
		for (int i = 0; i < 2; i++) {
			MUST(cxlshm_attach(c, ref, &child));
			MUST(cxlshm_queue_send(c, queue, child));
		}
		MUST(cxlshm_release(c, queue));
	}
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_alloc(c, 30000, &ref));
	MUST(cxlshm_link(c, ref, 0, "large", 0600));
	MUST(cxlshm_release(c, ref));
	MUST(cxlshm_release(c, dir));
}

/* Points to die at: NULL is nobody.  What the dying client does passes all of them. */
static const char *const points[DAMAGE_IMAGES] = {
	NULL, "page.collect_block", "page.push_next", "ref.bury_linked", "ref.detach_counted", "cell.exchange_swapped",
	"names.renamed", "queue.send_swapped", "segment.claim_swapped", "extent.created", "ref.move_first",
	"segment.grow_counted", "names.move_taken", "segment.shrink_counted", "segment.release_swapped",
};

const char *damage_image_name(unsigned image)
{
	return points[image] ? points[image] : "whole";
}

struct dying {
	const char *point;
	struct pool *pool;
};

static void die_hook(void *arg, struct client *c, unsigned point)
{
	struct dying *dying = arg;

	(void)c;
	if (!strcmp(crash_point_name(point), dying->point))
		kill(getpid(), SIGKILL);
}

/* In a child: hold references of all kinds, then pass every crash point of the list. */
static void live_and_die(const char *dir, const char *point)
{
	struct dying dying = {.point = point};
	struct cxlshm_pool *pool;
	struct cxlshm_client *a, *b;
	cxlshm_ref ref, parent, foreign[8], fields, queue, large;
	uint64_t token, tokens[8];

	MUST(cxlshm_pool_open(dir, 0, &pool, NULL));
	MUST(cxlshm_join(pool, "dying", 0, &a));
	MUST(cxlshm_join(pool, "dying too", 0, &b));
	for (int i = 0; i < 8; i++) {
		MUST(cxlshm_alloc_with(a, 64, 2, 0, &ref));
		MUST(cxlshm_export(a, ref, &tokens[i]));
		MUST(cxlshm_import(b, tokens[i], &foreign[i]));
	}
	/* Two exports wait, two blocks lie on the remote list, a tree hangs on a root. */
	MUST(cxlshm_alloc(a, 100, &ref));
	MUST(cxlshm_export(a, ref, &token));
	MUST(cxlshm_release(b, foreign[0]));
	MUST(cxlshm_release(b, foreign[1]));
	MUST(cxlshm_alloc_with(b, 64, 2, 0, &parent));
	MUST(cxlshm_field_store(b, parent, 0, foreign[2]));
	MUST(cxlshm_field_store(b, parent, 1, foreign[3]));
	MUST(cxlshm_lookup(b, 0, "fields", 0, &fields));
	MUST(cxlshm_lookup(b, 0, "queue", 0, &queue));
	for (int i = 0; i < 300; i++)
		MUST(cxlshm_attach(b, fields, &ref));	/* more roots than the slot's own */
	dying.pool = (struct pool *)pool;
	dying.pool->crash_arg = &dying;
	dying.pool->crash_hook = die_hook;
	MUST(cxlshm_create(b, 0, "made", 5000, 0600, &ref));
	MUST(cxlshm_alloc(b, 300000, &large));
	MUST(cxlshm_rename(b, 0, "dir/many1", 0, "dir/many2", 0));
	MUST(cxlshm_field_swap(b, parent, 1, &foreign[4]));
	MUST(cxlshm_queue_send(b, queue, foreign[5]));
	for (int i = 0; i < 20; i++)
		if (cxlshm_alloc(a, 20000, &ref))	/* collects and claims */
			break;
	for (int i = 0; i < 3000; i++)
		if (cxlshm_alloc_with(a, 64, 2, 0, &ref))
			break;
	cxlshm_release(b, parent);
	(void)cxlshm_rename(b, 0, "dir/inner", 0, "inner", 0);
	cxlshm_release(b, large);
	cxlshm_leave(b);
	_exit(0);
}

/* A second name of the heap file, beside the folder: who makes the pool anew deletes the first. */
static void heap_link(const struct damage *d, char *path, size_t size)
{
	snprintf(path, size, "%s.heap", d->dir);
}

static void map_heap(struct damage *d)
{
	char path[100], link_path[100];
	struct stat st;
	DIR *folder;
	struct dirent *entry;
	int fd;

	snprintf(path, sizeof(path), "%s/heap", d->dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	MUST(fd < 0 || fstat(fd, &st));
	heap_link(d, link_path, sizeof(link_path));
	MUST(link(path, link_path));
	d->heap_bytes = (uint64_t)st.st_size;
	d->heap = mmap(NULL, d->heap_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	MUST(d->heap == MAP_FAILED);
	d->heap_fd = fd;
	d->good = malloc(d->heap_bytes);
	d->zero = malloc(d->heap_bytes / RESTORE_PAGE);
	MUST(!d->good || !d->zero || d->heap_bytes % RESTORE_PAGE);
	memcpy(d->good, d->heap, d->heap_bytes);
	for (uint64_t page = 0; page < d->heap_bytes / RESTORE_PAGE; page++) {
		const char *at = d->good + page * RESTORE_PAGE;

		d->zero[page] = !at[0] && !memcmp(at, at + 1, RESTORE_PAGE - 1);
	}
	memcpy(&d->super, d->good, sizeof(d->super));
	snprintf(path, sizeof(path), "%s/x", d->dir);
	folder = opendir(path);
	MUST(!folder || fstat(dirfd(folder), &st));
	d->folder_mode = st.st_mode & 07777;
	d->extents = 0;
	while ((entry = readdir(folder)))
		if (entry->d_name[0] != '.' && d->extents < 8) {
			MUST(fstatat(dirfd(folder), entry->d_name, &st, 0));
			snprintf(d->extent[d->extents], sizeof(d->extent[0]), "%.31s", entry->d_name);
			d->extent_mode[d->extents] = st.st_mode & 07777;
			d->extent_bytes[d->extents++] = st.st_size;
		}
	closedir(folder);
}

static void make_dir(struct damage *d)
{
	const char *in = getenv("CXLSHM_DAMAGE_DIR");	/* its maker removes what those that die leave in it */

	if (!in)
		in = access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm";
	snprintf(d->dir, sizeof(d->dir), "%s/cxlshm-damage-XXXXXX", in);
	MUST(!mkdtemp(d->dir));
}

/* The same key for the directories' hashes every time, so that a case is the same one when it is run again. */
static void set_key(const char *dir)
{
	struct super_fmt super;
	char path[100];
	int fd;

	snprintf(path, sizeof(path), "%s/heap", dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	MUST(fd < 0 || pread(fd, &super, sizeof(super), SUPER_OFF) != sizeof(super));
	super.hash_key[0] = 1;
	super.hash_key[1] = 2;
	super.checksum = pool_super_checksum(&super);
	MUST(pool_super_write(fd, &super));
	close(fd);
}

void damage_clone(struct damage *d, const struct damage *from)
{
	char command[200];

	memset(d, 0, sizeof(*d));
	d->image = from->image;
	make_dir(d);
	snprintf(command, sizeof(command), "cp -a '%s/.' '%s'", from->dir, d->dir);
	MUST(system(command));
	map_heap(d);
}

void damage_make(struct damage *d, unsigned image)
{
	struct cxlshm_pool_options options = {
		.size_bytes = DAMAGE_POOL_BYTES, .client_slots = 4, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct cxlshm_error error;
	struct cxlshm_client *c;
	struct cxlshm_pool *pool;
	int status;
	pid_t pid;

	memset(d, 0, sizeof(*d));
	d->image = image;
	make_dir(d);
	if (cxlshm_pool_create(d->dir, &options, &error)) {
		fprintf(stderr, "%s\n", error.text);
		exit(3);
	}
	set_key(d->dir);
	MUST(cxlshm_pool_open(d->dir, 0, &pool, NULL));
	MUST(cxlshm_join(pool, "maker", 0, &c));
	furnish(c);
	cxlshm_pool_close(pool);
	if (points[image]) {
		fflush(NULL);
		pid = fork();
		if (!pid)
			live_and_die(d->dir, points[image]);
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		if (!WIFSIGNALED(status))
			fprintf(stderr, "image %u: %s was not reached (status 0x%x)\n", image, points[image],
				(unsigned)status);
		MUST(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
	}
	map_heap(d);
}

static int known_extent(const struct damage *d, const char *name)
{
	for (unsigned i = 0; i < d->extents; i++)
		if (!strcmp(name, d->extent[i]))
			return 1;
	return 0;
}

/* By system calls, and holes where the copy has zeros: a page that is touched through the mapping costs a fault each time. */
static void restore_heap(struct damage *d)
{
	for (uint64_t at = 0, end; at < d->heap_bytes; at = end) {
		char zero = d->zero[at / RESTORE_PAGE];

		for (end = at + RESTORE_PAGE; end < d->heap_bytes && d->zero[end / RESTORE_PAGE] == zero; end += RESTORE_PAGE)
			;
		if (zero)
			MUST(fallocate(d->heap_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)(end - at)));
		else
			MUST(pwrite(d->heap_fd, d->good + at, end - at, (off_t)at) != (ssize_t)(end - at));
	}
}

/* In its folder there may be no heap, or another one. */
static void restore_names(const struct damage *d)
{
	char path[100], link_path[100];
	struct stat ours, there;

	snprintf(path, sizeof(path), "%s/heap", d->dir);
	MUST(fstat(d->heap_fd, &ours));
	if (stat(path, &there) || there.st_ino != ours.st_ino) {
		heap_link(d, link_path, sizeof(link_path));
		(void)unlink(path);
		MUST(link(link_path, path));
	}
}

void damage_restore(struct damage *d)
{
	struct dirent *entry;
	char path[100];
	DIR *folder;

	restore_names(d);
	restore_heap(d);
	snprintf(path, sizeof(path), "%s/x", d->dir);
	folder = opendir(path);
	if (!folder) {
		MUST(mkdir(path, 0700) || chmod(path, d->folder_mode));
		folder = opendir(path);
	}
	MUST(!folder);
	while ((entry = readdir(folder)))
		if (entry->d_name[0] != '.' && !known_extent(d, entry->d_name))
			unlinkat(dirfd(folder), entry->d_name, 0);
	for (unsigned i = 0; i < d->extents; i++) {
		struct stat st;
		int fd;

		if (!fstatat(dirfd(folder), d->extent[i], &st, 0) && st.st_size == d->extent_bytes[i])
			continue;
		fd = openat(dirfd(folder), d->extent[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		MUST(fd < 0 || ftruncate(fd, d->extent_bytes[i]) || fchmod(fd, d->extent_mode[i]));
		close(fd);
	}
	closedir(folder);
}

int damage_differs_only_at(const struct damage *d, uint64_t at, const char *word)
{
	char page[RESTORE_PAGE], path[140];
	uint64_t blocks = 0;
	struct stat st;

	for (uint64_t off = 0; off < d->heap_bytes; off += RESTORE_PAGE) {
		int here = at / RESTORE_PAGE == off / RESTORE_PAGE;

		if (d->zero[off / RESTORE_PAGE] && !here)
			continue;
		blocks++;
		memcpy(page, d->good + off, sizeof(page));
		if (here)
			memcpy(page + at % RESTORE_PAGE, word, 8);
		if (memcmp(page, d->heap + off, sizeof(page)))
			return 0;
	}
	/* Where there are zeros is a hole, and whoever writes there fills it. */
	MUST(fstat(d->heap_fd, &st));
	if (st.st_size != (off_t)d->heap_bytes || (uint64_t)st.st_blocks * 512 != blocks * RESTORE_PAGE)
		return 0;
	snprintf(path, sizeof(path), "%s/heap", d->dir);
	if (stat(path, &st) || st.st_nlink != 2)
		return 0;
	for (unsigned i = 0; i < d->extents; i++) {
		snprintf(path, sizeof(path), "%s/x/%s", d->dir, d->extent[i]);
		if (stat(path, &st) || st.st_size != d->extent_bytes[i])
			return 0;
	}
	return 1;
}

void damage_make_host(struct damage *d)
{
	struct super_fmt super = d->super;

	super.failure_domain = CXLSHM_FAILURE_HOST;
	super.checksum = pool_super_checksum(&super);
	memcpy(d->heap + SUPER_OFF, &super, sizeof(super));
	memcpy(d->heap + SUPER_COPY_OFF, &super, sizeof(super));
}

void damage_free(struct damage *d)
{
	char command[120], link_path[100];

	heap_link(d, link_path, sizeof(link_path));
	(void)unlink(link_path);
	munmap(d->heap, d->heap_bytes);
	close(d->heap_fd);
	free(d->good);
	free(d->zero);
	snprintf(command, sizeof(command), "rm -rf '%s'", d->dir);
	(void)!system(command);
}

/* ---- what there is to damage ---- */

typedef void visitor(void *arg, uint64_t off, uint64_t bytes, const char *what);

static void slot_ranges(const struct damage *d, visitor *visit, void *arg)
{
	const struct shared_fmt *shared = (const struct shared_fmt *)(d->good + SHARED_OFF);

	for (uint64_t i = 0; i < *(const uint64_t *)&shared->slots_high; i++) {
		uint64_t slot = d->super.slots_off + i * d->super.slot_stride_bytes;
		uint64_t roots = slot + d->super.roots_off, rows = 4;

		visit(arg, slot, offsetof(struct slot_fmt, pad4), "slot");
		visit(arg, slot + offsetof(struct slot_fmt, exports), EXPORTS * sizeof(struct cell_fmt), "exports");
		visit(arg, slot + d->super.era_row_off, 8ull * (d->super.slots + 1), "eras");
		while (rows < 24 && *(const uint64_t *)(d->good + roots + 16 * rows))
			rows++;
		visit(arg, roots, 16 * rows, "roots");
	}
}

static void block_ranges(const struct damage *d, uint64_t block, uint64_t block_bytes, visitor *visit, void *arg)
{
	uint64_t value = *(const uint64_t *)(d->good + block);
	uint64_t bytes = 16;

	switch (object_state(value)) {
	case OBJECT_FREE:
		break;
	case OBJECT_LIMBO:
		bytes = 24;
		break;
	default:
		switch (object_kind(value)) {
		case OBJECT_DATA:
			bytes += object_slots(value) * object_slot_bytes(value);
			break;
		case OBJECT_ENTRY:
			bytes = 16 + 64;
			break;
		case OBJECT_XATTRS:
			bytes = 16 + 96;
			break;
		case OBJECT_QUEUE:
			bytes += object_slots(value) * 16 + sizeof(struct queue_fmt);
			break;
		case OBJECT_NODE:
			bytes += object_slots(value) * 16;
			break;
		default:
			bytes += object_slots(value) * 16 + sizeof(struct attr_fmt);
		}
	}
	visit(arg, block, bytes < block_bytes ? bytes : block_bytes, "object");
	if (value & OBJECT_SLACK)
		visit(arg, block + block_bytes - 16, 16, "slack");
}

static void segment_ranges(const struct damage *d, uint32_t segment, visitor *visit, void *arg)
{
	uint64_t start = (uint64_t)segment << d->super.segment_shift;
	const struct page_fmt *entry = (const struct page_fmt *)(d->good + start);

	visit(arg, start, sizeof(*entry), "page");
	for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++) {
		const struct page_fmt *run = entry + p;
		uint32_t kind = *(const uint32_t *)&run->kind, frontier = *(const uint32_t *)&run->frontier, free = 0;
		uint64_t page = start + ((uint64_t)p << d->super.page_shift);

		visit(arg, start + p * sizeof(*entry), kind == PAGE_FREE ? 4 : sizeof(*entry), "page");
		if (kind == PAGE_ROOTS)
			visit(arg, page, 16 * 8, "roots");
		if (kind != PAGE_BLOCKS)
			continue;
		for (uint32_t i = 0; i < frontier; i++) {
			uint64_t block = page + run->first + i * run->block_bytes;

			if (object_state(*(const uint64_t *)(d->good + block)) == OBJECT_FREE && ++free > 2)
				continue;
			block_ranges(d, block, run->block_bytes, visit, arg);
		}
	}
}

void damage_ranges(const struct damage *d, visitor *visit, void *arg)
{
	if (!d->image) {
		visit(arg, SUPER_OFF, sizeof(struct super_fmt), "superblock");
		visit(arg, SUPER_COPY_OFF, sizeof(struct super_fmt), "superblock copy");
	}
	visit(arg, SHARED_OFF, sizeof(struct shared_fmt), "shared");
	visit(arg, HINTS_OFF, 16ull * hint_words(d->super.segments), "hints");
	visit(arg, d->super.segment_table_off, d->super.segments * sizeof(struct segment_fmt), "segment table");
	slot_ranges(d, visit, arg);
	for (uint32_t s = d->super.first_segment; s < d->super.segments; s++) {
		const uint64_t *word = (const uint64_t *)(d->good + d->super.segment_table_off + s * sizeof(struct segment_fmt));
		enum segment_state state = segment_value_state(*word);

		if (state == SEGMENT_OWNED || state == SEGMENT_ORPHAN)
			segment_ranges(d, s, visit, arg);
	}
}
