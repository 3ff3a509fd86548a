/* SPDX-License-Identifier: MIT */
/*
 * Whatever fsck.cxlshm, a joining client and who recovers the dead would do with a pool, damaged or not; and what a user
 * finds in it by name.
 */
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "damage.h"

#define EDGE_BYTES 4096u

static int look_holder(void *arg, const struct cxlshm_holder *holder)
{
	(void)holder;
	return ++*(int *)arg > 100;
}

struct looking {
	struct cxlshm_pool *pool;
	uint64_t last;
	int objects, endless;
};

static int look_object(void *arg, const struct cxlshm_object_info *info)
{
	struct looking *l = arg;
	struct cxlshm_object_info again;
	int holders = 0;

	l->endless |= info->id <= l->last;	/* in order, each once */
	l->last = info->id;
	(void)cxlshm_object_info(l->pool, info->id, &again);
	if (l->objects++ % 16 == 0)
		(void)cxlshm_each_holder(l->pool, info->id, look_holder, &holders);
	return l->objects > 2000;
}

static int look_client(void *arg, const struct cxlshm_client_info *info)
{
	(void)arg;
	(void)info;
	return 0;
}

/* 1 if a listing went back. */
static int look(struct cxlshm_pool *pool)
{
	struct looking l = {.pool = pool};
	struct cxlshm_counters counters;
	struct cxlshm_pool_space space;
	struct cxlshm_pool_info info;

	(void)cxlshm_each_object(pool, look_object, &l);
	(void)cxlshm_each_client(pool, look_client, NULL);
	(void)cxlshm_counters(pool, &counters);
	(void)cxlshm_pool_space(pool, &space);
	(void)cxlshm_pool_info(pool, &info);
	return l.endless;
}

/* Some names.  1 if a listing went back. */
static int walk_names(struct cxlshm_client *c, cxlshm_ref dir, int depth, int *budget)
{
	struct cxlshm_dirent entry;
	uint64_t position = 0, before = 0;
	int endless = 0;
	cxlshm_ref ref;
	char text[300];

	while (!endless && --*budget > 0 && !cxlshm_readdir(c, dir, &position, &entry, &ref)) {
		struct cxlshm_stat st;
		cxlshm_ref same;

		endless = position <= before;
		before = position;
		(void)cxlshm_stat(c, ref, &st);
		(void)cxlshm_readlink(c, ref, text, sizeof(text));
		(void)cxlshm_listxattr(c, ref, text, sizeof(text));
		(void)cxlshm_getxattr(c, ref, "user.other", text, sizeof(text));
		if (!cxlshm_lookup(c, dir, entry.name, 0, &same))
			(void)cxlshm_release(c, same);
		if (cxlshm_kind(c, ref) == CXLSHM_KIND_DIRECTORY && depth)
			endless |= walk_names(c, ref, depth - 1, budget);
		(void)cxlshm_release(c, ref);
	}
	return endless;
}

static void work_slots(struct cxlshm_client *c, const char *path, int cells)
{
	cxlshm_ref holder, ref, mine;

	if (cxlshm_lookup(c, 0, path, 0, &holder))
		return;
	for (uint32_t i = 0; i < 5; i++) {
		ref = 0;
		if (!(cells ? cxlshm_cell_load(c, holder, i, &ref) : cxlshm_field_load(c, holder, i, &ref))) {
			(void)cxlshm_size(c, ref);
			(void)cxlshm_release(c, ref);
		}
		if (cxlshm_alloc(c, 40, &mine))
			continue;
		if (cells)
			(void)(i & 1 ? cxlshm_cell_swap(c, holder, i, &mine) : cxlshm_cell_store(c, holder, i, mine));
		else
			(void)(i & 1 ? cxlshm_field_swap(c, holder, i, &mine) : cxlshm_field_store(c, holder, i, mine));
		(void)cxlshm_release(c, mine);
	}
	(void)cxlshm_release(c, holder);
}

static void work_queue(struct cxlshm_client *c, const char *path)
{
	cxlshm_ref queue, ref;

	if (cxlshm_lookup(c, 0, path, 0, &queue))
		return;
	(void)cxlshm_queue_length(c, queue);
	for (int i = 0; i < 6; i++) {
		if (!cxlshm_alloc(c, 40, &ref) && cxlshm_queue_send(c, queue, ref))
			(void)cxlshm_release(c, ref);
		if (i & 1 && !cxlshm_queue_receive(c, queue, &ref))
			(void)cxlshm_release(c, ref);
	}
	if (!cxlshm_queue_receive_wait(c, queue, &ref, 1000))
		(void)cxlshm_release(c, ref);
	(void)cxlshm_release(c, queue);
}

static void work_memory(struct cxlshm_client *c)
{
	static const size_t sizes[] = {1, 40, 100, 500, 2000, 20000, 300000};
	cxlshm_ref held[70], big;
	int n = 0;

	for (int i = 0; i < 70; i++)
		if (!cxlshm_alloc_with(c, sizes[i % 7] + (i & 16 ? 16 : 0), i & 16 ? 2 : 0, i & 32 ? CXLSHM_ZERO : 0, &held[n])) {
			char *bytes = cxlshm_ptr(c, held[n]);

			/* Of the large ones the first and last pages: all the others would be most of a case's time. */
			if (bytes && !(i & 16)) {
				memset(bytes, 0x5a, sizes[i % 7] < EDGE_BYTES ? sizes[i % 7] : EDGE_BYTES);
				if (sizes[i % 7] > EDGE_BYTES)
					memset(bytes + sizes[i % 7] - EDGE_BYTES, 0x5a, EDGE_BYTES);
			}
			n++;
		}
	if (n > 1)
		for (int i = 0; i + 1 < n; i++)
			(void)cxlshm_field_store(c, held[i], 0, held[i + 1]);
	for (int i = 0; i < n; i++)
		(void)cxlshm_release(c, held[i]);
	if (!cxlshm_alloc_with(c, 9000, 0, CXLSHM_EXTENT, &big))
		(void)cxlshm_release(c, big);
}

static void work_names(struct cxlshm_client *c)
{
	struct cxlshm_stat st = {.mode = 0640};
	cxlshm_ref ref;
	void *map;

	(void)cxlshm_mkdir(c, 0, "new", 0700, NULL);
	if (!cxlshm_create(c, 0, "new/file", 5000, 0600, &ref)) {
		(void)cxlshm_resize(c, ref, 9000);
		(void)cxlshm_release(c, ref);
	}
	if (!cxlshm_lookup(c, 0, "file", 0, &ref)) {
		(void)cxlshm_setattr(c, ref, &st, CXLSHM_SET_MODE);
		(void)cxlshm_setxattr(c, ref, "user.third", "3", 1, 0);
		(void)cxlshm_removexattr(c, ref, "user.some");
		(void)cxlshm_link(c, ref, 0, "new/link", 0);
		if (!cxlshm_map(c, ref, 0, 4096, PROT_READ, &map))
			(void)cxlshm_unmap(c, map);
		(void)cxlshm_release(c, ref);
	}
	(void)cxlshm_rename(c, 0, "dir/many3", 0, "new/many", 0);
	(void)cxlshm_rename(c, 0, "dir/many4", 0, "dir/many5", 0);
	(void)cxlshm_rename(c, 0, "dir/many6", 0, "symlink", CXLSHM_EXCHANGE);
	(void)cxlshm_rename(c, 0, "dir/inner", 0, "new/inner", 0);
	for (int i = 0; i < 20; i += 2) {
		char name[40];

		snprintf(name, sizeof(name), "dir/many%d", i);
		(void)cxlshm_unlink(c, 0, name);
	}
	(void)cxlshm_unlink(c, 0, "new/inner/hard");
	(void)cxlshm_rmdir(c, 0, "new/inner");
	(void)cxlshm_unlink(c, 0, "file");
	(void)cxlshm_unlink(c, 0, "fields");
	(void)cxlshm_unlink(c, 0, "dir/cells");
	(void)cxlshm_unlink(c, 0, "queue");
	(void)cxlshm_unlink(c, 0, "large");
	(void)cxlshm_rmdir(c, 0, "dir");
}

static void list_names(struct cxlshm_client *c, cxlshm_ref dir, const char *path, struct damage_names *names, int depth)
{
	struct cxlshm_dirent entry;
	uint64_t position = 0;
	cxlshm_ref ref;

	while (names->count < DAMAGE_NAMES && !cxlshm_readdir(c, dir, &position, &entry, &ref)) {
		struct damage_name *name = &names->name[names->count];
		struct cxlshm_stat st = {0};

		snprintf(name->path, sizeof(name->path), "%.30s%s%.30s", path, *path ? "/" : "", entry.name);
		name->kind = (uint32_t)cxlshm_kind(c, ref);
		name->bytes = cxlshm_stat(c, ref, &st) ? UINT64_MAX : name->kind == CXLSHM_KIND_DIRECTORY ? 0 : st.size_bytes;
		names->count++;
		if (name->kind == CXLSHM_KIND_DIRECTORY && depth)
			list_names(c, ref, name->path, names, depth - 1);
		(void)cxlshm_release(c, ref);
	}
}

int damage_list(const char *dir, struct damage_names *names)
{
	struct cxlshm_pool *pool;
	struct cxlshm_client *c;
	int rc = cxlshm_pool_open(dir, 0, &pool, NULL);

	names->count = 0;
	if (rc)
		return rc;
	rc = cxlshm_join(pool, "reader", 0, &c);
	if (!rc)
		list_names(c, 0, "", names, 4);
	cxlshm_pool_close(pool);
	return rc;
}

void damage_use(const char *dir, struct damage_outcome *outcome)
{
	struct cxlshm_client *a = NULL, *b = NULL;
	struct cxlshm_pool *pool;
	cxlshm_ref ref, taken;
	uint64_t token;
	int budget = 200;

	outcome->open_rc = cxlshm_pool_open(dir, 0, &pool, NULL);
	outcome->join_rc = -1;
	outcome->endless = 0;
	if (outcome->open_rc)
		return;
	outcome->endless = look(pool);
	outcome->join_rc = cxlshm_join(pool, "first", 0, &a);
	if (!outcome->join_rc) {
		(void)cxlshm_join(pool, "second", 0, &b);
		outcome->endless |= walk_names(a, 0, 3, &budget);
		work_slots(a, "fields", 0);
		work_slots(a, "dir/cells", 1);
		work_queue(a, "queue");
		work_queue(a, "spsc");
		work_memory(a);
		if (b) {
			if (!cxlshm_alloc(b, 64, &ref) && !cxlshm_export(b, ref, &token) &&
			    !cxlshm_import(a, token, &taken))
				(void)cxlshm_release(a, taken);
			work_memory(b);
		}
		work_names(a);
	}
	(void)cxlshm_recover(pool, NULL);
	outcome->endless |= look(pool);
	if (b)
		(void)cxlshm_leave(b);
	cxlshm_pool_close(pool);
}

static void report(void *arg, int severity, const char *line)
{
	const struct damage *d = arg;

	if (d->loud)
		printf("%*s%s\n", 4 * severity, "", line);
}

static int check_once(struct damage *d, unsigned flags, uint64_t *left)
{
	struct cxlshm_check_result result = {0};
	int rc;

	if (d->loud)
		printf("check%s\n", flags ? " and repair" : "");
	rc = cxlshm_check(d->dir, flags, report, d, &result, NULL);

	*left = result.problems - result.repaired;
	return rc;
}

void damage_try(struct damage *d, int how, struct damage_outcome *outcome, volatile uint32_t *stage, struct damage_names *names)
{
	uint32_t none;
	uint64_t left;

	if (!stage)
		stage = &none;
	if (how == 1) {
		*stage = 4;
		damage_use(d->dir, outcome);
		*stage = 5;
		outcome->repair_rc = check_once(d, CXLSHM_CHECK_REPAIR, &outcome->beyond);
		outcome->left = 0;
		if (!outcome->repair_rc && !outcome->beyond)
			outcome->again_rc = check_once(d, 0, &outcome->left);
		return;
	}
	*stage = 1;
	outcome->check_rc = check_once(d, 0, &outcome->problems);
	*stage = 2;
	outcome->repair_rc = check_once(d, CXLSHM_CHECK_REPAIR, &outcome->beyond);
	*stage = 3;
	outcome->again_rc = check_once(d, 0, &left);
	if (!outcome->beyond)
		outcome->left = left;
	if (names) {
		*stage = 14;
		outcome->list_rc = damage_list(d->dir, names);
	}
	if (how == 2) {
		*stage = 6;
		damage_use(d->dir, outcome);
		*stage = 7;
		if (!outcome->repair_rc && !outcome->beyond && !outcome->left)
			outcome->again_rc = check_once(d, 0, &outcome->left);
	}
}
