/* SPDX-License-Identifier: MIT */
/*
 * One small pool, opened once for each fiber and once for the observer, who lives throughout, does nothing while the
 * others run, and looks afterwards.
 *
 * A death: the handle's locks are dropped, as the kernel does with a process, and the fiber is never entered again.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "page.h"
#include "recover.h"
#include "interleave.h"

#define POOL_BYTES (3u << 20)

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

/* ---- deaths ---- */

void world_kill(struct world *w, unsigned fiber)
{
	standins_drop_locks(w->pool[fiber]->heap_fd);
	if (fiber < ACTORS_MAX) {
		w->who_died |= 1u << fiber;
		history_died(&w->v.history, fiber);
	}
}

static unsigned handle_of(unsigned client)
{
	return client == OBSERVER ? FIBERS : client;
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
	standins_for(w);
	for (unsigned i = 0; i <= ACTORS_MAX; i++) {
		struct cxlshm_client *client;

		if (i >= actors && i != OBSERVER)
			continue;
		MUST(cxlshm_join((struct cxlshm_pool *)w->pool[handle_of(i)], "actor", 0, &client));
		w->client[i] = (struct client *)client;
		w->cid[i] = w->client[i]->cid;
	}
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
	memory_follow(w);
	return w;
}

void world_delete(struct world *w)
{
	memory_back_to(0, 0, 0);
	memory_follow(NULL);
	/* The first last: standins.c writes through it. */
	for (unsigned f = FIBERS + 1; f-- > 0;) {
		cxlshm_pool_close((struct cxlshm_pool *)w->pool[f]);
		w->pool[f] = NULL;
	}
	standins_for(NULL);
	cxlshm_pool_remove(w->dir, NULL);
	rmdir(w->dir);
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

/* The extents are a table of standins.c; the checker looks at the folder. */
static void make_files(struct world *w)
{
	int dir = w->pool[0]->extents_fd;
	char name[24];

	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "%016llx", (unsigned long long)w->file_made[i]);
		if (w->file_made[i])
			REQUIRE(!unlinkat(dir, name, 0));
	}
	for (unsigned i = 0; i < FILES; i++) {
		uint64_t id, bytes;
		int fd;

		standins_file(i, &id, &bytes);
		w->file_made[i] = id;	/* here, where it is not followed, and so not undone */
		if (!id)
			continue;
		snprintf(name, sizeof(name), "%016llx", (unsigned long long)id);
		fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		REQUIRE(fd >= 0 && !ftruncate(fd, (off_t)bytes));
		close(fd);
	}
}

static int check(struct world *w, const char *when, struct cxlshm_check_result *result)
{
	struct findings f = {0};

	if (w->area->extents)
		make_files(w);
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

/* All names in a directory, whatever they are, and in those below it. */
static void drop_names(struct world *w, cxlshm_ref dir)
{
	struct cxlshm_client *c = actor(w, OBSERVER);
	struct cxlshm_dirent entry;
	uint64_t position = 0;
	int rc;

	while (!(rc = cxlshm_readdir(c, dir, &position, &entry, NULL))) {
		cxlshm_ref below;

		if (entry.kind != CXLSHM_KIND_DIRECTORY) {
			rc = cxlshm_unlink(c, dir, entry.name);
		} else {
			MUST(cxlshm_lookup(c, dir, entry.name, 0, &below));
			drop_names(w, below);
			MUST(cxlshm_release(c, below));
			rc = cxlshm_rmdir(c, dir, entry.name);
		}
		if (rc)
			world_fail(w, "at the end the name %s does not go: %s", entry.name, strerror(-rc));
		if (w->failure[0])
			return;
	}
	if (rc != -ENOENT)
		world_fail(w, "at the end a directory cannot be listed: %s", strerror(-rc));
}

/*
 * Inner nodes of a directory may be left without an entry: by a death between a removal and taking them out, by two who were
 * in each other's way at that, and by who made room beside a name that was just going.  They go with the next removal that
 * comes that way.
 */
static void remove_once_more(struct world *w)
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "f", "x", "y", "z", "named"};

	for (uint32_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		MUST(cxlshm_mknod(actor(w, OBSERVER), 0, names[i], S_IFIFO, NULL));
		MUST(cxlshm_unlink(actor(w, OBSERVER), 0, names[i]));
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

static void judge(struct world *w, const struct history *h, const char *what)
{
	if (is_of_two_steps(h))
		return;
	__atomic_fetch_add(&totals->histories, 1, __ATOMIC_RELAXED);
	if (!w->failure[0] && !linear_check(h))
		world_fail(w, "no sequential order explains %s", what);
}

static void verify_history(struct world *w)
{
	static struct history part;
	struct history *h = &w->v.history;

	for (uint32_t i = 0; i < h->count; i++)
		if (h->event[i].end == NOT_ENDED) {
			h->event[i].end = h->clock;
			h->event[i].pending = 1;
		}
	h->clock++;
	w->area->observe(w);
	if (w->area->kind != SPEC_MIXED) {
		judge(w, h, "the history");
		return;
	}
	for (enum spec_kind kind = SPEC_CELL; kind < SPEC_MIXED; kind++) {
		history_part(h, kind, &part);
		judge(w, &part, kind == SPEC_CELL ? "what the cell gave" : kind == SPEC_QUEUE ? "what the queue gave" :
			"what the names gave");
	}
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
	if (w->area->observe) {
		if (w->area->kind == SPEC_NONE)
			w->area->observe(w);
		else
			verify_history(w);
		if (w->failure[0])
			return;
	}
	/* And when everybody has dropped all, and the names are gone, nothing is left but the root directory. */
	for (unsigned i = 0; i <= ACTORS_MAX; i++)
		if (w->client[i] && w->pool[handle_of(i)]->own[w->cid[i]] == w->client[i] &&
		    !(i < ACTORS_MAX && w->who_died & 1u << i))
			drop_all(w, i);
	drop_names(w, 0);
	if (w->failure[0] || check(w, "after all was dropped", &result))
		return;
	if (result.objects != 1 && (w->area->kind >= SPEC_NAMES || w->area->extents)) {
		remove_once_more(w);
		if (check(w, "after the last removals", &result))
			return;
	}
	/* Nobody looks for what a death or a reader has left, unless he is told that there is something. */
	for (uint32_t s = w->pool[0]->first_segment; s < w->pool[0]->segments; s++)
		if (segment_state_of(w->pool[0], s) == SEGMENT_FREE_DIRTY &&
		    !a32_load_relaxed(&w->pool[0]->shared->segments_dirty))
			world_fail(w, "segment %u was not given back, and nothing says so", s);
	if (result.objects != 1 || result.extents)
		world_fail(w, "%llu objects are left, %llu extents", (unsigned long long)result.objects - 1,
			   (unsigned long long)result.extents);
}
