/* SPDX-License-Identifier: MIT */
/*
 * The public interface: objects, references, fields, cells, export and import.  Checks arguments and calls down.
 */
#include "api.h"

/* ---- objects ---- */

static int __attribute__((noinline, cold)) alloc_long(struct client *c, size_t bytes, cxlshm_ref *ref)
{
	struct root_fmt *row;
	int rc = api_usable(c);

	if (rc)
		return rc;
	API_WITH_ROOM(c, rc, 0, alloc_data(c, bytes, &row));
	if (!rc)
		*ref = root_ref(c, row);
	return rc;
}

int cxlshm_alloc(struct cxlshm_client *client, size_t bytes, cxlshm_ref *ref)
{
	struct client *c = api_client(client);

	if (__builtin_expect(alloc_short(c, bytes, ref), 1))
		return 0;
	return alloc_long(c, bytes, ref);
}

static int alloc_once(struct client *c, size_t bytes, uint32_t slots, unsigned flags, struct root_fmt **row)
{
	const struct alloc_kind kind = {
		.kind = OBJECT_DATA,
		.slots = slots,
		.cells = (flags & CXLSHM_CELLS) != 0,
		.zero = (flags & CXLSHM_ZERO) != 0,
		.aligned = (flags & CXLSHM_PAGE_ALIGNED) != 0,
	};

	return alloc_object(c, bytes, &kind, row);
}

int cxlshm_alloc_with(struct cxlshm_client *client, size_t bytes, uint32_t slots, unsigned flags, cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	int rc;

	if (!c || !ref || flags & ~(CXLSHM_ZERO | CXLSHM_PAGE_ALIGNED | CXLSHM_CELLS | CXLSHM_EXTENT))
		return -EINVAL;
	rc = api_usable(c);
	if (rc)
		return rc;
	if (flags & CXLSHM_EXTENT) {
		if (slots || flags & CXLSHM_CELLS)
			return -EINVAL;
		API_WITH_ROOM(c, rc, bytes, inode_make_file(c, bytes, 0600, &row));
	} else {
		API_WITH_ROOM(c, rc, 0, alloc_once(c, bytes, slots, flags, &row));
	}
	if (rc)
		return rc;
	*ref = root_ref(c, row);
	return 0;
}

int cxlshm_dup(struct cxlshm_client *client, cxlshm_ref ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	int rc = api_row(c, ref, &row);

	if (!rc)
		a64_count(&row->local);
	return rc;
}

/* One more reference in a row of its own, if need be in memory that dead clients held. */
static inline int attach_new(struct client *c, uint64_t off, cxlshm_ref *ref)
{
	int rc;

	API_WITH_ROOM(c, rc, 0, ref_attach_new(c, off, ref));
	return rc;
}

int cxlshm_attach(struct cxlshm_client *client, cxlshm_ref ref, cxlshm_ref *out)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	int rc = api_row(c, ref, &row);

	return rc ? rc : attach_new(c, a64_load_relaxed(&row->object), out);
}

static int __attribute__((noinline)) release_long(struct client *c, uint64_t off)
{
	cxlshm_ref ref = off ^ c->tag;
	struct root_fmt *row;
	uint64_t local;
	int rc = api_row(c, ref, &row);

	if (rc)
		return ref || rc != -EBADF ? rc : 0;
	local = a64_load_relaxed(&row->local);
	if (local > 1)
		a64_store_relaxed(&row->local, local - 1);
	else if (c->short_rows || !alloc_release_private(c, row, off))	/* the short path has tried, if there is one */
		ref_drop_held(c, row);
	return 0;
}

int cxlshm_release(struct cxlshm_client *client, cxlshm_ref ref)
{
	struct client *c = api_client(client);
	uint64_t off = ref ^ c->tag;

	if (__builtin_expect(root_plausible(off, c->short_rows), 1)) {
		struct root_fmt *row = root_at(c, off);

		if (__builtin_expect(a64_load_relaxed(&row->local) == 1, 1))
			return alloc_release_short(c, row, off, release_long);
	}
	return release_long(c, off);
}

void *cxlshm_ptr(const struct cxlshm_client *client, cxlshm_ref ref)
{
	const struct client *c = api_client_const(client);
	struct root_fmt *row;
	struct object_fmt *object;

	row = root_of(c, ref);
	if (__builtin_expect(!row || !off_is_object(c->pool, a64_load_relaxed(&row->object)), 0))
		return NULL;
	object = off_object(c->pool, a64_load_relaxed(&row->object));
	if (object_kind(a128_value_relaxed(&object->word)) != OBJECT_DATA)
		return NULL;
	return object_payload(object);
}

int64_t cxlshm_size(struct cxlshm_client *client, cxlshm_ref ref)
{
	struct client *c = api_client(client);
	uint64_t off, header, id;
	struct stat st;
	int rc = api_object(c, ref, &off, &header);

	if (rc)
		return rc;
	if (object_kind(header) != OBJECT_FILE)
		return (int64_t)alloc_size(c, off, header);
	id = inode_extent(c, off);
	rc = id ? extent_stat(c->pool, id, &st) : -EUCLEAN;
	return rc ? rc : st.st_size;
}

uint64_t cxlshm_id(const struct cxlshm_client *client, cxlshm_ref ref)
{
	uint64_t off, header;

	return api_object(api_client_const(client), ref, &off, &header) ? 0 : off;
}

enum cxlshm_kind cxlshm_kind(const struct cxlshm_client *client, cxlshm_ref ref)
{
	uint64_t off, header;

	if (api_object(api_client_const(client), ref, &off, &header))
		return CXLSHM_KIND_NONE;
	return inode_public_kind(object_kind(header));
}

/* ---- slots of the application's objects ---- */

/* The slot `index` of the object behind holder, if it has slots of that sort. */
static int find_slot(struct client *c, cxlshm_ref holder, uint32_t index, int cells, struct a64 **slot)
{
	uint64_t off, header;
	int rc;

	if (__builtin_expect(!c, 0))
		return -EINVAL;
	rc = api_object(c, holder, &off, &header);
	if (rc)
		return rc;
	if (object_kind(header) != OBJECT_DATA || index >= object_slots(header) || !(header & OBJECT_CELLS) != !cells)
		return -EINVAL;
	*slot = object_slot(off_object(c->pool, off), header, index);
	return 0;
}

/* A row of its own with what ref refers to, counted; or an empty row for ref 0. */
static int row_for(struct client *c, cxlshm_ref ref, struct root_fmt **out)
{
	struct root_fmt *from = NULL, *row;
	int rc = ref ? api_row(c, ref, &from) : 0;

	if (!rc)
		rc = api_take_row(c, &row);
	if (rc)
		return rc;
	if (from)
		rc = ref_attach(c, a64_load_relaxed(&from->object), row);
	if (rc)
		root_give(c, row);
	else
		*out = row;
	return rc;
}

/* The row of *ref to be exchanged as it is, or an empty one for 0. */
static int row_of_whole(struct client *c, cxlshm_ref ref, struct root_fmt **out)
{
	int rc;

	if (!ref)
		return api_take_row(c, out);
	rc = api_row(c, ref, out);
	if (!rc && a64_load_relaxed(&(*out)->local) > 1)
		rc = -EBUSY;
	return rc;
}

/* After an exchange: the handle of the row, or none, and the row given back. */
static cxlshm_ref row_result(struct client *c, struct root_fmt *row)
{
	if (!a64_load_relaxed(&row->object)) {
		root_give(c, row);
		return 0;
	}
	return root_ref(c, row);
}

int cxlshm_field_load(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index, cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	struct a64 *slot;
	uint64_t target;
	int rc = ref ? find_slot(c, holder, index, 0, &slot) : -EINVAL;

	if (rc)
		return rc;
	target = a64_load_acquire(slot);
	if (!target) {
		*ref = 0;
		return 0;
	}
	return attach_new(c, target, ref);
}

int cxlshm_field_store(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index, cxlshm_ref ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	struct a64 *slot;
	int rc = find_slot(c, holder, index, 0, &slot);

	if (!rc)
		rc = row_for(c, ref, &row);
	if (rc)
		return rc;
	ref_exchange_private(c, row, slot);
	ref_drop_row(c, row);
	return 0;
}

int cxlshm_field_swap(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index, cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	struct a64 *slot;
	int rc = ref ? find_slot(c, holder, index, 0, &slot) : -EINVAL;

	if (!rc && a64_load_acquire(slot) && !off_is_object(c->pool, a64_load_acquire(slot)))
		rc = -EUCLEAN;
	if (!rc)
		rc = row_of_whole(c, *ref, &row);
	if (rc)
		return rc;
	ref_exchange_private(c, row, slot);
	*ref = row_result(c, row);
	return 0;
}

int cxlshm_cell_load(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index, cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	struct a64 *slot;
	int rc = ref ? find_slot(c, holder, index, 1, &slot) : -EINVAL;

	if (!rc)
		rc = api_take_row(c, &row);
	if (rc)
		return rc;
	rc = cell_load(c, (struct cell_fmt *)slot, row);
	if (rc) {
		root_give(c, row);
		return rc;
	}
	*ref = row_result(c, row);
	return 0;
}

/* Exchange until it takes place: each failure is another client's success. */
static int swap(struct client *c, struct cell_fmt *cell, struct root_fmt *row)
{
	struct stamped seen;

	do {
		seen = a128_load_acquire(&cell->word);
		if (__builtin_expect(seen.value && !off_is_object(c->pool, seen.value), 0))
			return -EUCLEAN;
	} while (cell_exchange(c, cell, seen, row, NULL));
	return 0;
}

int cxlshm_cell_store(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index, cxlshm_ref ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	struct a64 *slot;
	int rc = find_slot(c, holder, index, 1, &slot);

	if (!rc)
		rc = row_for(c, ref, &row);
	if (rc)
		return rc;
	rc = swap(c, (struct cell_fmt *)slot, row);
	ref_drop_row(c, row);
	return rc;
}

int cxlshm_cell_swap(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index, cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	struct a64 *slot;
	int rc = ref ? find_slot(c, holder, index, 1, &slot) : -EINVAL;

	if (!rc)
		rc = row_of_whole(c, *ref, &row);
	if (rc)
		return rc;
	rc = swap(c, (struct cell_fmt *)slot, row);
	if (rc) {
		if (!*ref)
			root_give(c, row);
		return rc;
	}
	*ref = row_result(c, row);
	return 0;
}

int cxlshm_cell_cas(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index, cxlshm_ref expected,
		    cxlshm_ref *desired)
{
	struct client *c = api_client(client);
	struct root_fmt *row, *from = NULL;
	struct a64 *slot;
	uint64_t object = 0;
	int rc = desired ? find_slot(c, holder, index, 1, &slot) : -EINVAL;

	if (!rc && expected)
		rc = api_row(c, expected, &from);
	if (from)
		object = a64_load_relaxed(&from->object);
	if (!rc)
		rc = row_of_whole(c, *desired, &row);
	if (rc)
		return rc;
	do {
		struct cell_fmt *cell = (struct cell_fmt *)slot;
		struct stamped seen = a128_load_acquire(&cell->word);

		/* The caller holds the expected object, so its offset stands for no other. */
		if (seen.value != object) {
			if (!*desired)
				root_give(c, row);
			return -EAGAIN;
		}
		rc = cell_exchange(c, cell, seen, row, NULL);
	} while (rc);
	*desired = row_result(c, row);
	return 0;
}

/* ---- handing over ---- */

int cxlshm_export(struct cxlshm_client *client, cxlshm_ref ref, uint64_t *token)
{
	struct client *c = api_client(client);
	struct root_fmt *row;
	int rc = c && token ? api_usable(c) : -EINVAL;

	if (!rc)
		rc = ref ? row_of_whole(c, ref, &row) : -EBADF;
	if (rc)
		return rc;
	for (uint32_t i = 0; i < EXPORTS; i++) {
		struct cell_fmt *cell = &c->slot->exports[i];
		struct stamped seen = a128_load_acquire(&cell->word);

		/* Only this client puts in, so an empty one stays empty; exposing may use an era, the token is the next. */
		if (seen.value)
			continue;
		ref_expose(c, a64_load_relaxed(&row->object));
		*token = era_stamp(c);
		while (cell_exchange(c, cell, a128_load_acquire(&cell->word), row, NULL))
			*token = era_stamp(c);
		root_give(c, row);
		return 0;
	}
	return -EAGAIN;
}

int cxlshm_import(struct cxlshm_client *client, uint64_t token, cxlshm_ref *ref)
{
	struct client *c = api_client(client);
	uint32_t cid = stamp_cid(token);
	struct root_fmt *row;
	int rc = c && ref ? api_usable(c) : -EINVAL;

	if (rc)
		return rc;
	if (!cid || cid > c->pool->slots || cid > a64_load_acquire(&c->pool->shared->slots_high))
		return -EINVAL;
	rc = api_take_row(c, &row);
	if (rc)
		return rc;
	for (uint32_t i = 0; i < EXPORTS; i++) {
		struct cell_fmt *cell = &pool_slot(c->pool, cid)->exports[i];
		struct stamped seen = a128_load_acquire(&cell->word);

		if (seen.stamp != token || !off_is_object(c->pool, seen.value))
			continue;
		if (cell_exchange(c, cell, seen, row, NULL))
			break;
		*ref = row_result(c, row);
		return 0;
	}
	root_give(c, row);
	return -ENOENT;
}
