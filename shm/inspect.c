/* SPDX-License-Identifier: MIT */
/*
 * Lists of clients, objects and holders, and counters; see inspect.h for how memory is read.
 *
 * Objects are walked segment by segment: the segment's page table is read, then each run of blocks in
 * chunks of CHUNK bytes if its blocks are small, header by header if they are large.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "extent.h"
#include "inode.h"
#include "inspect.h"

#define CHUNK 65536u
#define ROOTS_FIRST (SLOT_ROOTS_BYTES / sizeof(struct root_fmt))

int inspect_read(const struct pool *pool, uint64_t off, void *to, size_t bytes)
{
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(pool->heap_fd, (char *)to + done, bytes - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			memset((char *)to + done, 0, bytes - done);
			break;
		}
		done += (size_t)n;
	}
	return 0;
}

static int usable(const struct pool *pool)
{
	return !pool ? -EINVAL : pool->forked ? -EOWNERDEAD : 0;
}

static uint32_t slots_high(const struct pool *pool)
{
	uint64_t high = a64_load_acquire(&pool->shared->slots_high);

	return high < pool->slots ? (uint32_t)high : pool->slots;
}

/* ---------------------------------------------------------------- clients */

/* The slot's fields; 0 if it is claimed, -ENOENT if not. */
static int read_slot(const struct pool *pool, uint32_t cid, struct slot_fmt *slot)
{
	int rc = inspect_read(pool, off_of(pool, pool_slot(pool, cid)), slot, sizeof(*slot));

	if (rc)
		return rc;
	slot->name[CLIENT_NAME_BYTES - 1] = 0;
	return (a64_load_relaxed(&slot->state) & 0xff) == SLOT_CLAIMED ? 0 : -ENOENT;
}

/* How many roots of the client refer to the object; of all objects if it is 0. */
static int count_roots(const struct pool *pool, uint32_t cid, const struct slot_fmt *slot, uint64_t object,
		       uint64_t *count)
{
	uint64_t page_bytes = 1ull << pool->page_shift;
	uint64_t left = pool->heap_bytes >> pool->page_shift;	/* pages a chain can have */
	uint64_t at = off_of(pool, pool_slot(pool, cid)) + pool->super->roots_off;
	uint64_t rows = ROOTS_FIRST, next = a64_load_relaxed(&slot->roots_next);
	struct root_fmt *row = malloc(page_bytes > SLOT_ROOTS_BYTES ? page_bytes : SLOT_ROOTS_BYTES);
	struct roots_fmt head;
	int rc;

	if (!row)
		return -ENOMEM;
	*count = 0;
	for (;;) {
		rc = inspect_read(pool, at, row, rows * sizeof(*row));
		for (uint64_t i = 0; !rc && i < rows; i++) {
			uint64_t to = root_object(&row[i]);

			*count += object ? to == object : to != 0;
		}
		/* A chain that changes under our eyes, or is damaged, ends here. */
		if (rc || !left-- || next & (page_bytes - 1) || !off_is_object(pool, next))
			break;
		rc = inspect_read(pool, next, &head, sizeof(head));
		if (rc)
			break;
		at = next + sizeof(head);
		rows = head.rows < page_bytes / sizeof(*row) - 1 ? head.rows : page_bytes / sizeof(*row) - 1;
		next = a64_load_relaxed(&head.next);
	}
	free(row);
	return rc;
}

static int client_info(struct pool *pool, uint32_t cid, const struct slot_fmt *slot, struct cxlshm_client_info *info)
{
	struct a64 era;
	int rc;

	memset(info, 0, sizeof(*info));
	info->id = cid;
	info->alive = (uint32_t)client_alive(pool, cid);
	info->pid = (int64_t)a64_load_relaxed(&slot->pid);
	static_assert(sizeof(info->name) == sizeof(slot->name), "API");
	memcpy(info->name, slot->name, sizeof(info->name));
	info->joined_ns = a64_load_relaxed(&slot->joined_ns);
	info->segments = a64_load_relaxed(&slot->segments_owned);
	info->allocations = a64_load_relaxed(&slot->allocations);
	info->frees = a64_load_relaxed(&slot->frees);
	info->attaches = a64_load_relaxed(&slot->attaches);
	info->recoveries = a64_load_relaxed(&slot->recoveries);
	rc = inspect_read(pool, off_of(pool, pool_era_row(pool, cid) + cid), &era, sizeof(era));
	if (rc)
		return rc;
	info->era = a64_load_relaxed(&era);
	return count_roots(pool, cid, slot, 0, &info->references);
}

int cxlshm_each_client(struct cxlshm_pool *handle, int (*visit)(void *arg, const struct cxlshm_client_info *info),
		       void *arg)
{
	struct pool *pool = (struct pool *)handle;
	struct cxlshm_client_info info;
	struct slot_fmt slot;
	int rc = usable(pool);

	if (rc || !visit)
		return rc ? rc : -EINVAL;
	for (uint32_t cid = 1; cid <= slots_high(pool); cid++) {
		rc = read_slot(pool, cid, &slot);
		if (rc == -ENOENT)
			continue;
		if (!rc)
			rc = client_info(pool, cid, &slot, &info);
		if (!rc)
			rc = visit(arg, &info);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---------------------------------------------------------------- objects */

/* A block as it was read: its header, its bytes as far as they were, and its run. */
struct look {
	struct pool *pool;
	uint64_t off;
	uint64_t header;
	uint64_t block_bytes;
	const char *bytes;	/* the block's, header included; NULL: only the header was read */
};

/* Segments of the span that this one heads, 0 if it heads none. */
static uint64_t head_span(const struct pool *pool, uint32_t segment)
{
	const struct segment_fmt *s = &pool->segment_table[segment];
	enum segment_state state = segment_value_state(a128_load_acquire(&s->word).value);
	uint64_t span = a64_load_acquire(&s->span);

	if (state != SEGMENT_OWNED && state != SEGMENT_ORPHAN)
		return 0;
	return span > 1 && span <= pool->segments - segment ? span : 1;
}

/* Does the run at this page lie in its span? */
static int run_sane(const struct pool *pool, uint32_t page, const struct page_fmt *p, uint64_t span)
{
	uint64_t bytes = (uint64_t)p->pages << pool->page_shift;

	return a32_load_relaxed(&p->kind) == PAGE_BLOCKS && p->pages &&
	       page + (uint64_t)p->pages <= span * PAGES_PER_SEGMENT && !(p->block_bytes & 15) && !(p->first & 15) &&
	       p->block_bytes >= 2 * sizeof(struct object_fmt) && p->first < bytes &&
	       p->capacity <= (bytes - p->first) / p->block_bytes && a32_load_relaxed(&p->frontier) <= p->capacity;
}

static uint64_t run_start(const struct pool *pool, uint32_t segment, uint32_t page, const struct page_fmt *p)
{
	return ((uint64_t)segment << pool->segment_shift) + ((uint64_t)page << pool->page_shift) + p->first;
}

static int show(struct look *look, int (*visit)(void *arg, const struct look *look), void *arg)
{
	if (object_state(look->header) != OBJECT_LIVE || !object_count(look->header) ||
	    object_kind(look->header) >= OBJECT_KINDS ||
	    object_slots(look->header) * object_slot_bytes(look->header) > look->block_bytes - sizeof(struct object_fmt))
		return 0;
	return visit(arg, look);
}

static int each_in_run(struct pool *pool, uint64_t start, const struct page_fmt *p, char *chunk,
		       int (*visit)(void *arg, const struct look *look), void *arg)
{
	struct look look = {.pool = pool, .block_bytes = p->block_bytes};
	uint32_t frontier = a32_load_relaxed(&p->frontier);
	uint64_t at_once = p->block_bytes <= CHUNK / 8 ? CHUNK / p->block_bytes : 1;
	size_t bytes = at_once > 1 ? p->block_bytes : sizeof(struct object_fmt);
	int rc = 0;

	for (uint64_t i = 0; !rc && i < frontier; i += at_once) {
		uint64_t n = frontier - i < at_once ? frontier - i : at_once;

		rc = inspect_read(pool, start + i * p->block_bytes, chunk, n * bytes);
		for (uint64_t k = 0; !rc && k < n; k++) {
			look.off = start + (i + k) * p->block_bytes;
			look.bytes = at_once > 1 ? chunk + k * bytes : NULL;
			memcpy(&look.header, chunk + k * bytes, sizeof(look.header));
			rc = show(&look, visit, arg);
		}
	}
	return rc;
}

/* Call back for every live object. */
static int each_object(struct pool *pool, int (*visit)(void *arg, const struct look *look), void *arg)
{
	struct page_fmt *entry = malloc(PAGES_PER_SEGMENT * sizeof(*entry));
	char *chunk = aligned_alloc(64, CHUNK);
	int rc = entry && chunk ? 0 : -ENOMEM;

	for (uint32_t s = pool->first_segment; !rc && s < pool->segments; s++) {
		uint64_t span = head_span(pool, s);

		if (!span)
			continue;
		rc = inspect_read(pool, (uint64_t)s << pool->segment_shift, entry, PAGES_PER_SEGMENT * sizeof(*entry));
		for (uint32_t page = 1; !rc && page < PAGES_PER_SEGMENT; page++)
			if (run_sane(pool, page, &entry[page], span))
				rc = each_in_run(pool, run_start(pool, s, page, &entry[page]), &entry[page], chunk, visit,
						 arg);
	}
	free(chunk);
	free(entry);
	return rc;
}

/* The object with this id in *look, without bytes.  -ENOENT. */
static int find_object(struct pool *pool, uint64_t id, struct look *look)
{
	struct page_fmt entry[2];
	uint32_t segment = off_segment(pool, id);
	uint64_t index, start, span;
	uint32_t page;
	int rc;

	if (!off_is_object(pool, id))
		return -ENOENT;
	span = head_span(pool, segment);
	page = (uint32_t)(id >> pool->page_shift) & (PAGES_PER_SEGMENT - 1);
	rc = inspect_read(pool, ((uint64_t)segment << pool->segment_shift) + page * sizeof(*entry), entry,
			  sizeof(*entry));
	if (!rc && a32_load_relaxed(&entry->kind) == PAGE_BODY) {
		page = entry->head & (PAGES_PER_SEGMENT - 1);
		rc = inspect_read(pool, ((uint64_t)segment << pool->segment_shift) + page * sizeof(*entry), entry,
				  sizeof(*entry));
	}
	if (rc)
		return rc;
	if (!span || !page || !run_sane(pool, page, entry, span))
		return -ENOENT;
	start = run_start(pool, segment, page, entry);
	if (id < start)
		return -ENOENT;
	index = (id - start) / entry->block_bytes;
	if (index >= a32_load_relaxed(&entry->frontier) || start + index * entry->block_bytes != id)
		return -ENOENT;
	*look = (struct look){.pool = pool, .off = id, .block_bytes = entry->block_bytes};
	rc = inspect_read(pool, id, &look->header, sizeof(look->header));
	return rc ? rc : object_state(look->header) == OBJECT_LIVE ? 0 : -ENOENT;
}

/* Bytes of the block at an offset within it. */
static int look_at(const struct look *look, uint64_t at, void *to, size_t bytes)
{
	if (at > look->block_bytes || bytes > look->block_bytes - at) {
		memset(to, 0, bytes);
		return 0;
	}
	if (!look->bytes)
		return inspect_read(look->pool, look->off + at, to, bytes);
	memcpy(to, look->bytes + at, bytes);
	return 0;
}

/* As alloc_size(), from what was read; of a file, its extent's size. */
static int size_of(const struct look *look, uint64_t *size)
{
	uint64_t payload = look->block_bytes - sizeof(struct object_fmt);
	uint64_t slack = 0;
	uint8_t last;
	int rc;

	if (object_kind(look->header) == OBJECT_FILE) {
		uint64_t id, attr = sizeof(struct object_fmt) + 16ull * object_slots(look->header);
		struct stat st;

		rc = look_at(look, attr + offsetof(struct attr_fmt, extent), &id, sizeof(id));
		*size = !rc && id && !extent_stat(look->pool, id, &st) ? (uint64_t)st.st_size : 0;
		return rc;
	}
	*size = payload;
	if (!(look->header & OBJECT_SLACK))
		return 0;
	rc = look_at(look, look->block_bytes - 1, &last, 1);
	slack = last;
	if (!rc && last == 0xff)
		rc = look_at(look, look->block_bytes - 16, &slack, sizeof(slack));
	*size = slack <= payload ? payload - slack : 0;
	return rc;
}

static int object_info(const struct look *look, struct cxlshm_object_info *info)
{
	memset(info, 0, sizeof(*info));
	info->id = look->off;
	info->kind = inode_public_kind(object_kind(look->header));
	info->refs = object_count(look->header);
	info->slots = object_slots(look->header);
	info->exposed = (look->header & OBJECT_EXPOSED) != 0;
	info->segment = off_segment(look->pool, look->off);
	return size_of(look, &info->size_bytes);
}

struct object_visit {
	int (*visit)(void *arg, const struct cxlshm_object_info *info);
	void *arg;
};

static int visit_object(void *arg, const struct look *look)
{
	const struct object_visit *to = arg;
	struct cxlshm_object_info info;
	int rc = object_info(look, &info);

	return rc ? rc : to->visit(to->arg, &info);
}

int cxlshm_each_object(struct cxlshm_pool *handle, int (*visit)(void *arg, const struct cxlshm_object_info *info),
		       void *arg)
{
	struct pool *pool = (struct pool *)handle;
	struct object_visit to = {.visit = visit, .arg = arg};
	int rc = usable(pool);

	if (rc || !visit)
		return rc ? rc : -EINVAL;
	return each_object(pool, visit_object, &to);
}

int cxlshm_object_info(struct cxlshm_pool *handle, uint64_t id, struct cxlshm_object_info *info)
{
	struct pool *pool = (struct pool *)handle;
	struct cxlshm_object_info found;
	struct look look;
	int rc = usable(pool);

	if (!rc && !info)
		rc = -EINVAL;
	if (!rc)
		rc = find_object(pool, id, &look);
	if (!rc)
		rc = object_info(&look, &found);
	if (!rc)
		*info = found;
	return rc;
}

/* ---------------------------------------------------------------- holders */

struct holder_visit {
	uint64_t id;
	char *chunk;
	int (*visit)(void *arg, const struct cxlshm_holder *holder);
	void *arg;
};

/* References to the object in the slots of another. */
static int visit_slots(void *arg, const struct look *look)
{
	const struct holder_visit *to = arg;
	struct cxlshm_holder holder = {.client = UINT32_MAX, .object = look->off};
	uint64_t step = object_slot_bytes(look->header);
	uint64_t left = object_slots(look->header) * step;
	uint64_t at = sizeof(struct object_fmt);
	int rc;

	while (left) {
		uint64_t n = left < CHUNK ? left : CHUNK;

		rc = look_at(look, at, to->chunk, n);
		if (rc)
			return rc;
		for (uint64_t i = 0; i < n; i += step) {
			uint64_t ref;

			memcpy(&ref, to->chunk + i, sizeof(ref));
			holder.references += ref == to->id;
		}
		at += n;
		left -= n;
	}
	return holder.references ? to->visit(to->arg, &holder) : 0;
}

static int visit_clients(struct pool *pool, const struct holder_visit *to, int with_exports)
{
	struct slot_fmt slot;
	int rc;

	for (uint32_t cid = 1; cid <= slots_high(pool); cid++) {
		struct cxlshm_holder holder = {.client = cid};

		rc = read_slot(pool, cid, &slot);
		if (rc == -ENOENT)
			continue;
		if (!rc)
			rc = count_roots(pool, cid, &slot, to->id, &holder.references);
		for (uint32_t i = 0; with_exports && i < EXPORTS; i++)
			holder.references += a128_value_relaxed(&slot.exports[i].word) == to->id;
		if (!rc && holder.references)
			rc = to->visit(to->arg, &holder);
		if (rc)
			return rc;
	}
	return 0;
}

int cxlshm_each_client_holder(struct cxlshm_pool *handle, uint64_t id,
			      int (*visit)(void *arg, const struct cxlshm_holder *holder), void *arg)
{
	struct pool *pool = (struct pool *)handle;
	struct holder_visit to = {.id = id, .visit = visit, .arg = arg};
	int rc = usable(pool);

	if (rc || !visit || !id)
		return rc ? rc : -EINVAL;
	return visit_clients(pool, &to, 0);
}

int cxlshm_each_holder(struct cxlshm_pool *handle, uint64_t id,
		       int (*visit)(void *arg, const struct cxlshm_holder *holder), void *arg)
{
	struct pool *pool = (struct pool *)handle;
	struct holder_visit to = {.id = id, .visit = visit, .arg = arg};
	int rc = usable(pool);

	if (rc || !visit || !id)
		return rc ? rc : -EINVAL;
	rc = visit_clients(pool, &to, 1);
	if (!rc && id == pool->super->root_dir) {
		const struct cxlshm_holder super = {.client = UINT32_MAX, .references = 1};

		rc = visit(arg, &super);
	}
	to.chunk = rc ? NULL : malloc(CHUNK);
	if (!rc && !to.chunk)
		rc = -ENOMEM;
	if (!rc)
		rc = each_object(pool, visit_slots, &to);
	free(to.chunk);
	return rc;
}

/* ---------------------------------------------------------------- counters */

static int count_extents(const struct pool *pool, struct cxlshm_counters *counters)
{
	int fd = openat(pool->extents_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	struct stat st;

	if (!dir) {
		int rc = -errno;

		if (fd >= 0)
			close(fd);
		return rc;
	}
	while ((entry = readdir(dir)))
		if (!fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode)) {
			counters->extents++;
			counters->extent_bytes += (uint64_t)st.st_blocks * 512;
		}
	closedir(dir);
	return 0;
}

static void count_segments(const struct pool *pool, struct cxlshm_counters *counters)
{
	for (uint32_t s = pool->first_segment; s < pool->segments; s++)
		switch (segment_value_state(a128_load_acquire(&pool->segment_table[s].word).value)) {
		case SEGMENT_FREE:
		case SEGMENT_FREE_DIRTY:
			counters->segments_free++;
			break;
		case SEGMENT_OWNED:
		case SEGMENT_CHANGING:
			counters->segments_owned++;
			break;
		case SEGMENT_ORPHAN:
			counters->segments_orphaned++;
			break;
		case SEGMENT_BODY:
			counters->segments_span++;
			break;
		case SEGMENT_RESERVED:
			break;
		}
}

int cxlshm_counters(struct cxlshm_pool *handle, struct cxlshm_counters *out)
{
	struct pool *pool = (struct pool *)handle;
	struct cxlshm_counters n = {0};
	struct slot_fmt slot;
	int rc = usable(pool);

	if (rc || !out)
		return rc ? rc : -EINVAL;
	n.allocations = a64_load_relaxed(&pool->shared->gone_allocations);
	n.frees = a64_load_relaxed(&pool->shared->gone_frees);
	n.attaches = a64_load_relaxed(&pool->shared->gone_attaches);
	n.clients_recovered = a64_load_relaxed(&pool->shared->clients_recovered);
	n.references_recovered = a64_load_relaxed(&pool->shared->references_recovered);
	for (uint32_t cid = 1; cid <= slots_high(pool); cid++) {
		rc = read_slot(pool, cid, &slot);
		if (rc == -ENOENT)
			continue;
		if (rc)
			return rc;
		n.clients++;
		n.allocations += a64_load_relaxed(&slot.allocations);
		n.frees += a64_load_relaxed(&slot.frees);
		n.attaches += a64_load_relaxed(&slot.attaches);
	}
	count_segments(pool, &n);
	rc = count_extents(pool, &n);
	if (!rc)
		*out = n;
	return rc;
}
