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

/* Of a call that is tried again after -ENOSPC. */
struct api_room {
	uint64_t bytes;	/* of a file that it wants at most; 0: memory of the heap */
	int tried, last;	/* 0 at first */
};

/*
 * After rc: try again?  If it is -ENOSPC, at most twice.  At once if room was made: memory of dead clients, kept for late
 * readers, or of this client, which held nothing in it, was given back.  Then, as the last, when nobody is claiming or giving
 * back any more, for which it waits, 20 times 1 ms at most.
 */
int api_room_again(struct client *c, int rc, struct api_room *room);

/*
 * rc is what call returns, in the end: it may be evaluated up to three times, and must leave nothing behind at -ENOSPC.  For
 * so many bytes of a file at most, or 0.
 */
#define API_WITH_ROOM(c, rc, bytes_, call)                                                     \
	do {                                                                                   \
		(rc) = (call);                                                                 \
		if (__builtin_expect((rc) != 0, 0)) {                                          \
			struct api_room room_ = {.bytes = (bytes_)};                           \
			while ((rc) && api_room_again(c, rc, &room_))                          \
				(rc) = (call);                                                 \
		}                                                                              \
	} while (0)

/* An empty row, if need be in memory that dead clients held. */
static inline int api_take_row(struct client *c, struct root_fmt **row)
{
	int rc;

	API_WITH_ROOM(c, rc, 0, root_take(c, row));
	return rc;
}

/* Undo every cxlshm_map() of the client. */
void api_unmap_all(struct client *c);

#endif
