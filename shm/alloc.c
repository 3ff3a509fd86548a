/* SPDX-License-Identifier: MIT */
/*
 * Where blocks come from when the first run of a size class has none, and objects of every kind.
 *
 *   block up to 1/8 page     runs of one page            size classes: 16-byte steps to 512 bytes, then 8 a doubling
 *   up to a page             runs of 8 pages
 *   up to 2 pages            runs of 16 pages
 *   up to 63 pages           a run of its own
 *   more                     a span of segments of its own
 *
 * An exact size that does not fill its block is noted at the block's end: the last byte says how many bytes are too many,
 * or is 255, and then 64 bits at 16 bytes before the end do.
 */
#include "alloc.h"

static uint32_t run_pages(const struct client *c, uint64_t block_bytes)
{
	uint64_t page = 1ull << c->pool->page_shift;

	return block_bytes <= page / 8 ? 1 : block_bytes <= page ? 8 : 16;
}

/* Note in the block that the payload is shorter than it could be; the header carries OBJECT_SLACK. */
static void note_slack(struct object_fmt *object, uint64_t block_bytes, uint64_t payload_bytes)
{
	char *end = (char *)object + block_bytes;
	uint64_t slack = block_bytes - sizeof(*object) - payload_bytes;

	if (slack < 16) {
		end[-1] = (char)(uint8_t)slack;
		return;
	}
	memcpy(end - 16, &slack, sizeof(slack));
	end[-1] = (char)0xff;
}

uint64_t alloc_size(const struct client *c, uint64_t off, uint64_t header)
{
	uint64_t bytes = page_block_room(c, off);
	uint64_t payload = bytes - sizeof(struct object_fmt);
	const char *end = (const char *)off_object(c->pool, off) + bytes;
	uint64_t slack;

	if (!(header & OBJECT_SLACK))
		return payload;
	slack = (uint8_t)end[-1];
	if (slack == 0xff)
		memcpy(&slack, end - 16, sizeof(slack));
	return slack <= payload ? payload - slack : 0;
}

/* The next block of this bin: of a run with room, by raising a frontier, or 0. */
static int bin_take(struct client *c, uint32_t bin, struct page_fmt **out, uint64_t *block)
{
	struct page_fmt *run;

	while ((run = c->bin[bin])) {
		if (run->free || page_extend(c, run)) {
			*block = stamp_link_off(run->free);
			run->free = a128_stamp_relaxed(&off_object(c->pool, *block)->word);
			run->used++;
			*out = run;
			return 1;
		}
		page_unlist(c, run);
	}
	return 0;
}

static int take_sole(struct client *c, struct page_fmt *run, struct page_fmt **out, uint64_t *block)
{
	if (!run->free)
		page_extend(c, run);
	*block = stamp_link_off(run->free);
	run->free = 0;
	run->used = 1 | PAGE_UNLISTED;
	*out = run;
	return 0;
}

/* A run of its own for one block of total bytes, first bytes into the run. */
static int take_own_run(struct client *c, uint64_t total, uint32_t first, struct page_fmt **out, uint64_t *block)
{
	uint64_t page = 1ull << c->pool->page_shift;
	uint64_t pages = (total + first + page - 1) >> c->pool->page_shift;
	struct page_fmt *run;
	int rc;

	if (pages >= PAGES_PER_SEGMENT) {
		uint64_t segment = 1ull << c->pool->segment_shift;
		uint64_t bytes = (total + first + page + segment - 1) & ~(segment - 1);

		if (page_collect_some(c, 4))
			page_tidy(c);
		rc = page_span_new(c, bytes - page - first, first, &run);
		if (rc == -ENOSPC) {
			page_collect_all(c);
			page_sweep_all(c);
			rc = page_span_new(c, bytes - page - first, first, &run);
		}
		return rc ? rc : take_sole(c, run, out, block);
	}
	total = (pages << c->pool->page_shift) - first;
	rc = page_run_new(c, (uint32_t)pages, total, first, BIN_NONE, &run);
	if (rc == -ENOSPC) {
		if (page_collect_some(c, 4))
			page_tidy(c);
		page_close_empty(c);
		rc = page_run_new(c, (uint32_t)pages, total, first, BIN_NONE, &run);
	}
	while (rc == -ENOSPC && !(rc = page_more(c)))
		rc = page_run_new(c, (uint32_t)pages, total, first, BIN_NONE, &run);
	return rc ? rc : take_sole(c, run, out, block);
}

/* A block of at least total bytes (header included) with a FREE header.  -ENOSPC. */
static int take_block(struct client *c, uint64_t total, int aligned, struct page_fmt **run, uint64_t *block)
{
	uint64_t page = 1ull << c->pool->page_shift;
	uint64_t bytes;
	uint32_t bin;
	int rc;

	if (aligned) {
		/* The payload starts on a 4 KiB boundary: the header ends one.  Small pools' pages are that small. */
		return take_own_run(c, total, ALLOC_ALIGNED_FIRST, run, block);
	}
	if (total > 2 * page)
		return take_own_run(c, total, 0, run, block);
	bin = alloc_bin(total >> 4);
	bytes = page_bin_units(bin) << 4;
	if (bytes > 2 * page)
		return take_own_run(c, total, 0, run, block);
	if (bin_take(c, bin, run, block))
		return 0;
	if (page_collect_some(c, 4)) {
		page_tidy(c);
		if (bin_take(c, bin, run, block))
			return 0;
	}
	rc = page_run_new(c, run_pages(c, bytes), bytes, 0, bin, run);
	if (rc == -ENOSPC) {
		page_close_empty(c);
		rc = page_run_new(c, run_pages(c, bytes), bytes, 0, bin, run);
	}
	while (rc == -ENOSPC && !(rc = page_more(c))) {
		if (bin_take(c, bin, run, block))	/* an adopted segment may have such blocks, or what others freed */
			return 0;
		rc = page_run_new(c, run_pages(c, bytes), bytes, 0, bin, run);
	}
	if (rc)
		return rc;
	return bin_take(c, bin, run, block) ? 0 : -ENOSPC;
}

int alloc_object(struct client *c, uint64_t payload, const struct alloc_kind *kind, struct root_fmt **out)
{
	uint64_t value = 1 | (uint64_t)OBJECT_LIVE << OBJECT_STATE_SHIFT | (uint64_t)kind->kind << OBJECT_KIND_SHIFT |
			 (uint64_t)kind->slots << OBJECT_SLOTS_SHIFT | (kind->cells ? OBJECT_CELLS : 0);
	uint64_t slot_bytes = kind->slots * object_slot_bytes(value);
	struct root_fmt *row;
	struct page_fmt *run;
	uint64_t block;
	int rc;

	if (kind->slots > OBJECT_SLOTS_MAX || slot_bytes > payload)
		return -EINVAL;
	if (payload > ALLOC_BYTES_MAX)
		return -ENOSPC;
	rc = root_take(c, &row);
	if (rc)
		return rc;
	rc = take_block(c, alloc_total(payload), kind->aligned, &run, &block);
	if (rc) {
		root_give(c, row);
		return rc;
	}
	/* Slots are empty before the header says that they count. */
	memset(object_payload(off_object(c->pool, block)), 0, kind->zero ? payload : slot_bytes);
	if (run->block_bytes != payload + sizeof(struct object_fmt)) {
		value |= OBJECT_SLACK;
		note_slack(off_object(c->pool, block), run->block_bytes, payload);
	}
	persist(c->pool, off_object(c->pool, block), kind->zero ? run->block_bytes : 16 + slot_bytes);
	persist(c->pool, (char *)off_object(c->pool, block) + run->block_bytes - 16, 16);	/* the slack */
	alloc_commit(c, row, off_object(c->pool, block), block, value, c->pool->host);
	*out = row;
	return 0;
}

int alloc_data(struct client *c, uint64_t payload, struct root_fmt **row)
{
	const struct alloc_kind kind = {.kind = OBJECT_DATA};

	return alloc_object(c, payload, &kind, row);
}

int alloc_release_rest(struct client *c, struct root_fmt *row, uint64_t row_off, struct page_fmt *run)
{
	page_put_slow(c, run);
	alloc_unroot(c, row, row_off, 0);
	page_tidy(c);
	return 0;
}

int alloc_release_private(struct client *c, struct root_fmt *row, uint64_t row_off)
{
	uint64_t block = root_object(row);

	if (!alloc_is_simple(a128_value_relaxed(&off_object(c->pool, block)->word)) ||
	    !segment_is_mine(c, off_segment(c->pool, block)))
		return 0;
	page_free_local(c, page_of(c, block), block);
	alloc_unroot(c, row, row_off, c->pool->host);
	page_tidy(c);
	return 1;
}
