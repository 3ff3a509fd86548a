/* SPDX-License-Identifier: MIT */
/*
 * Inodes; see inode.h.
 *
 * An inode is allocated zeroed and filled while only its maker's root points at it, so death on the way leaves a private
 * object that recovery drops.  Afterwards each attribute is a word of its own that any holder may store; names are
 * counted in a stamped word, which names_todo.c changes.  A file's size, blocks and times are its extent's.
 */
#include "inode.h"

#include <time.h>
#include <unistd.h>


#define NS_PER_S 1000000000
#define SECONDS_MAX (INT64_MAX / NS_PER_S - 1)

/* Times are kept as signed nanoseconds since 1970: the years 1678 to 2261. */
static uint64_t from_timespec(const struct timespec *t)
{
	return (uint64_t)((int64_t)t->tv_sec * NS_PER_S + t->tv_nsec);
}

static struct timespec to_timespec(uint64_t word)
{
	int64_t ns = (int64_t)word, below = ns % NS_PER_S < 0;

	return (struct timespec){.tv_sec = ns / NS_PER_S - below, .tv_nsec = ns % NS_PER_S + below * NS_PER_S};
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return from_timespec(&now);
}

static int later(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec ? a->tv_sec > b->tv_sec : a->tv_nsec > b->tv_nsec;
}

enum cxlshm_kind inode_public_kind(enum object_kind kind)
{
	switch (kind) {
	case OBJECT_DATA:
		return CXLSHM_KIND_HEAP;
	case OBJECT_FILE:
		return CXLSHM_KIND_FILE;
	case OBJECT_DIRECTORY:
		return CXLSHM_KIND_DIRECTORY;
	case OBJECT_SYMLINK:
		return CXLSHM_KIND_SYMLINK;
	case OBJECT_SPECIAL:
		return CXLSHM_KIND_SPECIAL;
	case OBJECT_NAMED:
		return CXLSHM_KIND_NAMED;
	case OBJECT_QUEUE:
		return CXLSHM_KIND_QUEUE;
	case OBJECT_NODE:
	case OBJECT_ENTRY:
	case OBJECT_XATTRS:
		return CXLSHM_KIND_INTERNAL;
	case OBJECT_KINDS:
		break;
	}
	return CXLSHM_KIND_NONE;
}

struct attr_fmt *inode_attr(const struct client *c, uint64_t off, enum object_kind *kind)
{
	struct object_fmt *object = off_object(c->pool, off);
	enum object_kind k;
	uint64_t header;

	if (!off_is_object(c->pool, off))
		return NULL;
	header = a128_value_relaxed(&object->word);
	k = object_kind(header);
	if (!inode_is(k) || !(header & OBJECT_CELLS) || object_slots(header) != inode_cells(k) ||
	    !off_in_heap(c->pool, off, inode_attr_at(k) + sizeof(struct attr_fmt)))
		return NULL;
	if (kind)
		*kind = k;
	return object_attr(object, header);
}

uint64_t inode_extent(const struct client *c, uint64_t off)
{
	enum object_kind kind;
	const struct attr_fmt *attr = inode_attr(c, off, &kind);

	return attr && kind == OBJECT_FILE ? a64_load_acquire(&attr->extent) : 0;
}

/* ---- making ---- */

static int make(struct client *c, enum object_kind kind, uint32_t mode, uint64_t tail_bytes, struct root_fmt **row)
{
	const struct alloc_kind alloc = {.kind = kind, .slots = inode_cells(kind), .cells = 1, .zero = 1};
	uint64_t now = now_ns();
	struct attr_fmt *attr;
	int rc;

	rc = alloc_object(c, 16 * inode_cells(kind) + sizeof(*attr) + tail_bytes, &alloc, row);
	if (rc)
		return rc;
	attr = inode_attr(c, a64_load_relaxed(&(*row)->object), NULL);
	a64_store_relaxed(&attr->mode, mode);
	a64_store_relaxed(&attr->owner, (uint64_t)geteuid() | (uint64_t)getegid() << 32);
	a64_store_relaxed(&attr->atime_ns, now);
	a64_store_relaxed(&attr->mtime_ns, now);
	a64_store_relaxed(&attr->ctime_ns, now);
	a64_store_relaxed(&attr->btime_ns, now);
	persist(c->pool, attr, sizeof(*attr));
	return 0;
}

int inode_make(struct client *c, enum object_kind kind, uint32_t mode, struct root_fmt **row)
{
	return make(c, kind, mode, 0, row);
}

int inode_make_file(struct client *c, uint64_t bytes, mode_t mode, struct root_fmt **out)
{
	struct attr_fmt *attr;
	struct root_fmt *row;
	int rc;

	if (bytes > INT64_MAX)
		return -EFBIG;
	rc = make(c, OBJECT_FILE, S_IFREG | (mode & 07777), 0, &row);
	if (rc)
		return rc;
	attr = inode_attr(c, a64_load_relaxed(&row->object), NULL);
	rc = extent_make(c, &attr->extent);
	if (!rc && bytes)
		rc = extent_resize(c, a64_load_relaxed(&attr->extent), bytes);
	if (rc)
		ref_drop_row(c, row);
	else
		*out = row;
	return rc;
}

int inode_make_symlink(struct client *c, const char *target, struct root_fmt **out)
{
	size_t bytes = strnlen(target, INODE_TARGET_MAX + 1);
	struct attr_fmt *attr;
	struct root_fmt *row;
	int rc;

	if (!bytes)
		return -EINVAL;
	if (bytes > INODE_TARGET_MAX)
		return -ENAMETOOLONG;
	rc = make(c, OBJECT_SYMLINK, S_IFLNK | 0777, bytes, &row);
	if (rc)
		return rc;
	attr = inode_attr(c, a64_load_relaxed(&row->object), NULL);
	memcpy(attr + 1, target, bytes);
	a64_store_relaxed(&attr->length, bytes);
	persist(c->pool, attr, sizeof(*attr) + bytes);
	*out = row;
	return 0;
}

/* Let a private object's cell refer to `to`, which the caller holds. */
static int fill_cell(struct client *c, struct root_fmt *row, uint32_t i, uint64_t to)
{
	struct object_fmt *object = off_object(c->pool, a64_load_relaxed(&row->object));
	struct root_fmt *held;
	int rc;

	rc = root_take(c, &held);
	if (rc)
		return rc;
	rc = ref_attach(c, to, held);
	if (!rc)
		ref_exchange_private(c, held, object_slot(object, OBJECT_CELLS, i));
	root_give(c, held);
	return rc;
}

int inode_make_named(struct client *c, uint64_t data, mode_t mode, struct root_fmt **out)
{
	struct root_fmt *row;
	int rc;

	rc = make(c, OBJECT_NAMED, S_IFREG | (mode & 07777), 0, &row);
	if (rc)
		return rc;
	rc = fill_cell(c, row, NAMED_DATA, data);
	if (rc)
		ref_drop_row(c, row);
	else
		*out = row;
	return rc;
}

int inode_make_directory(struct client *c, uint64_t parent, mode_t mode, struct root_fmt **out)
{
	struct root_fmt *row;
	int rc;

	rc = make(c, OBJECT_DIRECTORY, S_IFDIR | (mode & 07777), 0, &row);
	if (rc)
		return rc;
	rc = fill_cell(c, row, DIR_PARENT, parent);
	if (rc)
		ref_drop_row(c, row);
	else
		*out = row;
	return rc;
}

/* ---- reading ---- */

static int stat_file(struct client *c, const struct attr_fmt *attr, struct cxlshm_stat *st)
{
	struct stat extent;
	int rc = extent_stat(c->pool, a64_load_acquire(&attr->extent), &extent);

	if (rc)
		return rc == -ENOENT ? -EUCLEAN : rc;
	st->size_bytes = (uint64_t)extent.st_size;
	st->used_bytes = (uint64_t)extent.st_blocks * 512;
	st->atime = extent.st_atim;
	st->mtime = extent.st_mtim;
	if (later(&extent.st_ctim, &st->ctime))
		st->ctime = extent.st_ctim;
	return 0;
}

static int stat_inode(struct client *c, const struct attr_fmt *attr, enum object_kind kind, uint64_t off,
		      struct cxlshm_stat *st)
{
	uint64_t owner = a64_load_relaxed(&attr->owner);
	uint64_t data;

	st->mode = (uint32_t)a64_load_relaxed(&attr->mode);
	st->uid = (uid_t)owner;
	st->gid = (gid_t)(owner >> 32);
	st->links = a128_load_acquire(&attr->links).value & COUNTER_MASK;
	st->atime = to_timespec(a64_load_relaxed(&attr->atime_ns));
	st->mtime = to_timespec(a64_load_relaxed(&attr->mtime_ns));
	st->ctime = to_timespec(a64_load_relaxed(&attr->ctime_ns));
	st->btime = to_timespec(a64_load_relaxed(&attr->btime_ns));
	switch (kind) {
	case OBJECT_FILE:
		return stat_file(c, attr, st);
	case OBJECT_DIRECTORY:
		st->size_bytes = a128_load_acquire(&attr->entries).value & COUNTER_MASK;
		break;
	case OBJECT_SYMLINK:
		st->size_bytes = a64_load_relaxed(&attr->length);
		break;
	case OBJECT_NAMED:
		/* The cell never changes, and we hold the inode. */
		data = a128_load_acquire(&object_cell(off_object(c->pool, off), NAMED_DATA)->word).value;
		if (!off_is_object(c->pool, data))
			return -EUCLEAN;
		st->data_id = data;
		st->size_bytes = alloc_size(c, data, a128_value_relaxed(&off_object(c->pool, data)->word));
		st->used_bytes = st->size_bytes;
		break;
	default:
		st->size_bytes = 0;
		break;
	}
	return 0;
}

int inode_stat(struct client *c, uint64_t off, struct cxlshm_stat *out)
{
	uint64_t header = a128_value_relaxed(&off_object(c->pool, off)->word);
	struct attr_fmt *attr = inode_attr(c, off, NULL);
	struct cxlshm_stat st = {
		.id = off,
		.data_id = off,
		.kind = inode_public_kind(object_kind(header)),
		.refs = object_count(header),
		.size_bytes = alloc_size(c, off, header),
	};
	int rc;

	st.used_bytes = st.size_bytes;
	if (inode_is(object_kind(header))) {
		if (!attr)
			return -EUCLEAN;
		rc = stat_inode(c, attr, object_kind(header), off, &st);
		if (rc)
			return rc;
	}
	*out = st;
	return 0;
}

int64_t inode_readlink(struct client *c, uint64_t off, char *target, size_t size)
{
	enum object_kind kind;
	struct attr_fmt *attr = inode_attr(c, off, &kind);
	uint64_t bytes;
	size_t cut;

	if (!attr || kind != OBJECT_SYMLINK)
		return -EINVAL;
	bytes = a64_load_relaxed(&attr->length);
	if (bytes > INODE_TARGET_MAX || !off_in_heap(c->pool, off_of(c->pool, attr + 1), bytes))
		return -EUCLEAN;
	if (size) {
		cut = bytes < size ? (size_t)bytes : size - 1;
		memcpy(target, attr + 1, cut);
		target[cut] = 0;
	}
	return (int64_t)bytes;
}

/* ---- changing ---- */

/* Replace the bits of the word that mask names. */
static void set_bits(struct client *c, struct a64 *word, uint64_t mask, uint64_t bits)
{
	uint64_t old;

	/* Pairs: inode_stat().  Crash before: as it was.  After: changed, and what inode_set() does before this, too. */
	do
		old = a64_load_acquire(word);
	while (!a64_cas_acq_rel(word, old, (old & ~mask) | (bits & mask)));
	persist(c->pool, word, sizeof(*word));
	CRASH_POINT(c, inode, bits_set);
}

/* Whoever stores last, wins.  Pairs and Crash: as in set_bits(). */
static void set_time(struct client *c, struct a64 *word, uint64_t ns)
{
	a64_store_release(word, ns);
	persist(c->pool, word, sizeof(*word));
	CRASH_POINT(c, inode, time_set);
}

/* As the kernel does for file systems: a time that cannot be kept becomes the nearest one that can.  0 if it is none. */
static int clamp_time(struct timespec *t)
{
	if (t->tv_sec > SECONDS_MAX || t->tv_sec < -SECONDS_MAX)
		*t = (struct timespec){.tv_sec = t->tv_sec < 0 ? -SECONDS_MAX : SECONDS_MAX};
	return t->tv_nsec >= 0 && t->tv_nsec < NS_PER_S;
}

/* Each of these is a word, or a file's times, of its own.  Crash: those that come first have been set, up to any of them. */
int inode_set(struct client *c, uint64_t off, const struct cxlshm_stat *st, unsigned mask)
{
	struct timespec times[2] = {st->atime, st->mtime}, ctime = st->ctime;
	enum object_kind kind;
	struct attr_fmt *attr = inode_attr(c, off, &kind);
	int rc;

	if (!attr)
		return -EINVAL;
	if ((mask & CXLSHM_SET_ATIME && !clamp_time(&times[0])) || (mask & CXLSHM_SET_MTIME && !clamp_time(&times[1])) ||
	    (mask & CXLSHM_SET_CTIME && !clamp_time(&ctime)))
		return -EINVAL;
	if (kind == OBJECT_FILE && mask & (CXLSHM_SET_ATIME | CXLSHM_SET_MTIME)) {
		if (!(mask & CXLSHM_SET_ATIME))
			times[0].tv_nsec = UTIME_OMIT;
		if (!(mask & CXLSHM_SET_MTIME))
			times[1].tv_nsec = UTIME_OMIT;
		rc = extent_set_times(c, a64_load_acquire(&attr->extent), times);
		if (rc)
			return rc;
	}
	if (mask & CXLSHM_SET_MODE)
		set_bits(c, &attr->mode, 07777, st->mode);
	if (mask & CXLSHM_SET_UID)
		set_bits(c, &attr->owner, 0xffffffffull, st->uid);
	if (mask & CXLSHM_SET_GID)
		set_bits(c, &attr->owner, 0xffffffffull << 32, (uint64_t)st->gid << 32);
	if (mask & CXLSHM_SET_ATIME)
		set_time(c, &attr->atime_ns, from_timespec(&times[0]));
	if (mask & CXLSHM_SET_MTIME)
		set_time(c, &attr->mtime_ns, from_timespec(&times[1]));
	if (mask)
		set_time(c, &attr->ctime_ns, mask & CXLSHM_SET_CTIME ? from_timespec(&ctime) : now_ns());
	return 0;
}

void inode_touch(struct client *c, uint64_t off, unsigned times)
{
	struct attr_fmt *attr = inode_attr(c, off, NULL);
	uint64_t now = now_ns();

	if (!attr)
		return;
	if (times & INODE_MTIME)
		set_time(c, &attr->mtime_ns, now);
	if (times & INODE_CTIME)
		set_time(c, &attr->ctime_ns, now);
}
