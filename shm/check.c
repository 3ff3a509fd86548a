/* SPDX-License-Identifier: MIT */
/*
 * check: the walk over a pool, in the order in which each step may rely on those before it: superblock,
 * slots, segments, pages, blocks, lists, references, names, extents.  Here: the entries, what all steps
 * use, and the superblock.  See check_state.h for who does the rest.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check_state.h"
#include "client.h"
#include "recover.h"

#define LINE_BYTES 256
#define REPAIR_ROUNDS 3

/* ---------------------------------------------------------------- reports */

static void say(struct check *c, int severity, const char *format, va_list args)
{
	char line[LINE_BYTES];

	if (!c->report)
		return;
	vsnprintf(line, sizeof(line), format, args);
	c->report(c->arg, severity, line);
}

void check_problem(struct check *c, const char *format, ...)
{
	va_list args;

	c->result->problems++;
	va_start(args, format);
	say(c, 1, format, args);
	va_end(args);
}

void check_broken(struct check *c, const char *format, ...)
{
	va_list args;

	c->unsafe = 1;
	c->result->problems++;
	va_start(args, format);
	say(c, 1, format, args);
	va_end(args);
}

void check_note(struct check *c, const char *format, ...)
{
	va_list args;

	if (!(c->flags & CXLSHM_CHECK_VERBOSE))
		return;
	va_start(args, format);
	say(c, 0, format, args);
	va_end(args);
}

void check_fixed(struct check *c, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	say(c, 2, format, args);
	va_end(args);
}

/* ---------------------------------------------------------------- tables */

static uint64_t map_place(const struct check_map *map, uint64_t key)
{
	uint64_t i = (key * 0x9e3779b97f4a7c15ull) >> 20 & (map->size - 1);

	while (map->keys[i] && map->keys[i] != key)
		i = (i + 1) & (map->size - 1);
	return i;
}

static int map_grow(struct check_map *map)
{
	struct check_map next = {.size = map->size ? map->size * 2 : 256, .used = map->used};

	next.keys = calloc(next.size, sizeof(uint64_t));
	next.values = calloc(next.size, sizeof(uint64_t));
	if (!next.keys || !next.values) {
		check_map_free(&next);
		return -ENOMEM;
	}
	for (uint64_t i = 0; i < map->size; i++)
		if (map->keys[i]) {
			uint64_t place = map_place(&next, map->keys[i]);

			next.keys[place] = map->keys[i];
			next.values[place] = map->values[i];
		}
	check_map_free(map);
	*map = next;
	return 0;
}

int check_map_add(struct check_map *map, uint64_t key, uint64_t n)
{
	uint64_t place;

	if (map->used * 2 >= map->size) {
		int rc = map_grow(map);

		if (rc)
			return rc;
	}
	place = map_place(map, key);
	if (!map->keys[place]) {
		map->keys[place] = key;
		map->used++;
	}
	map->values[place] += n;
	return 0;
}

uint64_t check_map_get(const struct check_map *map, uint64_t key)
{
	return map->size && key ? map->values[map_place(map, key)] : 0;
}

void check_map_free(struct check_map *map)
{
	free(map->keys);
	free(map->values);
	memset(map, 0, sizeof(*map));
}

int check_push(struct check *c, uint64_t off)
{
	if (c->stack_used == c->stack_room) {
		uint64_t room = c->stack_room ? c->stack_room * 2 : 1024;
		uint64_t *stack = realloc(c->stack, room * sizeof(*stack));

		if (!stack)
			return -ENOMEM;
		c->stack = stack;
		c->stack_room = room;
	}
	c->stack[c->stack_used++] = off;
	return 0;
}

int check_stamp(const struct check *c, uint64_t stamp)
{
	uint32_t cid = stamp_cid(stamp);

	if (cid == STAMP_CID_NONE)
		return 1;
	return cid <= c->slots_high && stamp_era(stamp) <= c->slots[cid].era;
}

/* ---------------------------------------------------------------- the walk */

static void forget(struct check *c)
{
	for (uint32_t cid = 1; c->slots && cid <= c->slots_high; cid++) {
		free(c->slots[cid].copy);
		free(c->slots[cid].roots);
	}
	free(c->slots);
	free(c->segment_readable);
	free(c->segment_lister);
	free(c->page_run);
	free(c->page_roots);
	free(c->runs);
	free(c->block);
	free(c->holder);
	free(c->found);
	free(c->stack);
	check_map_free(&c->debts);
	check_map_free(&c->names);
	check_map_free(&c->extents);
}

static int prepare(struct check *c)
{
	struct pool *pool = c->pool;
	uint64_t pages = (uint64_t)pool->segments * PAGES_PER_SEGMENT;
	uint64_t high = a64_load_acquire(&pool->shared->slots_high);
	uint32_t highest = check_highest_slot(c);

	/* It is raised before the slot is touched, so it may be too high, but for good never too low. */
	if (high > pool->slots || high < highest) {
		check_problem(c, "slot %" PRIu64 " is said to be the highest used, but %u was, of %u", high, highest,
			      pool->slots);
		high = highest;
	}
	c->slots_high = (uint32_t)high;
	c->slots = calloc(high + 1, sizeof(*c->slots));
	c->segment_readable = calloc(pool->segments, sizeof(*c->segment_readable));
	c->segment_lister = calloc(pool->segments, sizeof(*c->segment_lister));
	c->page_run = calloc(pages, sizeof(*c->page_run));
	c->page_roots = calloc(pages, sizeof(*c->page_roots));
	return c->slots && c->segment_readable && c->segment_lister && c->page_run && c->page_roots ? 0 : -ENOMEM;
}

/* Every step relies on what those before it found sound, and on nothing else. */
static int walk(struct check *c)
{
	static const struct {
		int (*take)(struct check *c);
		const char *of;	/* what it looks at */
	} step[] = {
		{prepare, NULL}, {check_slots, "client slots"}, {check_segments, "segments"}, {check_pages, "page tables"},
		{check_blocks, "blocks"}, {check_lists, "lists"}, {check_references, "references and counts"},
		{check_reach, "ways to every object"}, {check_directories, "directories"}, {check_inodes, "inodes"},
		{check_extents, "extents"},
	};
	int rc = 0;

	for (size_t i = 0; !rc && i < sizeof(step) / sizeof(step[0]); i++) {
		uint64_t before = c->result->problems;

		rc = step[i].take(c);
		if (!rc && step[i].of && c->result->problems == before)
			check_note(c, "%s: in order", step[i].of);
	}
	return rc;
}

/* One walk, and with REPAIR a repair of what it found.  *recoverable: recovery may be tried first. */
static int round_of(struct pool *pool, unsigned flags, check_report *report, void *arg,
		    struct cxlshm_check_result *result, int *recoverable)
{
	struct check c = {.pool = pool, .flags = flags, .report = report, .arg = arg, .result = result};
	int rc;

	memset(result, 0, sizeof(*result));
	rc = walk(&c);
	if (!rc && flags & CXLSHM_CHECK_REPAIR && result->problems)
		rc = check_repair(&c);
	if (recoverable)
		*recoverable = !c.unsafe && c.expected && result->problems <= c.expected;
	forget(&c);
	return rc;
}

static int anybody_alive(struct pool *pool)
{
	uint64_t high = a64_load_acquire(&pool->shared->slots_high);

	for (uint32_t cid = 1; cid <= high && cid <= pool->slots; cid++)
		if (client_alive(pool, cid))
			return 1;
	return 0;
}

/*
 * Recovery trusts the pool, so it goes first only where all that was found can be what dying clients left.
 * Otherwise the repair does without it: their slots are wiped, and an operation on names that they were in
 * the middle of stays where it was.
 */
static int recover_first(struct pool *pool, check_report *report, void *arg)
{
	struct cxlshm_recovery done = {0};
	char line[LINE_BYTES];
	int rc = recover_dead(pool, &done);

	if (rc || !report)
		return rc;
	snprintf(line, sizeof(line), "recovered %u dead clients, which held %" PRIu64 " references", done.clients,
		 done.references);
	report(arg, 2, line);
	return 0;
}

/* Rounds of repair find again what could not be repaired: a line is told once. */
struct once {
	check_report *report;
	void *arg;
	struct check_map told;
};

static void report_once(void *arg, int severity, const char *line)
{
	struct once *once = arg;
	uint64_t key = 0xcbf29ce484222325ull + (unsigned)severity;

	for (const char *at = line; *at; at++)
		key = (key ^ (unsigned char)*at) * 0x100000001b3ull;
	if (check_map_get(&once->told, key | 1))
		return;
	(void)check_map_add(&once->told, key | 1, 1);	/* without memory it is told again */
	once->report(once->arg, severity, line);
}

static int check_and_repair(struct pool *pool, unsigned flags, check_report *report, void *arg,
			    struct cxlshm_check_result *result)
{
	struct cxlshm_check_result found, left;
	unsigned quietly = flags & ~CXLSHM_CHECK_VERBOSE;
	int recoverable;
	int rc;

	rc = round_of(pool, flags & ~CXLSHM_CHECK_REPAIR, report, arg, &found, &recoverable);
	left = found;
	if (!rc && flags & CXLSHM_CHECK_REPAIR && found.problems) {
		/* What was hidden behind damage shows in a later round. */
		if (recoverable)
			rc = recover_first(pool, report, arg);
		for (int rounds = 0; !rc && left.problems && rounds < REPAIR_ROUNDS; rounds++)
			rc = round_of(pool, quietly, report, arg, &left, NULL);
		if (!rc && left.problems)
			rc = round_of(pool, quietly & ~CXLSHM_CHECK_REPAIR, report, arg, &left, NULL);
	}
	if (rc)
		return rc;
	*result = found;
	if (left.problems > found.problems)
		result->problems = left.problems;
	result->repaired = result->problems - left.problems;
	return 0;
}

int check_pool(struct pool *pool, unsigned flags, check_report *report, void *arg,
	       struct cxlshm_check_result *result)
{
	struct once once = {.report = report, .arg = arg};
	int rc;

	if (pool->forked)
		return -EOWNERDEAD;
	if (flags & CXLSHM_CHECK_REPAIR && pool->flags & CXLSHM_READONLY)
		return -EROFS;
	if (flags & CXLSHM_CHECK_REPAIR && anybody_alive(pool))
		return -EBUSY;
	rc = check_and_repair(pool, flags, report ? report_once : NULL, &once, result);
	check_map_free(&once.told);
	return rc;
}

/* ---------------------------------------------------------------- offline */

/* Are both copies of the superblock there and the same?  The pool is open, so at least one is good. */
static void check_super(struct pool *pool, check_report *report, void *arg, struct cxlshm_check_result *result)
{
	struct super_fmt first, copy;
	const char *line = NULL;

	if (pool_super_read(pool->heap_fd, &first, &copy))
		line = "the superblock cannot be read";
	else if (pool_super_judge(&first, pool->path, NULL))
		line = "the superblock is damaged; its copy is good";
	else if (memcmp(&first, &copy, sizeof(first)))
		line = "the superblock's copy is damaged or differs";
	if (!line)
		return;
	result->problems++;
	if (report)
		report(arg, 1, line);
}

int cxlshm_check(const char *path, unsigned flags, void (*report)(void *arg, int severity, const char *line),
		 void *arg, struct cxlshm_check_result *result, struct cxlshm_error *error)
{
	struct cxlshm_check_result super = {0}, found;
	int repair = (flags & CXLSHM_CHECK_REPAIR) != 0;
	struct pool *pool;
	int rc;

	if (error)
		error->text[0] = 0;
	if (!path || flags & ~(CXLSHM_CHECK_REPAIR | CXLSHM_CHECK_VERBOSE))
		return error_set(error, -EINVAL, "no pool directory, or unknown flags 0x%x", flags);
	if (repair) {
		rc = pool_super_repair(path, error);
		if (rc < 0)
			return rc;
		super.problems = super.repaired = (uint64_t)rc;
		if (rc && report)
			report(arg, 2, "superblock: written anew from the copy of it that is good");
	}
	rc = pool_open_exclusive(path, POOL_USE_COPY | (repair ? 0 : CXLSHM_READONLY), &pool, error);
	if (rc)
		return rc;
	if (!repair)
		check_super(pool, report, arg, &super);
	rc = check_pool(pool, flags, report, arg, &found);
	if (rc)
		error_set(error, rc, "%s: cannot be checked: %s", path, strerror(-rc));
	pool_unmap(pool);
	if (rc)
		return rc;
	found.problems += super.problems;
	found.repaired += super.repaired;
	if (result)
		*result = found;
	return 0;
}
