/* SPDX-License-Identifier: MIT */
/*
 * One small pool, opened once for each fiber and once for the observer, who lives throughout, does nothing while the
 * others run, and looks afterwards.
 *
 * A death: the handle's locks are dropped, as the kernel does with a process, and the fiber is never entered again.
 *
 * Back to the snapshot: the superblock's page, hints, segment table, slots, and of each segment the header page and the
 * pages that are in use now or were then.  What lies in free pages is nobody's.  Then the private halves of the clients,
 * and the locks.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "page.h"
#include "recover.h"
#include "interleave.h"

#define POOL_BYTES (3u << 20)
#define SLOTS 6u

void world_fail(struct world *w, const char *format, ...)
{
	va_list args;

	if (w->failure[0])
		return;
	va_start(args, format);
	vsnprintf(w->failure, sizeof(w->failure), format, args);
	va_end(args);
}

int expect(struct world *w, const char *what, int rc, int also)
{
	if (rc && rc != also)
		world_fail(w, "%s: %s", what, strerror(rc < 0 ? -rc : rc));
	return rc;
}

/* ---- helpers of the operations ---- */

cxlshm_ref tagged(struct world *w, unsigned who, int tag, size_t bytes)
{
	cxlshm_ref ref = 0;

	if (expect(w, "alloc", cxlshm_alloc(actor(w, who), bytes, &ref), 0))
		return 0;
	*(volatile char *)cxlshm_ptr(actor(w, who), ref) = (char)tag;
	return ref;
}

int tag_of(struct world *w, unsigned who, cxlshm_ref ref)
{
	char *bytes;

	if (!ref)
		return 0;
	bytes = cxlshm_ptr(actor(w, who), ref);
	if (!bytes) {
		world_fail(w, "a reference that was given leads to no object");
		return -1;
	}
	return *(volatile char *)bytes;
}

cxlshm_ref hand_over(struct world *w, unsigned from, cxlshm_ref ref, unsigned to)
{
	cxlshm_ref copy = 0, out = 0;
	uint64_t token;

	MUST(cxlshm_attach(actor(w, from), ref, &copy));
	MUST(cxlshm_export(actor(w, from), copy, &token));
	MUST(cxlshm_import(actor(w, to), token, &out));
	return out;
}

/* ---- locks ---- */

static void slot_lock(struct pool *pool, uint64_t first, uint64_t count, short type)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)first, .l_len = (off_t)count};

	MUST(fcntl(pool->heap_fd, F_OFD_SETLK, &fl));
}

void world_kill(struct world *w, unsigned fiber)
{
	slot_lock(w->pool[fiber], LOCK_SLOT(1), SLOTS, F_UNLCK);
	if (fiber < ACTORS_MAX) {
		struct history *h = &w->v.history;

		w->who_died |= 1u << fiber;
		for (uint32_t i = 0; i < h->count; i++)
			if (h->event[i].fiber == fiber && h->event[i].end == NOT_ENDED) {
				h->event[i].pending = 1;
				/* Of cells and queues it took effect before now, or never; names are completed by recovery. */
				if (h->kind != SPEC_NAMES)
					h->event[i].end = h->clock++;
			}
	}
}

/* ---- snapshots ---- */

static uint32_t kind_in(const char *heap, const struct pool *pool, uint32_t segment, uint32_t page)
{
	const struct page_fmt *entry =
		(const struct page_fmt *)(heap + ((uint64_t)segment << pool->segment_shift)) + page;

	return *(const volatile uint32_t *)&entry->kind;
}

static void copy_page(struct world *w, uint64_t off, uint64_t bytes)
{
	memcpy(w->pool[0]->base + off, w->heap + off, bytes);
}

static void restore_heap(struct world *w)
{
	struct pool *pool = w->pool[0];
	uint64_t page_bytes = 1ull << pool->page_shift;

	/* Segments first: whether their memory is there is said by the table as it is now. */
	for (uint32_t s = pool->first_segment; s < pool->segments; s++) {
		uint64_t at = (uint64_t)s << pool->segment_shift;
		enum segment_state was = segment_value_state(
			((const struct stamped *)&((const struct segment_fmt *)(w->heap + pool->super->segment_table_off))[s]
				 .word)->value);
		enum segment_state is = segment_value_state(a128_value_relaxed(&pool->segment_table[s].word));
		int had = was != SEGMENT_FREE, has = is != SEGMENT_FREE;

		if (!had && !has)
			continue;
		if (!had) {
			/* Claimed in the run: its memory is to read as zero when it is claimed again. */
			memset(pool->base + at, 0, 1ul << pool->segment_shift);
			continue;
		}
		for (uint32_t p = 1; p < PAGES_PER_SEGMENT; p++)
			if (kind_in(w->heap, pool, s, p) != PAGE_FREE ||
			    kind_in(pool->base, pool, s, p) != PAGE_FREE)
				copy_page(w, at + p * page_bytes, page_bytes);
		copy_page(w, at, page_bytes);
	}
	copy_page(w, 0, w->area_bytes);
}

static void wipe_extents(struct world *w)
{
	int fd = openat(w->pool[0]->extents_fd, ".", O_RDONLY | O_DIRECTORY);
	DIR *dir = fdopendir(fd);
	struct dirent *entry;

	REQUIRE(dir);
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(w->pool[0]->extents_fd, entry->d_name, 0);
	closedir(dir);
}

static unsigned handle_of(unsigned client)
{
	return client == OBSERVER ? FIBERS : client;
}

void world_restore(struct world *w)
{
	uint32_t unlock = 0;	/* handles that have lost their locks */

	for (unsigned f = 0; f <= FIBERS; f++) {
		struct pool *pool = w->pool[f];
		struct client *mine = NULL;
		int dirty = f < FIBERS && w->state[f] == FIBER_DEAD;

		for (unsigned i = 0; i <= ACTORS_MAX; i++)
			if (handle_of(i) == f)
				mine = w->client[i];
		for (uint32_t cid = 1; cid <= SLOTS; cid++)
			if (pool->own[cid] && pool->own[cid] != mine) {
				free(pool->own[cid]);
				pool->own[cid] = NULL;
				dirty = 1;
			}
		/* It may have died or left; if it left, its handle is freed. */
		if (mine) {
			unsigned i = f == FIBERS ? OBSERVER : f;
			uint32_t cid = w->saved[i].cid;

			if (pool->own[cid] != mine) {
				w->client[i] = aligned_alloc(64, (sizeof(struct client) + 63) & ~63ul);
				REQUIRE(w->client[i]);
				pool->own[cid] = w->client[i];
				dirty = 1;
			}
			*w->client[i] = w->saved[i];
		}
		if (!dirty)
			continue;
		unlock |= 1u << f;
		/* Who died may have held it. */
		pthread_mutex_init(&pool->own_lock, NULL);
		slot_lock(pool, LOCK_SLOT(1), SLOTS, F_UNLCK);
	}
	/* Only now: another handle may have had the lock. */
	for (unsigned i = 0; i <= ACTORS_MAX; i++)
		if (w->client[i] && unlock & 1u << handle_of(i))
			slot_lock(w->pool[handle_of(i)], LOCK_SLOT(w->saved[i].cid), 1, F_WRLCK);
	if (w->extents)
		wipe_extents(w);
	restore_heap(w);
	w->v = w->vars_saved;
}

static void snapshot(struct world *w)
{
	memcpy(w->heap, w->pool[0]->base, w->pool[0]->heap_bytes);
	for (unsigned i = 0; i <= ACTORS_MAX; i++)
		if (w->client[i])
			w->saved[i] = *w->client[i];
	w->vars_saved = w->v;
}

/* ---- making ---- */

/* The directories' hash key is random; here it is the first with which the names a, b and c meet in one edge. */
static void fix_key(struct pool *pool)
{
	struct super_fmt *super = (struct super_fmt *)(uintptr_t)pool->super;
	struct client c = {.pool = pool};
	uint64_t a, b, d;

	super->hash_key[0] = super->hash_key[1] = 0;
	do {
		super->hash_key[0]++;
		a = names_key_of(&c, "a", 1).hash;
		b = names_key_of(&c, "b", 1).hash;
		d = names_key_of(&c, "c", 1).hash;
	} while (names_nibble(a, 0) != names_nibble(b, 0) || names_nibble(a, 0) != names_nibble(d, 0) ||
		 names_nibble(a, 1) == names_nibble(b, 1) || names_nibble(b, 1) == names_nibble(d, 1));
}

struct world *world_new(const struct area *area, uint32_t actors)
{
	struct cxlshm_pool_options options = {
		.size_bytes = POOL_BYTES, .client_slots = SLOTS, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct world *w = calloc(1, sizeof(*w));
	struct cxlshm_error error;

	REQUIRE(w);
	w->area = area;
	w->extents = area->extents;
	snprintf(w->dir, sizeof(w->dir), "/dev/shm/cxlshm-sched-%d-%s", (int)getpid(), area->name);
	MUST(mkdir(w->dir, 0700));
	if (cxlshm_pool_create(w->dir, &options, &error)) {
		fprintf(stderr, "%s\n", error.text);
		exit(3);
	}
	for (unsigned f = 0; f <= FIBERS; f++) {
		struct cxlshm_pool *pool;

		MUST(cxlshm_pool_open(w->dir, 0, &pool, &error));
		w->pool[f] = (struct pool *)pool;
		fix_key(w->pool[f]);
	}
	w->heap = malloc(w->pool[0]->heap_bytes);
	REQUIRE(w->heap);
	w->area_bytes = w->pool[0]->super->slots_off + SLOTS * w->pool[0]->super->slot_stride_bytes;
	for (unsigned i = 0; i <= ACTORS_MAX; i++) {
		struct cxlshm_client *client;

		if (i >= actors && i != OBSERVER)
			continue;
		MUST(cxlshm_join((struct cxlshm_pool *)w->pool[handle_of(i)], "actor", 0, &client));
		w->client[i] = (struct client *)client;
	}
	standins_for(w);
	w->v.history.kind = area->kind;
	w->actors = actors;
	/* A segment each, so that operations need not begin with claiming one. */
	for (unsigned i = 0; i < actors; i++)
		MUST(cxlshm_release(actor(w, i), tagged(w, i, 1, 40)));
	area->prepare(w);
	if (w->failure[0]) {
		fprintf(stderr, "%s: prepare: %s\n", area->name, w->failure);
		exit(3);
	}
	snapshot(w);
	return w;
}

void world_delete(struct world *w)
{
	world_restore(w);
	standins_for(NULL);
	for (unsigned f = 0; f <= FIBERS; f++)
		cxlshm_pool_close((struct cxlshm_pool *)w->pool[f]);
	cxlshm_pool_remove(w->dir, NULL);
	rmdir(w->dir);
	free(w->heap);
	free(w);
}

/* ---- running ---- */

void world_act(struct world *w, unsigned fiber)
{
	if (fiber >= ACTORS_MAX) {
		(void)recover_dead(w->pool[fiber], NULL);
		return;
	}
	for (uint32_t i = 0; i < w->program_count[fiber]; i++)
		w->program[fiber][i]->act(w, fiber);
}

struct findings {
	unsigned count;
	char text[400];
};

static void collect(void *arg, int severity, const char *line)
{
	struct findings *f = arg;
	size_t used = strlen(f->text);

	if (severity < 1)
		return;
	if (f->count++ < 4)
		snprintf(f->text + used, sizeof(f->text) - used, "%s%.120s", used ? "; " : "", line);
}

static int check(struct world *w, const char *when, struct cxlshm_check_result *result)
{
	struct findings f = {0};

	MUST(check_pool(w->pool[FIBERS], 0, collect, &f, result));
	if (f.count)
		world_fail(w, "%s the checker finds: %s", when, f.text);
	return f.count != 0;
}

/* Give back all that a living client holds, so that nothing but names keeps objects. */
static void drop_all(struct world *w, unsigned i)
{
	struct client *c = w->client[i];
	uint64_t off = off_of(c->pool, c->slot) + c->pool->super->roots_off;

	for (uint64_t r = 0; r < SLOT_ROOTS_BYTES / sizeof(struct root_fmt); r++) {
		struct root_fmt *row = root_at(c, off + r * sizeof(*row));

		if (root_object(row))
			ref_drop_row(c, row);
	}
	for (uint32_t e = 0; e < EXPORTS; e++) {
		struct cell_fmt *cell = &c->slot->exports[e];
		struct stamped seen = a128_load_acquire(&cell->word);
		struct root_fmt *row;

		if (!seen.value)
			continue;
		MUST(root_take(c, &row));
		MUST(cell_exchange(c, cell, seen, row, NULL));
		ref_drop_row(c, row);
	}
}

/*
 * An exchange is two steps, and a rename overtaken by a third client may leave a second name: cxlshm_rename() says so.  Such
 * histories need not be of some order; that nothing of them is lost or counted wrong, the checker has said before.
 */
static int is_of_two_steps(const struct history *h)
{
	uint32_t fibers = 0, moved = 0;

	for (uint32_t i = 0; i < h->count; i++) {
		fibers |= 1u << h->event[i].fiber;
		moved |= h->event[i].op == OP_EXCHANGE || h->event[i].op == OP_RENAME;
	}
	/* Two clients, and who looks at the end. */
	return moved && __builtin_popcount(fibers) > 3;
}

static void verify_history(struct world *w)
{
	struct history *h = &w->v.history;

	for (uint32_t i = 0; i < h->count; i++)
		if (h->event[i].end == NOT_ENDED) {
			h->event[i].end = h->clock;
			h->event[i].pending = 1;
		}
	h->clock++;
	w->area->observe(w);
	if (is_of_two_steps(h))
		return;
	totals->histories++;
	if (!w->failure[0] && !linear_check(h))
		world_fail(w, "no sequential order explains the history");
}

void world_verify(struct world *w)
{
	struct cxlshm_check_result result;

	if (w->failure[0])
		return;
	MUST(recover_dead(w->pool[FIBERS], NULL));
	for (uint32_t cid = 1; cid <= SLOTS; cid++)
		if (client_claimed(w->pool[FIBERS], cid) && !client_alive(w->pool[FIBERS], cid))
			world_fail(w, "client %u is still dead after recovery", cid);
	if (check(w, "after recovery", &result))
		return;
	if (w->area->observe && w->area->kind != SPEC_NONE) {
		verify_history(w);
		if (w->failure[0])
			return;
	}
	/* And when everybody has dropped all, nothing is left but the root directory. */
	for (unsigned i = 0; i <= ACTORS_MAX; i++)
		if (w->client[i] && w->pool[handle_of(i)]->own[w->saved[i].cid] == w->client[i] &&
		    !(i < ACTORS_MAX && w->who_died & 1u << i))
			drop_all(w, i);
	if (check(w, "after all was dropped", &result))
		return;
	/* Who pushes looks whether the owner is gone, and who goes looks whether something was pushed; if both live to do so. */
	for (uint32_t s = w->pool[0]->first_segment; s < w->pool[0]->segments && !w->deaths; s++)
		if (segment_state_of(w->pool[0], s) == SEGMENT_ORPHAN &&
		    a128_value_relaxed(&w->pool[0]->segment_table[s].remote))
			world_fail(w, "blocks of segment %u, which nobody owns, wait to be collected", s);
	if (w->area->kind != SPEC_NAMES && !w->extents && result.objects != 1)
		world_fail(w, "%llu objects are left", (unsigned long long)result.objects - 1);
}
