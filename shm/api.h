/* SPDX-License-Identifier: MIT */
/*
 * api: what the files that implement include/cxlshm.h share: handles to structs, and trying again after recovering dead
 * clients when memory is short.
 */
#ifndef CXLSHM_API_H
#define CXLSHM_API_H

#include "recover.h"

static inline struct pool *api_pool(struct cxlshm_pool *pool)
{
	return (struct pool *)pool;
}

static inline struct client *api_client(struct cxlshm_client *client)
{
	return (struct client *)client;
}

static inline const struct client *api_client_const(const struct cxlshm_client *client)
{
	return (const struct client *)client;
}

/* 0; -EOWNERDEAD in the child of a fork(); -ESTALE if the slot was taken from its client. */
static inline int api_usable(const struct client *c)
{
	if (__builtin_expect(c->pool->forked, 0))
		return -EOWNERDEAD;
	return __builtin_expect(pool_slot_lost(c->pool, c->cid, c->slot), 0) ? -ESTALE : 0;
}

/* The row of a handle in *row, or -EBADF; or why none of this client's has one, as api_usable() says. */
static inline int api_row(const struct client *c, cxlshm_ref ref, struct root_fmt **row)
{
	*row = root_of(c, ref);
	if (__builtin_expect(!*row, 0)) {
		int rc = api_usable(c);

		return rc ? rc : -EBADF;
	}
	return 0;
}

/* The object behind a handle, its offset and header; 0 or -EBADF; -EUCLEAN: the row leads nowhere. */
static inline int api_object(const struct client *c, cxlshm_ref ref, uint64_t *off, uint64_t *header)
{
	struct root_fmt *row;
	int rc = api_row(c, ref, &row);

	if (rc)
		return rc;
	*off = a64_load_relaxed(&row->object);
	if (__builtin_expect(!off_is_object(c->pool, *off), 0))
		return -EUCLEAN;
	*header = a128_value_relaxed(&off_object(c->pool, *off)->word);
	return 0;
}

/* Recover dead clients on behalf of a living one, whose doing it is counted as.  recovery may be NULL. */
void api_recover(struct client *c, struct cxlshm_recovery *recovery);

/* How often a call was tried again after -ENOSPC; all 0 at first. */
struct api_room {
	unsigned made, slept;
	int last;
};

/*
 * After rc: try again?  If it is -ENOSPC, a bounded number of times: when memory of dead clients, kept for late readers, or of
 * this client, which held nothing in it, has been given back; while others are claiming or giving back, after 1 ms each; and
 * once more behind the first look that found none of these.
 */
int api_room_again(struct client *c, int rc, struct api_room *room);

/* rc = call, and again as long as that is. */
#define API_WITH_ROOM(c, rc, call)                                                             \
	do {                                                                                   \
		(rc) = (call);                                                                 \
		if (__builtin_expect((rc) != 0, 0)) {                                          \
			struct api_room room_ = {0};                                           \
			while ((rc) && api_room_again(c, rc, &room_))                          \
				(rc) = (call);                                                 \
		}                                                                              \
	} while (0)

/* An empty row, if need be in memory that dead clients held. */
static inline int api_take_row(struct client *c, struct root_fmt **row)
{
	int rc;

	API_WITH_ROOM(c, rc, root_take(c, row));
	return rc;
}

/* Undo every cxlshm_map() of the client. */
void api_unmap_all(struct client *c);

#endif
