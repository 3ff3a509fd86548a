/* SPDX-License-Identifier: MIT */
/*
 * Linearizability: a search for an order of the operations, each between its call and its return, in which a sequential
 * cell, queue or directory gives the same results (Wing and Gong, 1993), with a memory of positions already tried.
 *
 * One-to-one queues have roles: the first call takes one, leaving and recovery give it up, and -EBUSY needs another holder.
 * An operation whose caller died took effect before its death (of names: before the end of recovery), or never.
 *
 * Names are not all atomic, and promise no more than this:
 *   rename     three steps: it looks at the old name; the new name shows; the old one goes, if it is still the same
 *              entry, else the new one is taken back, if that is still the same, and the rename begins again
 *   exchange   the same, with the other entry put in the old place; if the new entry is gone, too, what it displaced gets
 *              the old name if that is free (and the exchange is done), or its own if that is, or one that is not looked at;
 *              whoever finishes it for a dead client may pass over one that is free
 *   rmdir      may say "not empty" or "busy" while another operation on that directory is under way: on a name in it, or one
 *              that moves or replaces it; so may a rename of a directory that it replaces
 *   create     may say "no such file" in a directory that a rename is about to replace, whose caller died: if the rename did
 *              not happen, recovery revives the directory
 * State of names: tag and entry of each (which event made it, 255: there from the start), removed (of d, e and f), and for
 * each fiber what its rename remembers.
 */
#include <errno.h>

#include "interleave.h"

#define DONE 255u
#define SEEN 4096u
#define ENTRY NAMES_MAX
#define REMOVED (2u * NAMES_MAX)
#define SCRATCH (REMOVED + DIRS)	/* + MEM_BYTES * fiber */

struct position {
	uint8_t state[STATE_BYTES];
	uint8_t stage[EVENTS_MAX];
};

struct search {
	const struct history *h;
	struct position seen[SEEN];
	uint32_t seen_count;
	int table[SEEN * 2];
	uint64_t work;
};

/* ---- sequential specifications: 1 if the event can take its next step, and its new stage ---- */

static int returned(const struct event *e, int32_t ret, int32_t result)
{
	return e->pending || (e->ret == ret && (e->blind || e->result == result));
}

static int step_cell(uint8_t *s, const struct event *e, uint8_t *stage)
{
	int32_t was = s[0];

	*stage = DONE;
	switch (e->op) {
	case OP_LOAD:
		return returned(e, 0, was);
	case OP_SWAP:
		s[0] = (uint8_t)e->arg;
		return returned(e, 0, was);
	case OP_CAS:
		if (was != e->expected)
			return returned(e, -EAGAIN, 0);
		s[0] = (uint8_t)e->arg;
		return returned(e, 0, 0);
	}
	return 0;
}

/* Of a one-to-one queue, the caller first takes the role, unless another one has it.  Who is dead has it until recovered. */
static int step_role(uint8_t *s, const struct event *e, uint8_t *stage)
{
	uint8_t me = (uint8_t)(e->fiber + 1);

	if (e->op == OP_LEAVE || e->op == OP_DEATH) {
		for (uint32_t side = 0; side < 2; side++)
			if (s[QUEUE_ROLES + side] == me)
				s[QUEUE_ROLES + side] = 0;
		*stage = DONE;
		return 1;
	}
	s += QUEUE_ROLES + (e->op == OP_RECEIVE);
	*stage = *s && *s != me ? DONE : 1;
	if (*stage == DONE)
		return returned(e, -EBUSY, 0);
	*s = me;
	return 1;
}

/*
 * What was received is counted first, what was sent then: what passes in between counts.  A call that its
 * caller died in may count or not, and so may one of a one-to-one queue that has begun.
 */
static int step_length(const struct history *h, uint8_t *s, const struct event *e, uint8_t *stage)
{
	uint8_t *sum = &s[QUEUE_LOOKS + e->fiber];
	int32_t most, is = e->result, open = 0;

	*stage = *stage ? DONE : 1;
	if (*stage == 1) {
		*sum = (uint8_t)(s[0] + 1);
		return 1;
	}
	most = *sum - 1;
	*sum = 0;
	for (uint32_t i = 0; i < h->count; i++) {
		const struct event *o = &h->event[i];

		open += (o->op == OP_SEND || o->op == OP_RECEIVE) &&
			(o->pending || (h->roles && o->begin < e->end && e->begin < o->end));
	}
	if (most > (int32_t)h->capacity)
		most = (int32_t)h->capacity;
	return e->pending || (!e->ret && is >= 0 && is <= (int32_t)h->capacity && is >= most - open && is <= most + open);
}

static int step_queue(const struct history *h, uint8_t *s, const struct event *e, uint8_t *stage)
{
	int32_t first = s[1];

	if (e->op == OP_LENGTH)
		return step_length(h, s, e, stage);
	if (h->roles && !*stage)
		return step_role(s, e, stage);
	*stage = DONE;
	if (e->op == OP_SEND) {
		if (s[0] == h->capacity)
			return returned(e, -EAGAIN, 0);
		s[1 + s[0]++] = (uint8_t)e->arg;
		for (uint32_t i = 0; i < FIBERS; i++)
			s[QUEUE_LOOKS + i] = (uint8_t)(s[QUEUE_LOOKS + i] + (s[QUEUE_LOOKS + i] != 0));
		return returned(e, 0, 0);
	}
	if (!s[0])
		return returned(e, -EAGAIN, 0);
	memmove(s + 1, s + 2, h->capacity);
	s[0]--;
	return returned(e, 0, first);
}

static int is_dir(uint8_t tag)
{
	return tag >= TAG_DIR;
}

/* Is the name in a directory that is removed? */
static int in_removed(const uint8_t *s, unsigned name)
{
	return name_dir(name) < DIRS && s[REMOVED + name_dir(name)];
}

static int has_names(const uint8_t *s, uint8_t tag)
{
	for (unsigned n = 0; n < NAMES_MAX; n++)
		if (s[n] && name_dir(n) < DIRS && name_dir(n) + TAG_DIR == tag)
			return 1;
	return 0;
}

static void set_removed(uint8_t *s, uint8_t tag, uint8_t removed)
{
	if (tag >= TAG_DIR && tag < TAG_DIR + DIRS)
		s[REMOVED + tag - TAG_DIR] = removed;
}

/* Is the directory the one that the name is in, or above that? */
static int is_above(const uint8_t *s, uint8_t tag, unsigned name, uint32_t depth)
{
	if (!is_dir(tag) || name_dir(name) == DIRS || depth > DIRS)
		return 0;
	if (name_dir(name) + TAG_DIR == tag)
		return 1;
	for (unsigned n = 0; n < NAMES_MAX; n++)
		if (s[n] == name_dir(name) + TAG_DIR && is_above(s, tag, n, depth + 1))
			return 1;
	return 0;
}

/* All names that the directory with this tag may ever have had: it moves by renames and exchanges only. */
static uint32_t names_of(const struct history *h, uint8_t tag)
{
	uint32_t names = 0, before;

	for (unsigned n = 0; n < NAMES_MAX; n++)
		names |= (uint32_t)(h->start[n] == tag) << n;
	do {
		before = names;
		for (uint32_t i = 0; i < h->count; i++) {
			const struct event *e = &h->event[i];
			uint32_t a = 1u << e->a, b = 1u << e->b;

			if (e->op == OP_CREATE && e->arg == tag)
				names |= a;
			/* What an exchange displaces has the old name; what a rename took back, its own. */
			if ((e->op == OP_RENAME && names & a) || (e->op == OP_EXCHANGE && names & (a | b)))
				names |= e->op == OP_EXCHANGE ? a | b : b;
		}
	} while (names != before);
	return names;
}

/*
 * Does the event count, for a moment, in the directory with this tag, which may be known by these names?  If it makes, takes
 * away or moves a name in it (what cannot be done counts until that is found out), or renames, displaces or replaces itself.
 */
static int is_on(const struct event *o, uint8_t tag, uint32_t names)
{
	int moves = o->op == OP_RENAME || o->op == OP_EXCHANGE;

	if (o->op == OP_LOOKUP)
		return 0;
	return name_dir(o->a) + TAG_DIR == tag || (moves && name_dir(o->b) + TAG_DIR == tag) ||
	       (moves && names & (1u << o->a | 1u << o->b));
}

/* Is some other event on the directory under way at the same time?  (Of one whose caller died: until all is recovered.) */
static int busy_around(const struct history *h, const struct event *e, uint8_t tag)
{
	uint32_t names = names_of(h, tag);

	for (uint32_t i = 0; i < h->count; i++) {
		const struct event *o = &h->event[i];

		if (o != e && o->begin < e->end && e->begin < o->end && is_on(o, tag, names))
			return 1;
	}
	return 0;
}

/* What a rename remembers: the old name's entry and tag when it looked, and what its new name replaced. */
enum { MEM_OLD_ENTRY, MEM_OLD_TAG, MEM_TAG, MEM_ENTRY, MEM_BYTES };

/*
 * 0: it looks at the old name; 1: its new entry shows; 2: the old one goes, or the new one is taken back; 3, an exchange
 * that found neither, and the old name taken: what it displaced goes back.
 */
static int step_rename(uint8_t *s, const struct event *e, uint8_t *stage, uint8_t id)
{
	uint8_t *mem = s + SCRATCH + MEM_BYTES * e->fiber;
	uint8_t from = mem[MEM_OLD_TAG], to = s[e->b];
	int exchange = e->op == OP_EXCHANGE;

	if (!*stage) {
		if (!s[e->a]) {
			*stage = DONE;
			return returned(e, -ENOENT, 0);
		}
		mem[MEM_OLD_ENTRY] = s[ENTRY + e->a];
		mem[MEM_OLD_TAG] = s[e->a];
		*stage = 1;
		return 1;
	}
	if (*stage == 1) {
		*stage = DONE;
		if ((exchange && !to) || in_removed(s, e->b))
			return returned(e, -ENOENT, 0);
		if (e->expected && to)	/* it is not to replace anything */
			return returned(e, -EEXIST, 0);
		/* Tags stand for inodes: two names of one, and nothing is to be done. */
		if (from == to && s[e->a] == to)
			return returned(e, 0, 0);
		/* Into itself; which of the reasons comes first is nobody's promise. */
		if (exchange && is_above(s, to, e->a, 0))
			return returned(e, -EINVAL, 0);
		if (is_above(s, from, e->b, 0))
			return returned(e, -EINVAL, 0) || (to && !exchange && !is_dir(to) && returned(e, -ENOTDIR, 0));
		if (to && !exchange) {
			if (is_dir(from) && !is_dir(to))
				return returned(e, -ENOTDIR, 0);
			if (!is_dir(from) && is_dir(to))
				return returned(e, -EISDIR, 0);
			if (has_names(s, to))
				return returned(e, -ENOTEMPTY, 0);
			set_removed(s, to, 1);
		}
		mem[MEM_TAG] = to;
		mem[MEM_ENTRY] = s[ENTRY + e->b];
		s[e->b] = from;
		s[ENTRY + e->b] = id;
		*stage = 2;
		return 1;
	}
	if (*stage == 2 && s[e->a] && s[ENTRY + e->a] == mem[MEM_OLD_ENTRY]) {
		s[e->a] = exchange ? mem[MEM_TAG] : 0;
		s[ENTRY + e->a] = exchange ? (uint8_t)(id + EVENTS_MAX) : 0;
		memset(mem, 0, MEM_BYTES);
		*stage = DONE;
		return returned(e, 0, 0);
	}
	/* Overtaken.  It begins again, and finds what it finds. */
	if (*stage == 3) {
		if (!s[e->b]) {
			s[e->b] = mem[MEM_TAG];
			s[ENTRY + e->b] = mem[MEM_ENTRY];
		}
	} else if (exchange && s[ENTRY + e->b] != id) {
		if (s[e->a] || in_removed(s, e->a)) {
			*stage = 3;
			return 1;
		}
		s[e->a] = mem[MEM_TAG];
		s[ENTRY + e->a] = (uint8_t)(id + EVENTS_MAX);
		memset(mem, 0, MEM_BYTES);
		*stage = DONE;
		return returned(e, 0, 0);
	} else if (s[ENTRY + e->b] == id) {
		s[e->b] = mem[MEM_TAG];
		s[ENTRY + e->b] = mem[MEM_ENTRY];
		if (!exchange)
			set_removed(s, mem[MEM_TAG], 0);
	}
	memset(mem, 0, MEM_BYTES);
	*stage = 0;	/* of one that died, too: it may have begun again before */
	return 1;
}

static int step_names(const struct history *h, uint8_t *s, const struct event *e, uint8_t *stage)
{
	uint8_t id = (uint8_t)(1 + (e - h->event));
	uint8_t was = s[e->a];

	if (e->op == OP_RENAME || e->op == OP_EXCHANGE)
		return step_rename(s, e, stage, id);
	*stage = DONE;
	switch (e->op) {
	case OP_LOOKUP:
		return was ? returned(e, 0, was) : returned(e, -ENOENT, 0);
	case OP_CREATE:
		if (in_removed(s, e->a))
			return returned(e, -ENOENT, 0);
		if (was)
			return returned(e, -EEXIST, 0);
		s[e->a] = (uint8_t)e->arg;
		s[ENTRY + e->a] = id;
		return returned(e, 0, 0);
	case OP_UNLINK:
		if (!was)
			return returned(e, -ENOENT, 0);
		if (is_dir(was))
			return returned(e, -EISDIR, 0);
		s[e->a] = 0;
		s[ENTRY + e->a] = 0;
		return returned(e, 0, 0);
	case OP_RMDIR:
		if (!was)
			return returned(e, -ENOENT, 0);
		if (!is_dir(was))
			return returned(e, -ENOTDIR, 0);
		if (has_names(s, was))
			return returned(e, -ENOTEMPTY, 0);
		set_removed(s, was, 1);
		s[e->a] = 0;
		s[ENTRY + e->a] = 0;
		return returned(e, 0, 0);
	}
	return 0;
}

/*
 * A dead client's exchange that found neither entry: whoever finishes it has no memory to make room for a name with, so that
 * even a free one may be passed over, for the next of cxlshm_rename()'s list.  The last of these is not looked at here.
 */
static int pass_over(struct position *p, const struct event *e, uint8_t *stage, uint8_t id)
{
	uint8_t *mem = p->state + SCRATCH + MEM_BYTES * e->fiber;

	if (!e->pending || e->op != OP_EXCHANGE || *stage < 2)
		return 0;
	if (*stage == 3) {
		memset(mem, 0, MEM_BYTES);
		*stage = DONE;
		return 1;
	}
	if (p->state[ENTRY + e->b] == id || (p->state[e->a] && p->state[ENTRY + e->a] == mem[MEM_OLD_ENTRY]))
		return 0;
	*stage = 3;
	return 1;
}

/* May it end just now with the error it has, although the state gives another one? */
static int excused(const struct history *h, const struct position *p, uint32_t i)
{
	const struct event *e = &h->event[i];
	uint8_t tag;

	if (h->kind != SPEC_NAMES || e->pending || p->stage[i] > 1)
		return 0;
	for (uint32_t k = 0; e->op == OP_CREATE && e->ret == -ENOENT && k < h->count; k++)
		if (h->event[k].op == OP_RENAME && h->event[k].pending && h->event[k].begin < e->end && name_dir(e->a) < DIRS &&
		    p->state[h->event[k].b] == name_dir(e->a) + TAG_DIR)
			return 1;
	if ((e->op != OP_RMDIR && e->op != OP_RENAME) || (e->ret != -ENOTEMPTY && e->ret != -EBUSY))
		return 0;
	/* The directory that it removes, or replaces. */
	tag = p->state[e->op == OP_RMDIR ? e->a : e->b];
	return is_dir(tag) && busy_around(h, e, tag);
}

static int take_step(const struct history *h, struct position *p, uint32_t i)
{
	const struct event *e = &h->event[i];

	switch (h->kind) {
	case SPEC_CELL:
		return step_cell(p->state, e, &p->stage[i]);
	case SPEC_QUEUE:
		return step_queue(h, p->state, e, &p->stage[i]);
	case SPEC_NAMES:
		return step_names(h, p->state, e, &p->stage[i]);
	case SPEC_NONE:
	case SPEC_MIXED:
		break;
	}
	return 0;
}

/* ---- the search ---- */

static int known(struct search *s, const struct position *p)
{
	const uint8_t *bytes = (const uint8_t *)p;
	uint64_t hash = 1469598103934665603ull;
	uint32_t at;

	for (size_t i = 0; i < sizeof(*p); i++)
		hash = (hash ^ bytes[i]) * 1099511628211ull;
	for (at = (uint32_t)(hash >> 20) % (SEEN * 2); s->table[at]; at = (at + 1) % (SEEN * 2))
		if (!memcmp(&s->seen[s->table[at] - 1], p, sizeof(*p)))
			return 1;
	if (s->seen_count < SEEN) {
		s->seen[s->seen_count++] = *p;
		s->table[at] = (int)s->seen_count;
	}
	return 0;
}

static int search(struct search *s, const struct position *from)
{
	const struct history *h = s->h;
	uint32_t left = 0, first_end = NOT_ENDED;

	for (uint32_t i = 0; i < h->count; i++)
		if (from->stage[i] != DONE) {
			left++;
			if (h->event[i].end < first_end)
				first_end = h->event[i].end;
		}
	if (!left)
		return 1;
	if (known(s, from))
		return 0;
	s->work++;
	for (uint32_t i = 0; i < h->count; i++) {
		const struct event *e = &h->event[i];
		struct position next = *from;

		if (from->stage[i] == DONE || e->begin > first_end)
			continue;
		if (take_step(h, &next, i) && search(s, &next))
			return 1;
		next = *from;
		if (h->kind == SPEC_NAMES && pass_over(&next, e, &next.stage[i], (uint8_t)(1 + i)) && search(s, &next))
			return 1;
		if ((e->pending && from->stage[i] < 2) || excused(h, from, i)) {
			next = *from;
			next.stage[i] = DONE;
			if (search(s, &next))
				return 1;
		}
	}
	return 0;
}

void history_part(const struct history *h, enum spec_kind kind, struct history *out)
{
	*out = *h;
	out->kind = kind;
	out->count = 0;
	memcpy(out->start, h->part[kind], STATE_BYTES);
	for (uint32_t i = 0; i < h->count; i++)
		if (spec_of(h->event[i].op) == kind)
			out->event[out->count++] = h->event[i];
}

int linear_check(const struct history *h)
{
	static struct search s;
	struct position start = {{0}, {0}};

	s.h = h;
	s.seen_count = 0;
	memset(s.table, 0, sizeof(s.table));
	memcpy(start.state, h->start, STATE_BYTES);
	return search(&s, &start);
}

void linear_print(const struct history *h, FILE *to)
{
	static const char *const names[] = {"load", "swap", "cas", "send", "receive", "length", "create", "unlink", "rmdir",
					    "lookup", "rename", "exchange", "leave", "death"};

	for (uint32_t i = 0; i < h->count; i++) {
		const struct event *e = &h->event[i];

		fprintf(to, "      [%u,", e->begin);
		if (e->end == NOT_ENDED)
			fprintf(to, "-] ");
		else
			fprintf(to, "%u] ", e->end);
		fprintf(to, "fiber %u: %s", e->fiber, names[e->op]);
		if (spec_of(e->op) == SPEC_NAMES)
			fprintf(to, " %c", "abcdxefyz"[e->a]);
		if (e->op == OP_RENAME || e->op == OP_EXCHANGE)
			fprintf(to, " %c", "abcdxefyz"[e->b]);
		if (e->op == OP_CAS)
			fprintf(to, " from %d", e->expected);
		if (e->op == OP_RENAME && e->expected)
			fprintf(to, " unless it exists");
		if (e->arg)
			fprintf(to, " arg %d", e->arg);
		if (e->pending)
			fprintf(to, ": died\n");
		else
			fprintf(to, ": %s, %d\n", e->ret ? strerror(-e->ret) : "ok", e->result);
	}
}
