/* SPDX-License-Identifier: MIT */
/*
 * The checker: a pool in order has no findings; each kind of damage is found, by a line that says so; and
 * repaired, so that a second check has no findings and what was not damaged is still there.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "check_lines.h"
#include "world.h"

#define OTHERS 4	/* tests that are not in the table of damage */

static struct cxlshm_check_result check(const struct world *w, unsigned flags, struct lines *lines)
{
	struct cxlshm_check_result result;

	assert_int_equal(check_pool(w->pool, flags, collect, lines, &result), 0);
	assert_true(result.repaired <= result.problems);
	return result;
}

static void a_pool_in_order_has_no_findings(void **state)
{
	struct world w;
	struct lines lines = {.loud = 1};
	struct cxlshm_check_result result;

	(void)state;
	assert_int_equal(world_setup(&w), 0);
	result = check(&w, 0, &lines);
	assert_int_equal(result.problems, 0);
	assert_int_equal(lines.count[1], 0);
	/* 5 data, queue, orphan, span; 5 of names; 3 entries */
	assert_int_equal(result.objects, 16);
	assert_int_equal(result.segments, 3);
	assert_int_equal(result.extents, 1);
	/* 6 roots, 1 export, 2 fields, 1 of a dead object, 1 in the queue, 6 of names and 3 of entries, super */
	assert_int_equal(result.references, 6 + 1 + 2 + 1 + 1 + 6 + 3 + 1);
	check(&w, CXLSHM_CHECK_VERBOSE, &lines);
	assert_int_not_equal(lines.count[0], 0);
	world_teardown(&w);
}

static void repair_is_refused_while_a_client_lives(void **state)
{
	struct cxlshm_check_result result;
	struct world w;

	(void)state;
	assert_int_equal(world_setup(&w), 0);
	assert_int_equal(check_pool(w.pool, CXLSHM_CHECK_REPAIR, NULL, NULL, &result), -EBUSY);
	world_teardown(&w);
}

static void a_dead_client_is_reported_and_repair_recovers_it(void **state)
{
	struct lines lines = {.want = "is dead and not recovered"};
	struct cxlshm_check_result result;
	struct world w;

	(void)state;
	assert_int_equal(world_setup(&w), 0);
	world_alive(&w, 0);
	result = check(&w, 0, &lines);
	assert_int_equal(result.problems, 1);
	assert_int_equal(lines.wanted, 1);
	result = check(&w, CXLSHM_CHECK_REPAIR, &lines);
	assert_int_equal(result.problems, result.repaired);
	memset(&lines, 0, sizeof(lines));
	lines.loud = 1;
	result = check(&w, 0, &lines);
	assert_int_equal(result.problems, 0);
	/* What has a name is left: root, sub, its entry, node, data's and file's entries and inodes, data. */
	assert_int_equal(result.objects, 9);
	assert_int_equal(result.extents, 1);
	world_teardown(&w);
}

/* ---------------------------------------------------------------- damage */

struct damage {
	const char *name;
	void (*act)(struct world *w);
	const char *want;	/* in a line of the report */
	unsigned objects;	/* that the repair leaves; 0: the usual nine */
};

static struct page_fmt *page(const struct world *w, uint32_t n)
{
	return segment_pages(w->pool, w->first) + n;
}

static struct segment_fmt *segment(const struct world *w, uint32_t n)
{
	return &w->pool->segment_table[w->first + n];
}

static void set_word(struct a128 *word, uint64_t value)
{
	a128_store_value_release(word, value);
}

#define DAMAGE(name) static void name(struct world *w)

DAMAGE(count_too_high) { world_set_header(w, w->one, world_header(w, w->one) + 1); }
DAMAGE(count_too_low) { world_set_header(w, w->file, world_header(w, w->file) - 1); }
DAMAGE(count_zero) { world_set_header(w, w->file, world_header(w, w->file) & ~OBJECT_COUNT_MASK); }
DAMAGE(state_unknown) { world_set_header(w, w->one, object_with_state(world_header(w, w->one), 6)); }
DAMAGE(kind_unknown) { world_set_header(w, w->one, world_header(w, w->one) | 15ull << OBJECT_KIND_SHIFT); }
DAMAGE(not_exposed) { world_set_header(w, w->one, world_header(w, w->one) & ~OBJECT_EXPOSED); }
DAMAGE(slots_too_many) { world_set_header(w, w->one, object_with_slots(world_header(w, w->one), 100000)); }
DAMAGE(stamp_future) { a128_store_stamp_release(&world_object(w, w->file)->word, stamp_make(1, 1000)); }
DAMAGE(stamp_of_nobody) { a128_store_stamp_release(&world_object(w, w->file)->word, stamp_make(9, 1)); }
DAMAGE(cell_stamp_future)
{
	a128_store_stamp_release(&object_cell(world_object(w, w->root), 3)->word, stamp_make(2, 1000));
}
DAMAGE(exposed_with_link)
{
	a128_store_stamp_release(&world_object(w, w->one)->word, stamp_link(w->free0));
}
DAMAGE(private_elsewhere) { world_set_header(w, w->orphan, world_header(w, w->orphan) & ~OBJECT_EXPOSED); }
DAMAGE(object_leaked) { a64_store_relaxed(&w->roots[2].object, 0); }
DAMAGE(cycle)
{
	a64_store_relaxed(&w->roots[2].object, 0);
	a64_store_relaxed(world_slot(w, w->holder, 0), w->holder);
	a64_store_relaxed(&w->roots[20].object, w->one);
}
DAMAGE(field_dangles) { a64_store_relaxed(world_slot(w, w->holder, 0), w->free0); }
DAMAGE(field_wild) { a64_store_relaxed(world_slot(w, w->holder, 0), 0xdeadbeef12345677ull); }
DAMAGE(field_inside_block) { a64_store_relaxed(world_slot(w, w->holder, 0), w->one + 16); }
DAMAGE(field_to_dead) { a64_store_relaxed(world_slot(w, w->holder, 0), w->dead); }
DAMAGE(root_to_free) { a64_store_relaxed(&w->roots[0].object, w->free0); }
DAMAGE(live_set_free) { world_set_header(w, w->one, 0); }

DAMAGE(free_list_cut) { a128_store_stamp_release(&world_object(w, w->free0)->word, stamp_link(0)); }
DAMAGE(free_list_loop) { a128_store_stamp_release(&world_object(w, w->free1)->word, stamp_link(w->free0)); }
DAMAGE(free_list_wild) { page(w, 1)->free = 0x1234567890ull; }
DAMAGE(free_list_live) { page(w, 1)->free = w->one; }
DAMAGE(used_wrong) { page(w, 1)->used = 3; }
DAMAGE(mask_wrong) { page(w, 0)->free = ~0ull; }
DAMAGE(frontier_far) { a32_store_relaxed(&page(w, 1)->frontier, 1000000); }
DAMAGE(block_bytes_zero) { page(w, 4)->block_bytes = 0; }
DAMAGE(pages_too_many) { page(w, 4)->pages = 100; }
DAMAGE(size_class_wrong) { page(w, 1)->bin = 5; }
DAMAGE(page_kind_unknown) { a32_store_relaxed(&page(w, 9)->kind, 77); }
DAMAGE(page_of_roots_lost) { a32_store_relaxed(&page(w, 10)->kind, PAGE_ROOTS); }

DAMAGE(dead_list_cut) { a64_store_relaxed(&w->slot->dead_top, 0); }
DAMAGE(dead_list_loop) { a128_store_stamp_release(&world_object(w, w->dead)->word, stamp_link(w->dead)); }
DAMAGE(dead_list_wild) { a64_store_relaxed(&w->slot->dead_top, w->one); }
DAMAGE(remote_list_cut) { set_word(&segment(w, 0)->remote, 0); }
DAMAGE(remote_list_loop)
{
	a64_store_relaxed((struct a64 *)object_payload(world_object(w, w->limbo)), w->limbo);
}
DAMAGE(remote_list_elsewhere)
{
	set_word(&segment(w, 0)->remote, 0);
	set_word(&segment(w, 1)->remote, w->limbo);
}
DAMAGE(roots_chain_wild) { a64_store_relaxed(&w->slot->roots_next, w->one); }
DAMAGE(roots_chain_loop) { a64_store_relaxed(&((struct roots_fmt *)off_ptr(w->pool, w->roots_page))->next, w->roots_page); }
DAMAGE(roots_rows) { ((struct roots_fmt *)off_ptr(w->pool, w->roots_page))->rows = 1ull << 60; }

DAMAGE(segment_list_cut) { a64_store_relaxed(&segment(w, 0)->next, 0); }
DAMAGE(segment_list_loop) { a64_store_relaxed(&segment(w, 2)->next, w->first); }
DAMAGE(segment_list_wild) { a64_store_relaxed(&segment(w, 2)->next, 1u << 30); }
DAMAGE(segment_list_foreign) { a64_store_relaxed(&segment(w, 2)->next, w->first + 1); }
DAMAGE(segment_owner_free) { set_word(&segment(w, 6)->word, segment_value(SEGMENT_OWNED, 2, 0)); }
DAMAGE(segment_state_unknown) { set_word(&segment(w, 6)->word, 200); }
DAMAGE(segment_changing) { set_word(&segment(w, 2)->word, segment_value(SEGMENT_CHANGING, 1, 0)); }
DAMAGE(segment_word_extra) { set_word(&segment(w, 6)->word, segment_value(SEGMENT_FREE, 3, 0)); }
DAMAGE(body_lost) { set_word(&segment(w, 3)->word, segment_value(SEGMENT_FREE, 0, 0)); }
DAMAGE(body_stray) { set_word(&segment(w, 6)->word, segment_value(SEGMENT_BODY, 0, w->first + 1)); }
DAMAGE(span_too_long) { a64_store_relaxed(&segment(w, 2)->span, 1u << 20); }
DAMAGE(orphan_empty) { world_set_header(w, w->orphan, 0); }
DAMAGE(reserved_lost) { set_word(&w->pool->segment_table[0].word, 0); }
DAMAGE(remote_of_free) { set_word(&segment(w, 6)->remote, w->limbo); }

DAMAGE(slot_state) { a64_store_relaxed(&pool_slot(w->pool, 2)->state, 5); }
DAMAGE(slot_free_with_roots)
{
	struct root_fmt *rows = (struct root_fmt *)((char *)pool_slot(w->pool, 2) + w->pool->super->roots_off);

	a64_store_relaxed(&rows[1].object, w->one);
}
DAMAGE(slot_free_with_record) { a64_store_relaxed(&pool_slot(w->pool, 2)->redo.era, 5); }
DAMAGE(slot_free_with_list) { a64_store_relaxed(&pool_slot(w->pool, 2)->dead_top, w->dead); }
DAMAGE(slots_high) { a64_store_relaxed(&w->pool->shared->slots_high, 1u << 20); }
DAMAGE(record_sealed) { a64_store_relaxed(&w->slot->redo.era, WORLD_ERA); }
DAMAGE(era_of_the_future) { a64_store_relaxed(pool_era_row(w->pool, 2) + 1, WORLD_ERA + 50); }
DAMAGE(debt_left) { w->slot->todo.debt[1] = 4096; }
DAMAGE(dir_move_left) { set_word(&w->pool->shared->dir_move, 2); }

DAMAGE(entries_too_many) { set_word(&world_attr(w, w->root)->entries, 3); }
DAMAGE(entries_removed) { set_word(&world_attr(w, w->sub)->entries, 1 | COUNTER_REMOVED); }
DAMAGE(links_wrong) { set_word(&world_attr(w, w->file)->links, 2); }
DAMAGE(hash_wrong) { world_entry(w, w->entry_data)->hash ^= 0xfull << 40; }
DAMAGE(hash_of_another_place) { world_entry(w, w->entry_data)->hash ^= 0xfull << 56; }
DAMAGE(entry_misplaced)
{
	a128_store_value_release(&object_cell(world_object(w, w->sub), DIR_EDGES + 8)->word, 0);
	a128_store_value_release(&object_cell(world_object(w, w->sub), DIR_EDGES + 9)->word, w->entry_data);
}
DAMAGE(entry_kind) { world_entry(w, w->entry_file)->kind = OBJECT_SYMLINK; }
DAMAGE(entry_name) { world_entry(w, w->entry_data)->name[1] = '/'; }
DAMAGE(entry_name_long) { world_entry(w, w->entry_data)->name_bytes = 4000; }
DAMAGE(entry_empty) { a64_store_relaxed(&world_entry(w, w->entry_data)->inode, 0); }
DAMAGE(edge_wild) { a128_store_value_release(&object_cell(world_object(w, w->sub), DIR_EDGES + 2)->word, w->one); }
DAMAGE(edge_twice)
{
	a128_store_value_release(&object_cell(world_object(w, w->sub), DIR_EDGES + 5)->word, w->node);
}
DAMAGE(parent_wrong) { a128_store_value_release(&object_cell(world_object(w, w->sub), DIR_PARENT)->word, w->sub); }
DAMAGE(directory_unnamed)
{
	/* A directory in itself: a cycle, with all that is below it. */
	a128_store_value_release(&object_cell(world_object(w, w->sub), DIR_EDGES + 5)->word, w->entry_sub);
	a128_store_value_release(&object_cell(world_object(w, w->sub), DIR_PARENT)->word, w->sub);
	a128_store_value_release(&object_cell(world_object(w, w->node), 1)->word, 0);
	set_word(&world_attr(w, w->sub)->entries, 2);
	set_word(&world_attr(w, w->root)->entries, 1);
	world_set_header(w, w->root, world_header(w, w->root) - 1);
	world_set_header(w, w->sub, world_header(w, w->sub) + 1);
}
DAMAGE(named_nothing) { a128_store_value_release(&object_cell(world_object(w, w->named), NAMED_DATA)->word, 0); }
DAMAGE(xattrs_wild) { a128_store_value_release(&object_cell(world_object(w, w->file), INODE_XATTRS)->word, w->one); }

DAMAGE(queue_ends)
{
	struct queue_fmt *queue = object_queue(world_object(w, w->queue), world_header(w, w->queue));

	a64_store_relaxed(&queue->head, 77);
}
DAMAGE(extent_orphan) { close(openat(w->pool->extents_fd, "0010000000000003", O_RDWR | O_CREAT, 0600)); }
DAMAGE(extent_missing)
{
	char name[32];

	snprintf(name, sizeof(name), "%016llx", (unsigned long long)WORLD_EXTENT);
	unlinkat(w->pool->extents_fd, name, 0);
}
DAMAGE(extent_none) { a64_store_relaxed(&world_attr(w, w->file)->extent, 0); }

#define D(what, text) {.name = #what, .act = what, .want = text}
#define DO(what, text, left) {.name = #what, .act = what, .want = text, .objects = left}
static struct damage damages[] = {
	D(count_too_high, "has count 2, but 1 references"),
	D(count_too_low, "has count 1, but 2 references"),
	D(count_zero, "is live with a count of zero"),
	D(state_unknown, "makes no sense"),
	D(kind_unknown, "makes no sense"),
	D(not_exposed, "is not exposed"),
	D(slots_too_many, "100000 slots do not fit"),
	D(stamp_future, "has a stamp from the future"),
	D(exposed_with_link, "has a stamp from the future"),
	D(private_elsewhere, "not in a segment of slot 1"),
	D(stamp_of_nobody, "has a stamp from the future"),
	D(cell_stamp_future, "slot 3 has a stamp from the future"),
	D(object_leaked, "has count 1, but 0 references"),
	D(cycle, "is leaked"),
	D(field_dangles, "which is a free block"),
	D(field_wild, "where there is no object"),
	D(field_inside_block, "where there is no object"),
	D(field_to_dead, "which is dead"),
	D(root_to_free, "which is a free block"),
	D(live_set_free, "which is a free block"),
	D(free_list_cut, "3 blocks are free, 1 on the free list"),
	D(free_list_loop, "on a list already"),
	D(free_list_wild, "where there is no block"),
	D(free_list_live, "which is in state 1"),
	D(used_wrong, "7 blocks are in use, not 3"),
	D(mask_wrong, "mask of free pages"),
	D(frontier_far, "the frontier is 1000000"),
	D(block_bytes_zero, "do not fit into"),
	D(pages_too_many, "a run of 100 pages"),
	D(size_class_wrong, "are of size class 4, not 5"),
	D(page_kind_unknown, "is of kind 77"),
	D(page_of_roots_lost, "holds roots of nobody"),
	D(dead_list_cut, "on no client's dead list"),
	D(dead_list_loop, "on a list already"),
	D(dead_list_wild, "which is in state 1"),
	D(remote_list_cut, "not on the remote list"),
	D(remote_list_loop, "on a list already"),
	D(remote_list_elsewhere, "is on the remote list of segment"),
	D(roots_chain_wild, "where there is no page of roots"),
	D(roots_chain_loop, "on a chain already"),
	D(roots_rows, "rows"),
	D(segment_list_cut, "is on no client's list"),
	D(segment_list_loop, "is on the list of slot 1 already"),
	D(segment_list_wild, "which there is not"),
	D(segment_list_foreign, "is on its list but not its own"),
	D(segment_owner_free, "is owned by slot 2, which is free"),
	D(segment_state_unknown, "is in state 200"),
	D(segment_changing, "claimed or given back"),
	D(segment_word_extra, "more than its state says"),
	D(body_lost, "belongs to the span"),
	D(body_stray, "says it is in the span"),
	D(span_too_long, "heads a span of 1048576"),
	D(orphan_empty, "is an orphan with nothing in it"),
	D(reserved_lost, "should be reserved"),
	D(remote_of_free, "but a remote list"),
	D(slot_state, "is in state 5"),
	D(slot_free_with_roots, "is free but has root references"),
	D(slot_free_with_record, "is free but has a sealed record"),
	D(slot_free_with_list, "is free but has a dead list"),
	D(slots_high, "is said to be the highest used"),
	D(record_sealed, "a record is sealed"),
	D(era_of_the_future, "has seen era 150 of slot 1"),
	D(debt_left, "owes something"),
	D(dir_move_left, "is said to move a directory, and is free"),
	D(entries_too_many, "counts 3 entries, but has 2"),
	D(entries_removed, "is removed, but has 1 entries"),
	D(links_wrong, "counts 2 names, but has 1"),
	D(hash_wrong, "has not its name's hash"),
	D(hash_of_another_place, "has hash"),
	DO(entry_misplaced, "has hash", 6),
	D(entry_kind, "says"),
	DO(entry_name, "has a name that is none", 6),
	DO(entry_name_long, "has a name of 4000 bytes", 6),
	DO(entry_empty, "which is no inode", 6),
	D(edge_wild, "among its nodes"),
	D(edge_twice, "which is elsewhere, too"),
	D(parent_wrong, "but its parent is"),
	DO(directory_unnamed, "is leaked", 4),
	DO(named_nothing, "which is no data object", 6),
	D(xattrs_wild, "for its attributes"),
	D(queue_ends, "queue 0x"),
	D(extent_orphan, "is the bytes of no object"),
	D(extent_missing, "are not there"),
	D(extent_none, "has no extent"),
};

/* Found while the client lives, and found and repaired once it is gone. */
static void damage_is_found_and_repaired(void **state)
{
	const struct damage *d = *state;
	struct lines lines = {.want = d->want};
	struct cxlshm_check_result result;
	struct world w;

	assert_int_equal(world_setup(&w), 0);
	d->act(&w);
	result = check(&w, 0, &lines);
	if (!lines.wanted) {
		lines.loud = 1;
		check(&w, 0, &lines);
		fail_msg("%s: no line says \"%s\"", d->name, d->want);
	}
	assert_int_equal(result.problems, lines.count[1]);
	world_alive(&w, 0);
	memset(&lines, 0, sizeof(lines));
	result = check(&w, CXLSHM_CHECK_REPAIR, &lines);
	assert_int_equal(result.repaired, result.problems);
	memset(&lines, 0, sizeof(lines));
	lines.loud = 1;
	result = check(&w, 0, &lines);
	assert_int_equal(result.problems, 0);
	assert_int_equal(result.objects, d->objects ? d->objects : 9);
	assert_int_equal(result.extents, 1);
	world_teardown(&w);
}

/* Any bytes anywhere: found or not, nothing crashes, nothing hangs, and a repair leaves a pool in order. */
static void random_damage_never_crashes(void **state)
{
	unsigned seed = getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : 12345;
	int rounds = getenv("ROUNDS") ? atoi(getenv("ROUNDS")) : 150;
	const unsigned first = seed;
	int in_order = 0;

	(void)state;
	for (int round = 0; round < rounds; round++) {
		struct cxlshm_check_result result;
		struct lines lines = {0};
		struct world w;

		assert_int_equal(world_setup(&w), 0);
		for (int i = 0; i < 12; i++) {
			/* In use: shared words, hints and table; slots 1 and 2; the pages of segment F. */
			static const uint64_t bytes[] = {8192, 12288, 16384};
			uint64_t from[] = {4096, off_of(w.pool, w.slot), (uint64_t)w.first << w.pool->segment_shift};
			int area = rand_r(&seed) % 3;
			uint64_t at = from[area] + (uint64_t)rand_r(&seed) % bytes[area] / 8 * 8;
			uint64_t value = (uint64_t)rand_r(&seed) << (rand_r(&seed) % 48);

			if (area == 0)
				at = rand_r(&seed) & 1 ? w.pool->super->segment_table_off +
					(uint64_t)rand_r(&seed) % (16 * 64) / 8 * 8 : 4096 + at % 256;
			memcpy(off_ptr(w.pool, at), &value, 8);
		}
		result = check(&w, 0, &lines);
		world_alive(&w, 0);
		result = check(&w, CXLSHM_CHECK_REPAIR, &lines);
		if (result.repaired < result.problems) {
			/* Only this is beyond repair: what everything else is found from. */
			lines = (struct lines){.want = "without the root directory"};
			check_pool(w.pool, CXLSHM_CHECK_REPAIR, collect, &lines, &result);
			if (!lines.wanted) {
				lines.loud = 1;
				check_pool(w.pool, CXLSHM_CHECK_REPAIR, collect, &lines, &result);
				fail_msg("SEED=%u round %d: %d of %d repaired", first, round, (int)result.repaired,
					 (int)result.problems);
			}
		} else {
			lines = (struct lines){.loud = 1};
			result = check(&w, 0, &lines);
			if (result.problems)
				fail_msg("SEED=%u round %d: %d problems behind a repair", first, round,
					 (int)result.problems);
			in_order++;
		}
		world_teardown(&w);
	}
	assert_true(in_order > 0);
}

int main(void)
{
	struct CMUnitTest tests[OTHERS + sizeof(damages) / sizeof(damages[0])] = {
		cmocka_unit_test(a_pool_in_order_has_no_findings),
		cmocka_unit_test(repair_is_refused_while_a_client_lives),
		cmocka_unit_test(a_dead_client_is_reported_and_repair_recovers_it),
		cmocka_unit_test(random_damage_never_crashes),
	};

	for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++)
		tests[OTHERS + i] = (struct CMUnitTest){
			.name = damages[i].name, .test_func = damage_is_found_and_repaired,
			.initial_state = &damages[i],
		};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
