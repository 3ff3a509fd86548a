/* SPDX-License-Identifier: MIT */
/*
 * churn: random native operations until killed, for soak.py.
 *
 *   churn POOL SEED [STEPS NUMBER]
 *
 * STEPS is a file of 64-bit counters: the NUMBERth is raised at each step.
 *
 * All churns of a pool fight over the same names: /cells (an object with 64 cells), /queue, and the files
 * and folders under /native.  Each object carries its own id and a sum of it, written before the reference leaves
 * this client, so that whoever gets the object from a cell, a queue or a name sees if it is not what it
 * was.  A wrong object or an error that the situation does not explain ends it with status 1.
 */
#include <cxlshm.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CELLS 64
#define HELD 48
#define FIELDS 4
#define MARK 0x9e3779b97f4a7c15ull

struct mark {
	uint64_t id, sum;
};

struct churn {
	struct cxlshm_pool *pool;
	struct cxlshm_client *client;
	cxlshm_ref cells, queue;
	cxlshm_ref held[HELD];
	uint64_t random;
	const char *doing;
};

static uint64_t draw(struct churn *c, uint64_t below)
{
	c->random ^= c->random >> 12;
	c->random ^= c->random << 25;
	c->random ^= c->random >> 27;
	return (c->random * 0x2545f4914f6cdd1dull >> 11) % below;
}

static void wrong(struct churn *c, const char *what)
{
	printf("churn: %s: %s\n", c->doing, what);
	fflush(stdout);
	exit(1);
}

/* Errors that a full pool, or the others, explain. */
static int expected(struct churn *c, int rc)
{
	switch (rc) {
	case 0: case -ENOSPC: case -ENOENT: case -EEXIST: case -EAGAIN: case -ENOTEMPTY: case -EISDIR: case -ENOTDIR:
	case -EBUSY:
		return rc;
	default:
		wrong(c, strerrorname_np(-rc));
		return rc;
	}
}

static struct mark *mark_of(struct churn *c, cxlshm_ref ref)
{
	char *bytes = cxlshm_ptr(c->client, ref);
	if (!bytes)
		wrong(c, "an object without bytes");
	return (struct mark *)(void *)(bytes + FIELDS * 8);
}

static void verify(struct churn *c, cxlshm_ref ref)
{
	if (!ref || cxlshm_kind(c->client, ref) != CXLSHM_KIND_HEAP)
		return;
	struct mark *mark = mark_of(c, ref);
	if (mark->id != cxlshm_id(c->client, ref) || mark->sum != mark->id * MARK)
		wrong(c, "an object is not what it was");
}

static void put_away(struct churn *c, cxlshm_ref ref)
{
	size_t i = draw(c, HELD);
	if (expected(c, cxlshm_release(c->client, c->held[i])))
		wrong(c, "a release fails");
	c->held[i] = ref;
}

static cxlshm_ref make(struct churn *c)
{
	static const size_t most[] = {100, 100, 1000, 10000, 300000};
	size_t bytes = FIELDS * 8 + sizeof(struct mark) + draw(c, most[draw(c, 5)]);
	cxlshm_ref ref;
	c->doing = "alloc";
	if (expected(c, cxlshm_alloc_with(c->client, bytes, FIELDS, draw(c, 2) ? CXLSHM_ZERO : 0, &ref)))
		return 0;
	struct mark *mark = mark_of(c, ref);
	mark->id = cxlshm_id(c->client, ref);
	mark->sum = mark->id * MARK;
	return ref;
}

static void cell_step(struct churn *c)
{
	uint32_t index = (uint32_t)draw(c, CELLS);
	cxlshm_ref ref = 0, mine;
	switch (draw(c, 5)) {
	case 0: case 1:
		c->doing = "cell load";
		if (!expected(c, cxlshm_cell_load(c->client, c->cells, index, &ref))) {
			verify(c, ref);
			put_away(c, ref);
		}
		break;
	case 2:
		c->doing = "cell store";
		expected(c, cxlshm_cell_store(c->client, c->cells, index, c->held[draw(c, HELD)]));
		break;
	case 3:
		mine = make(c);
		c->doing = "cell swap";
		expected(c, cxlshm_cell_swap(c->client, c->cells, index, &mine));
		verify(c, mine);
		put_away(c, mine);
		break;
	default:
		c->doing = "cell cas";
		if (expected(c, cxlshm_cell_load(c->client, c->cells, index, &ref)))
			return;
		mine = make(c);
		expected(c, cxlshm_cell_cas(c->client, c->cells, index, ref, &mine));
		verify(c, mine);
		put_away(c, mine);
		put_away(c, ref);
	}
}

static void queue_step(struct churn *c)
{
	cxlshm_ref ref;
	if (draw(c, 2)) {
		ref = make(c);
		c->doing = "queue send";
		if (ref && expected(c, cxlshm_queue_send(c->client, c->queue, ref)))
			put_away(c, ref);
	} else {
		c->doing = "queue receive";
		if (!expected(c, cxlshm_queue_receive(c->client, c->queue, &ref))) {
			verify(c, ref);
			put_away(c, ref);
		}
	}
}

static void field_step(struct churn *c)
{
	/* Only into an object that nobody else has seen: fields have no lock of their own. */
	cxlshm_ref ref = make(c);
	if (!ref)
		return;
	for (uint32_t i = 0; i < FIELDS; i++) {
		c->doing = "field store";
		cxlshm_ref child = c->held[draw(c, HELD)];
		if (child && cxlshm_kind(c->client, child) == CXLSHM_KIND_HEAP)
			expected(c, cxlshm_field_store(c->client, ref, i, draw(c, 8) ? 0 : child));
	}
	put_away(c, ref);
}

static void name_step(struct churn *c)
{
	char a[64], b[64];
	cxlshm_ref ref = 0;
	snprintf(a, sizeof(a), "native/d%d/f%d", (int)draw(c, 3), (int)draw(c, 12));
	snprintf(b, sizeof(b), "native/d%d/f%d", (int)draw(c, 3), (int)draw(c, 12));
	int rc;
	switch (draw(c, 9)) {
	case 0:
		c->doing = "create";
		if (!expected(c, cxlshm_create(c->client, 0, a, draw(c, 100000), 0666, &ref)))
			put_away(c, ref);
		break;
	case 1: c->doing = "unlink"; expected(c, cxlshm_unlink(c->client, 0, a)); break;
	case 2: c->doing = "rename"; expected(c, cxlshm_rename(c->client, 0, a, 0, b, 0)); break;
	case 3: c->doing = "exchange"; expected(c, cxlshm_rename(c->client, 0, a, 0, b, CXLSHM_EXCHANGE)); break;
	case 4: c->doing = "mkdir"; *strrchr(a, '/') = 0; expected(c, cxlshm_mkdir(c->client, 0, a, 0777, NULL)); break;
	case 5: c->doing = "rmdir"; *strrchr(a, '/') = 0; expected(c, cxlshm_rmdir(c->client, 0, a)); break;
	case 6:
		ref = make(c);
		c->doing = "link";
		if (ref)
			expected(c, cxlshm_link(c->client, ref, 0, a, 0666));
		put_away(c, ref);
		break;
	case 7:
		c->doing = "lookup";
		if (!expected(c, cxlshm_lookup(c->client, 0, a, 0, &ref))) {
			verify(c, ref);
			put_away(c, ref);
		}
		break;
	default:
		c->doing = "resize";
		if (expected(c, cxlshm_lookup(c->client, 0, a, 0, &ref)))
			return;
		if (cxlshm_kind(c->client, ref) == CXLSHM_KIND_FILE) {
			void *map;
			expected(c, cxlshm_resize(c->client, ref, 4096 + draw(c, 100000)));
			c->doing = "map";
			rc = cxlshm_map(c->client, ref, 0, 4096, PROT_READ, &map);
			if (!rc && cxlshm_unmap(c->client, map))
				wrong(c, "an unmap fails");
			expected(c, rc);
		}
		put_away(c, ref);
	}
}

/* The shared objects: whoever is first makes them. */
static void meet(struct churn *c)
{
	cxlshm_ref ref;
	c->doing = "meeting";
	while (expected(c, cxlshm_lookup(c->client, 0, "cells", 0, &c->cells))) {
		if (expected(c, cxlshm_alloc_with(c->client, CELLS * 16, CELLS, CXLSHM_ZERO | CXLSHM_CELLS, &ref)))
			continue;
		expected(c, cxlshm_link(c->client, ref, 0, "cells", 0600));
		cxlshm_release(c->client, ref);
	}
	while (expected(c, cxlshm_lookup(c->client, 0, "queue", 0, &c->queue))) {
		if (expected(c, cxlshm_queue_create(c->client, 100, 0, &ref)))
			continue;
		expected(c, cxlshm_link(c->client, ref, 0, "queue", 0600));
		cxlshm_release(c->client, ref);
	}
	expected(c, cxlshm_mkdir(c->client, 0, "native", 0777, NULL));
}

/* The counter that says that it goes on; one of its own if nobody looks. */
static uint64_t *steps_of(const char *path, const char *number)
{
	static uint64_t own;
	int fd;
	void *map;

	if (!path)
		return &own;
	fd = open(path, O_RDWR | O_CLOEXEC);
	map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (fd < 0 || map == MAP_FAILED) {
		perror(path);
		exit(2);
	}
	close(fd);
	return (uint64_t *)map + strtoul(number, NULL, 0);
}

int main(int argc, char **argv)
{
	static struct churn c;
	struct cxlshm_error error;
	volatile uint64_t *steps;
	if (argc != 3 && argc != 5)
		return fprintf(stderr, "usage: churn POOL SEED [STEPS NUMBER]\n"), 2;
	steps = steps_of(argc == 5 ? argv[3] : NULL, argc == 5 ? argv[4] : NULL);
	c.random = strtoull(argv[2], NULL, 0) * MARK | 1;
	c.doing = "opening";
	int rc = cxlshm_pool_open(argv[1], 0, &c.pool, &error);
	if (rc)
		wrong(&c, error.text);
	do
		rc = cxlshm_join(c.pool, "churn", 0, &c.client);
	while (rc == -ENOSPC || rc == -EUSERS);
	if (rc)
		wrong(&c, strerrorname_np(-rc));
	meet(&c);
	for (uint64_t step = 0;; step++, ++*steps) {
		uint64_t kind = draw(&c, 100);
		if (kind < 40)
			cell_step(&c);
		else if (kind < 60)
			queue_step(&c);
		else if (kind < 70)
			field_step(&c);
		else if (kind < 85)
			name_step(&c);
		else
			put_away(&c, kind < 95 ? make(&c) : 0);
		if (step % 5000 == 4999) {	/* leave and come back */
			c.doing = "leaving";
			if (cxlshm_leave(c.client))
				wrong(&c, "leaving fails");
			memset(c.held, 0, sizeof(c.held));
			do
				rc = cxlshm_join(c.pool, "churn", 0, &c.client);
			while (rc == -ENOSPC || rc == -EUSERS);
			if (rc)
				wrong(&c, strerrorname_np(-rc));
			meet(&c);
		}
	}
}
