/* SPDX-License-Identifier: MIT */
/*
 * check_slots: the clients' slots, and the roots in them.
 *
 * Slots are read with pread(2) into private copies: the area of a slot that was never claimed is a hole,
 * and touching a hole of a full tmpfs through a mapping is SIGBUS.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "check_state.h"
#include "client.h"

#define RECORD_FINDINGS 3u	/* that a half-done operation may show as */
#define ROOTS_FIRST (SLOT_ROOTS_BYTES / sizeof(struct root_fmt))

static int read_area(const struct check *c, const volatile void *from, void *to, size_t bytes)
{
	uint64_t off = off_of(c->pool, from);
	size_t done = 0;

	while (done < bytes) {
		ssize_t n = pread(c->pool->heap_fd, (char *)to + done, bytes - done, (off_t)(off + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return 0;
}

static int rows_empty(const struct root_fmt *rows)
{
	for (uint64_t i = 0; i < ROOTS_FIRST; i++)
		if (root_object(&rows[i]))
			return 0;
	return 1;
}

static int todo_empty(const struct todo_fmt *todo)
{
	static const struct todo_fmt none;

	return memcmp(todo, &none, sizeof(none)) == 0;
}

static int exports_empty(const struct slot_fmt *slot)
{
	for (uint32_t i = 0; i < EXPORTS; i++)
		if (a128_value_relaxed(&slot->exports[i].word))
			return 0;
	return 1;
}

/* A free slot holds nothing but its era and numbers that mean nothing. */
static void slot_is_empty(struct check *c, uint32_t cid, const struct check_slot *s)
{
	const struct slot_fmt *slot = s->copy;

	if (a64_load_relaxed(&slot->redo.era) && a64_load_relaxed(&slot->redo.era) == s->era)
		check_problem(c, "slot %u is free but has a sealed record (op %u, era %" PRIu64 ")", cid,
			      slot->redo.op, s->era);
	if (a64_load_relaxed(&slot->dead_top))
		check_problem(c, "slot %u is free but has a dead list at 0x%" PRIx64, cid,
			      a64_load_relaxed(&slot->dead_top));
	if (a64_load_relaxed(&slot->segments_head))
		check_problem(c, "slot %u is free but has segment %" PRIu64 " on its list", cid,
			      a64_load_relaxed(&slot->segments_head));
	if (a64_load_relaxed(&slot->roots_next))
		check_problem(c, "slot %u is free but has a page of roots at 0x%" PRIx64, cid,
			      a64_load_relaxed(&slot->roots_next));
	if (a64_load_relaxed(&slot->moving_dir))
		check_problem(c, "slot %u is free but marked as moving a directory", cid);
	if (!todo_empty(&slot->todo))
		check_problem(c, "slot %u is free but owes something", cid);
	if (!exports_empty(slot))
		check_problem(c, "slot %u is free but has exports", cid);
	if (!rows_empty(s->roots))
		check_problem(c, "slot %u is free but has root references", cid);
}

static int slot_claimed(struct check *c, uint32_t cid, const struct check_slot *s)
{
	const struct slot_fmt *slot = s->copy;
	int rc = 0;

	if (!memchr(slot->name, 0, sizeof(slot->name)))
		check_broken(c, "slot %u: the client's name does not end", cid);
	if (!s->era)
		check_broken(c, "slot %u is claimed in era 0", cid);
	if (!s->alive) {
		int within = a64_load_relaxed(&slot->redo.era) == s->era;

		c->expected += within ? 1 + RECORD_FINDINGS : 1;
		check_problem(c, "slot %u: its client (process %" PRIu64 ") is dead and not recovered%s", cid,
			      a64_load_relaxed(&slot->pid),
			      within ? "; it died within an operation" : "");
	} else if (a64_load_relaxed(&slot->redo.era) == s->era)
		check_problem(c, "slot %u: a record is sealed (op %u, era %" PRIu64
			      ") though no operation is running", cid, slot->redo.op, s->era);
	if (s->alive && !todo_empty(&slot->todo))
		check_problem(c, "slot %u owes something though no operation is running", cid);
	if (s->alive && a64_load_relaxed(&slot->moving_dir))
		check_problem(c, "slot %u is moving a directory though no operation is running", cid);
	for (uint32_t i = 0; !rc && i < DEBTS; i++)
		if (slot->todo.debt[i])
			rc = check_map_add(&c->debts, slot->todo.debt[i] & ~DEBT_REVIVE, 1);
	for (uint32_t i = 0; i < EXPORTS; i++)
		if (!check_stamp(c, a128_stamp_relaxed(&slot->exports[i].word)))
			check_problem(c, "slot %u: export %u has a stamp from the future, 0x%" PRIx64, cid, i,
				      a128_stamp_relaxed(&slot->exports[i].word));
	return rc;
}

/* Nobody has seen an era of cid that cid has not reached. */
static int check_era_rows(struct check *c)
{
	struct a64 *row = malloc((c->pool->slots + 1ull) * sizeof(*row));
	int rc = row ? 0 : -ENOMEM;

	for (uint32_t i = 1; !rc && i <= c->slots_high; i++) {
		rc = read_area(c, pool_era_row(c->pool, i), row, (c->pool->slots + 1ull) * sizeof(*row));
		for (uint32_t j = 1; !rc && j <= c->pool->slots; j++)
			if (a64_load_relaxed(&row[j]) > (j <= c->slots_high ? c->slots[j].era : 0))
				check_broken(c, "slot %u has seen era %" PRIu64 " of slot %u, which is in era %"
					      PRIu64, i, a64_load_relaxed(&row[j]), j,
					      j <= c->slots_high ? c->slots[j].era : 0);
	}
	free(row);
	return rc;
}

/* Who moves a directory is a client that says so itself. */
static void check_dir_move(struct check *c)
{
	uint64_t mover = a128_value_relaxed(&c->pool->shared->dir_move);

	if (!check_stamp(c, a128_stamp_relaxed(&c->pool->shared->dir_move)))
		check_problem(c, "the word of who moves a directory has a stamp from the future");
	if (!mover)
		return;
	if (mover > c->slots_high || !c->slots[mover].claimed)
		check_problem(c, "slot %" PRIu64 " is said to move a directory, and is free", mover);
	else if (c->slots[mover].alive)
		check_problem(c, "slot %" PRIu64 " is said to move a directory though no operation is running",
			      mover);
}

/* The highest slot that ever was in an era, by the file and not by the mapping: the others are holes. */
uint32_t check_highest_slot(const struct check *c)
{
	for (uint32_t cid = c->pool->slots; cid; cid--) {
		uint64_t era = 0;

		if (pread(c->pool->heap_fd, &era, sizeof(era),
			  (off_t)off_of(c->pool, pool_era_row(c->pool, cid) + cid)) == sizeof(era) && era)
			return cid;
	}
	return 0;
}

int check_slots(struct check *c)
{
	struct pool *pool = c->pool;
	int rc;

	for (uint32_t cid = 1; cid <= c->slots_high; cid++) {
		struct check_slot *s = &c->slots[cid];
		struct a64 era;

		s->copy = aligned_alloc(64, sizeof(*s->copy));
		s->roots = malloc(SLOT_ROOTS_BYTES);
		if (!s->copy || !s->roots)
			return -ENOMEM;
		rc = read_area(c, pool_slot(pool, cid), s->copy, sizeof(*s->copy));
		if (!rc)
			rc = read_area(c, (char *)pool_slot(pool, cid) + pool->super->roots_off, s->roots,
				       SLOT_ROOTS_BYTES);
		if (!rc)
			rc = read_area(c, pool_era_row(pool, cid) + cid, &era, sizeof(era));
		if (rc)
			return rc;
		s->era = a64_load_relaxed(&era);
		s->claimed = (a64_load_relaxed(&s->copy->state) & 0xff) == SLOT_CLAIMED;
		s->alive = s->claimed && client_alive(pool, cid);
	}
	for (uint32_t cid = 1; cid <= c->slots_high; cid++) {
		struct check_slot *s = &c->slots[cid];
		uint64_t state = a64_load_relaxed(&s->copy->state) & 0xff;

		if (s->era >= STAMP_ERA_MASK)
			check_broken(c, "slot %u: era %" PRIu64 " is out of range", cid, s->era);
		if (s->claimed) {
			rc = slot_claimed(c, cid, s);
			if (rc)
				return rc;
			check_note(c, "slot %u: client %.*s, process %" PRIu64 ", era %" PRIu64, cid,
				   (int)sizeof(s->copy->name) - 1, s->copy->name,
				   a64_load_relaxed(&s->copy->pid), s->era);
			continue;
		}
		if (state != SLOT_FREE)
			check_problem(c, "slot %u is in state %" PRIu64 ", which there is not", cid, state);
		slot_is_empty(c, cid, s);
		free(s->copy);
		free(s->roots);
		s->copy = NULL;
		s->roots = NULL;
	}
	check_dir_move(c);
	return check_era_rows(c);
}

int check_each_root(struct check *c, uint32_t cid,
		    int (*visit)(struct check *c, uint32_t cid, uint64_t object, uint64_t row))
{
	struct check_slot *s = &c->slots[cid];
	uint64_t page_bytes = 1ull << c->pool->page_shift;
	uint64_t row = 0, at;
	int rc = 0;

	for (; !rc && row < ROOTS_FIRST; row++)
		if (root_object(&s->roots[row]))
			rc = visit(c, cid, root_object(&s->roots[row]), row);
	at = a64_load_relaxed(&s->copy->roots_next);
	for (uint64_t n = 0; !rc && at && n < (uint64_t)c->pool->segments * PAGES_PER_SEGMENT; n++) {
		const struct roots_fmt *head;
		const struct root_fmt *rows;

		/* What is wrong with a chain is said by check_lists(). */
		if (at >= c->pool->heap_bytes || at % page_bytes || !c->page_roots[at / page_bytes])
			break;
		head = off_ptr(c->pool, at);
		rows = (const struct root_fmt *)(head + 1);
		for (uint64_t i = 0; !rc && i < head->rows && i < page_bytes / sizeof(*rows) - 1; i++, row++)
			if (root_object(&rows[i]))
				rc = visit(c, cid, root_object(&rows[i]), row);
		at = a64_load_relaxed(&head->next);
	}
	return rc;
}
