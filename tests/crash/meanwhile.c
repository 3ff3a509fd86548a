/* SPDX-License-Identifier: MIT */
/*
 * What the neighbour does meanwhile: objects, references, cells, memory, extents, queues.  (Names: meanwhile_names.c.)
 *
 * Nobody else moves during a round, so what one call shows the next one must find.  Whether an operation of the dead has
 * happened is only known in part; and memory may be short: the dead have most of it, and while one of them is just being
 * recovered nobody else can make room.
 */
#include <fcntl.h>

#include "meanwhile.h"

#define KEPT 3	/* stage->held from here on: taken from the dead, and dropped in a later round */
#define OWN_BYTES 40u	/* objects of these rounds, to be told from others by their size */

/* ---- objects ---- */

static int all_are(const char *p, size_t bytes, char byte)
{
	return !bytes || (p[0] == byte && !memcmp(p, p + 1, bytes - 1));
}

/* One of this size, written, read and dropped. */
static void try_size(struct stage *s, size_t bytes, uint32_t slots, unsigned flags)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;
	char *p;

	if (MAY(cxlshm_alloc_with(n, bytes, slots, flags, &ref), -ENOSPC))
		return;
	p = cxlshm_ptr(n, ref);
	REQUIRE(p && cxlshm_size(n, ref) == (int64_t)bytes);
	if (flags & CXLSHM_ZERO)
		REQUIRE(all_are(p, bytes, 0));
	/* Large ones at both ends only. */
	if (!slots && bytes)
		memset(p, 1, bytes < 4096 ? bytes : 4096), p[bytes - 1] = 1;
	MUST(cxlshm_release(n, ref));
}

/* As much as there is of this size, but at most `most`: more than the segments that it has hold, so others' are taken. */
static void try_many(struct stage *s, size_t bytes, unsigned most)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref[64];
	unsigned count = 0;

	REQUIRE(most <= 64);
	while (count < most && !MAY(cxlshm_alloc(n, bytes, &ref[count]), -ENOSPC)) {
		memset(cxlshm_ptr(n, ref[count]), (int)count, bytes < 4096 ? bytes : 4096);
		count++;
	}
	while (count--) {
		REQUIRE(all_are(cxlshm_ptr(n, ref[count]), bytes < 4096 ? bytes : 4096, (char)count));
		MUST(cxlshm_release(n, ref[count]));
	}
	if (s->turn & 1)
		MUST(cxlshm_trim(n));
}

/* ---- what prepare_shared() made ---- */

static void is_shared(struct stage *s, cxlshm_ref ref)
{
	REQUIRE(ref && cxlshm_id(s->neighbour, ref) == cxlshm_id(s->neighbour, s->held[1]));
	REQUIRE(all_are(cxlshm_ptr(s->neighbour, ref), 64, 0x11));
}

/* Cell 0 has object 1 and nobody takes it for good; cell 1 has one of what is ever put there, or nothing. */
static void use_cells(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref there, ref = 0, expected;

	MUST(cxlshm_cell_load(n, s->held[0], 0, &there));
	is_shared(s, there);
	MUST(cxlshm_release(n, there));
	if (s->turn % 4 == 1) {
		MUST(cxlshm_cell_swap(n, s->held[0], 0, &ref));
		is_shared(s, ref);
		MUST(cxlshm_cell_swap(n, s->held[0], 0, &ref));
		REQUIRE(!ref);
	}
	MUST(cxlshm_cell_load(n, s->held[0], 1, &there));
	if (there && cxlshm_size(n, there) == 64)
		is_shared(s, there);
	else if (there)
		REQUIRE(cxlshm_size(n, there) == OWN_BYTES || cxlshm_size(n, there) == 48);
	/* What goes in: object 1, one of its own, or nothing. */
	if (s->turn % 4 == 2)
		MUST(cxlshm_attach(n, s->held[1], &ref));
	else if (s->turn % 4 != 3)
		(void)MAY(cxlshm_alloc(n, OWN_BYTES, &ref), -ENOSPC);
	expected = cxlshm_id(n, there);
	if (s->turn % 3) {
		MUST(cxlshm_cell_swap(n, s->held[0], 1, &ref));
	} else {
		REQUIRE(cxlshm_cell_cas(n, s->held[0], 1, s->held[2], &ref) == -EAGAIN);
		MUST(cxlshm_cell_cas(n, s->held[0], 1, there, &ref));
	}
	REQUIRE(cxlshm_id(n, ref) == expected);
	MUST(cxlshm_release(n, ref));
	MUST(cxlshm_release(n, there));
}

/* What the dead exported, and what was exported to them. */
static void use_exports(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;
	uint64_t token;

	for (int i = KEPT; i < STAGE_REFS; i++)
		if (s->held[i] && (s->turn + (uint32_t)i) % 3) {
			MUST(cxlshm_release(n, s->held[i]));
			s->held[i] = 0;
		}
	for (int i = 0; i < STAGE_TOLD; i++) {
		cxlshm_ref *keep = &s->held[KEPT + i % (STAGE_REFS - KEPT)];

		if (!s->told[i] || MAY(cxlshm_import(n, s->told[i], &ref), -ENOENT, -ENOSPC))
			continue;
		REQUIRE(cxlshm_ptr(n, ref) && cxlshm_size(n, ref) > 0);
		if (*keep)
			MUST(cxlshm_release(n, ref));
		else
			*keep = ref;
	}
	if (s->turn % 8 == 5 && !MAY(cxlshm_import(n, s->token[2], &ref), -ENOENT, -ENOSPC)) {
		REQUIRE(cxlshm_id(n, ref) == cxlshm_id(n, s->held[2]));
		MUST(cxlshm_release(n, ref));
	}
	if (!MAY(cxlshm_attach(n, s->held[2], &ref), -ENOSPC)) {
		if (MAY(cxlshm_export(n, ref, &token), -EAGAIN))
			MUST(cxlshm_release(n, ref));
		else {
			MUST(cxlshm_import(n, token, &ref));
			REQUIRE(cxlshm_id(n, ref) == cxlshm_id(n, s->held[2]));
			MUST(cxlshm_release(n, ref));
		}
	}
}

static void use_shared(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;

	is_shared(s, s->held[1]);
	if (!MAY(cxlshm_attach(n, s->held[1], &ref), -ENOSPC)) {
		MUST(cxlshm_dup(n, ref));
		MUST(cxlshm_release(n, ref));
		is_shared(s, ref);
		MUST(cxlshm_release(n, ref));
	}
	use_cells(s);
	use_exports(s);
}

/* A list below two cells of one object, in two of them at once, then dropped. */
static void use_graph(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref wide, node, head = 0, got;

	if (MAY(cxlshm_alloc_with(n, 128, 5, CXLSHM_CELLS, &wide), -ENOSPC))
		return;
	for (int i = 0; i < 4 && !MAY(cxlshm_alloc_with(n, 16, 1, 0, &node), -ENOSPC); i++) {
		MUST(cxlshm_field_swap(n, node, 0, &head));
		head = node;
	}
	MUST(cxlshm_cell_store(n, wide, 1, head));
	MUST(cxlshm_cell_swap(n, wide, 3, &head));
	REQUIRE(!head);
	MUST(cxlshm_cell_load(n, wide, 1, &got));
	if (got) {
		MUST(cxlshm_field_load(n, got, 0, &head));
		MUST(cxlshm_release(n, head));
		MUST(cxlshm_release(n, got));
	}
	MUST(cxlshm_release(n, wide));
}

/* ---- one for each kind of scenario ---- */

void meanwhile_private(struct stage *s)
{
	use_shared(s);
	try_size(s, 40, 0, 0);
	try_size(s, 100, 0, CXLSHM_ZERO);
	if (s->turn % 4 == 3)
		try_many(s, 60000, 8);
}

void meanwhile_sizes(struct stage *s)
{
	static const size_t sizes[] = {0, 1, 16, 500, 3000, 4096, 9000, 60000};

	use_shared(s);
	for (size_t i = s->turn & 1; i < sizeof(sizes) / sizeof(*sizes); i += 2)
		try_size(s, sizes[i], 0, s->turn & 2 ? CXLSHM_ZERO : 0);
	try_size(s, 5000, 0, CXLSHM_PAGE_ALIGNED);
	for (size_t i = 0; s->turn % 4 == 3 && i < 10; i++)
		try_size(s, 2000 + 1200 * i, 0, 0);
	if (s->turn % 4 == 2)
		try_many(s, 60000, 16);
}

void meanwhile_remote(struct stage *s)
{
	use_shared(s);
	for (uint32_t i = 0; i < 4; i++)
		try_size(s, 600, i & 1, CXLSHM_ZERO);
	if (s->turn % 3 == 1)
		try_many(s, 600, 17);
	if (s->turn % 3 == 2)
		try_many(s, 9000, 64);
}

void meanwhile_span(struct stage *s)
{
	use_shared(s);
	if (s->turn % 3 == 0)
		try_size(s, s->turn & 1 ? 600000 : 700000, 0, s->turn & 2 ? CXLSHM_ZERO : 0);
	if (s->turn % 8 == 4)
		try_size(s, 1200000, 0, 0);
	if (s->turn % 8 == 2)
		try_many(s, 60000, 16);
}

void meanwhile_roots(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref[270];
	int count = 0;

	use_shared(s);
	if (s->turn % 3)
		return;
	while (count < 270 && !MAY(cxlshm_attach(n, s->held[2], &ref[count]), -ENOSPC))
		count++;
	while (count--)
		MUST(cxlshm_release(n, ref[count]));
	MUST(cxlshm_trim(n));
}

void meanwhile_extent(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;
	char *address;

	use_shared(s);
	if (MAY(cxlshm_alloc_with(n, 8192, 0, CXLSHM_EXTENT, &ref), -ENOSPC))
		return;
	if (!MAY(cxlshm_resize(n, ref, 16384), -ENOSPC))
		REQUIRE(cxlshm_size(n, ref) == 16384);
	(void)MAY(cxlshm_reserve(n, ref, FALLOC_FL_KEEP_SIZE, 0, 20000), -ENOSPC);
	if (!MAY(cxlshm_map(n, ref, 4096, 4096, 3, (void **)&address), -ENOSPC)) {
		REQUIRE(all_are(address, 4096, 0));
		memset(address, 7, 4096);
		MUST(cxlshm_unmap(n, address));
	}
	MUST(cxlshm_resize(n, ref, 100));
	REQUIRE(cxlshm_size(n, ref) == 100);
	MUST(cxlshm_release(n, ref));
}

void meanwhile_graphs(struct stage *s)
{
	use_shared(s);
	use_graph(s);
	try_size(s, 32, 3, 0);
}

/* It is still looking at an object (prepare_reader()), unless the dead got so far as to end that. */
void meanwhile_reader(struct stage *s)
{
	struct client *n = (struct client *)s->neighbour;
	uint32_t looking = a64_load_relaxed(&n->slot->reading) != 0;

	n->reading += looking;
	meanwhile_span(s);
	n->reading -= looking;
	REQUIRE(a64_load_relaxed(&n->slot->reading) == looking);
}

/* ---- queues ---- */

/* Its own go in and come out in one order, none is lost, none comes twice. */
static int queue_put(struct stage *s, int queue)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;
	int rc;

	if (MAY(cxlshm_alloc(n, OWN_BYTES, &ref), -ENOSPC))
		return -ENOSPC;
	*(uint64_t *)cxlshm_ptr(n, ref) = s->sent[queue] + 1;
	rc = queue ? MAY(cxlshm_queue_send(n, s->held[queue], ref), -EAGAIN, -EBUSY)
		   : MAY(cxlshm_queue_send(n, s->held[queue], ref), -EAGAIN);
	if (rc)
		MUST(cxlshm_release(n, ref));
	else
		s->sent[queue]++;
	return rc;
}

static int queue_get(struct stage *s, int queue)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref;
	int rc = queue ? MAY(cxlshm_queue_receive(n, s->held[queue], &ref), -EAGAIN, -EBUSY, -ENOSPC)
		       : MAY(cxlshm_queue_receive(n, s->held[queue], &ref), -EAGAIN, -ENOSPC);

	if (rc)
		return rc;
	if (cxlshm_size(n, ref) == OWN_BYTES)
		REQUIRE(*(uint64_t *)cxlshm_ptr(n, ref) == ++s->received[queue]);
	else	/* of prepare_queues(), or of the dead: before any of its own */
		REQUIRE(!s->received[queue] && (cxlshm_size(n, ref) == 32 || cxlshm_size(n, ref) == 48));
	MUST(cxlshm_release(n, ref));
	return 0;
}

void meanwhile_queues(struct stage *s)
{
	static const int64_t capacity[] = {3, 2};
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref queue, ref;

	for (int q = 0; q < 2; q++) {
		int64_t length = cxlshm_queue_length(n, s->held[q]);
		int rc = 0, i;

		REQUIRE(length >= 0 && length <= capacity[q]);
		switch ((s->turn + (uint32_t)q) % 4) {
		case 0:
			(void)queue_put(s, q);
			break;
		case 1:
			(void)queue_get(s, q);
			break;
		case 2:	/* full, or somebody else's */
			for (i = 0; i <= capacity[q] && !rc; i++)
				rc = queue_put(s, q);
			REQUIRE(rc);
			break;
		case 3:	/* empty: so all of its own have come out */
			for (i = 0; i <= capacity[q] && !rc; i++)
				rc = queue_get(s, q);
			REQUIRE(rc);
			if (rc == -EAGAIN)
				REQUIRE(s->received[q] == s->sent[q]);
			break;
		}
	}
	if (s->turn % 4 || MAY(cxlshm_queue_create(n, 4, 0, &queue), -ENOSPC))
		return;
	for (int i = 0; i < 3; i++)
		if (!MAY(cxlshm_alloc(n, 48, &ref), -ENOSPC))
			MUST(cxlshm_queue_send(n, queue, ref));
	MUST(cxlshm_release(n, queue));
}
