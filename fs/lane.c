/* SPDX-License-Identifier: MIT */
/*
 * lane.c: the daemon's clients in the pool.
 *
 * Owns: one client for names, and up to LANE_SIDE_MAX for long work, which join when first needed (a
 * small pool has few slots).  References travel between them as exports: the names lane takes a second
 * reference and exports it, the side lane imports it.  If the daemon dies in between, the export is
 * dropped with its exporter.
 * Threads: any.  Lock order: a side lane's mutex, then the names lane's; never the other way round.
 */
#include "lane.h"

#include <errno.h>

static int side_join(struct lanes *lanes, struct lane *lane)
{
	if (lane->client)
		return 0;
	return cxlshm_join(lanes->pool, "cxlshmfs-side", 0, &lane->client);
}

/* Lock a side lane, a free one if there is one. */
static int side_lock(struct lanes *lanes, struct lane **out)
{
	unsigned first = atomic_fetch_add_explicit(&lanes->next_side, 1, memory_order_relaxed);
	struct lane *lane;
	int rc;

	for (unsigned i = 0; i < lanes->side_count; i++) {
		lane = &lanes->side[(first + i) % lanes->side_count];
		if (!pthread_mutex_trylock(&lane->mutex))
			goto locked;
	}
	lane = &lanes->side[first % lanes->side_count];
	pthread_mutex_lock(&lane->mutex);
locked:
	rc = side_join(lanes, lane);
	if (rc) {
		pthread_mutex_unlock(&lane->mutex);
		return rc;
	}
	*out = lane;
	return 0;
}

int lane_start(struct lanes *lanes, struct cxlshm_pool *pool, unsigned threads)
{
	lanes->pool = pool;
	lanes->side_count = threads > LANE_SIDE_MAX ? LANE_SIDE_MAX : threads;
	atomic_init(&lanes->next_side, 0);
	pthread_mutex_init(&lanes->names.mutex, NULL);
	for (unsigned i = 0; i < LANE_SIDE_MAX; i++) {
		pthread_mutex_init(&lanes->side[i].mutex, NULL);
		lanes->side[i].client = NULL;
	}
	return cxlshm_join(pool, "cxlshmfs", 0, &lanes->names.client);
}

void lane_stop(struct lanes *lanes)
{
	for (unsigned i = 0; i < LANE_SIDE_MAX; i++) {
		if (lanes->side[i].client)
			cxlshm_leave(lanes->side[i].client);
		lanes->side[i].client = NULL;
		pthread_mutex_destroy(&lanes->side[i].mutex);
	}
	if (lanes->names.client)
		cxlshm_leave(lanes->names.client);
	lanes->names.client = NULL;
	pthread_mutex_destroy(&lanes->names.mutex);
}

static void trim(struct lane *lane)
{
	if (pthread_mutex_trylock(&lane->mutex))
		return;
	if (lane->client)
		cxlshm_trim(lane->client);
	pthread_mutex_unlock(&lane->mutex);
}

void lane_trim(struct lanes *lanes)
{
	trim(&lanes->names);
	for (unsigned i = 0; i < lanes->side_count; i++)
		trim(&lanes->side[i]);
}

struct cxlshm_client *lane_lock(struct lanes *lanes)
{
	pthread_mutex_lock(&lanes->names.mutex);
	return lanes->names.client;
}

void lane_unlock(struct lanes *lanes)
{
	pthread_mutex_unlock(&lanes->names.mutex);
}

/* A token for one more reference to what ref refers to.  Names lane locked. */
static int export_copy(struct cxlshm_client *client, cxlshm_ref ref, uint64_t *token)
{
	cxlshm_ref copy;
	int rc = cxlshm_attach(client, ref, &copy);

	if (rc)
		return rc;
	rc = cxlshm_export(client, copy, token);
	if (rc)
		cxlshm_release(client, copy);
	return rc;
}

/* Undo export_copy(): the exporter may import its own. */
static void take_back(struct lanes *lanes, uint64_t token)
{
	struct cxlshm_client *client = lane_lock(lanes);
	cxlshm_ref ref;

	if (!cxlshm_import(client, token, &ref))
		cxlshm_release(client, ref);
	lane_unlock(lanes);
}

static int export_pair(struct lanes *lanes, cxlshm_ref ref, cxlshm_ref ref2, uint64_t *token,
		       uint64_t *token2)
{
	struct cxlshm_client *client = lane_lock(lanes);
	int rc = export_copy(client, ref, token);

	if (!rc && ref2) {
		rc = export_copy(client, ref2, token2);
		if (rc) {
			cxlshm_ref back;

			if (!cxlshm_import(client, *token, &back))
				cxlshm_release(client, back);
		}
	}
	lane_unlock(lanes);
	return rc;
}

int lane_side_begin(struct lanes *lanes, cxlshm_ref ref, cxlshm_ref ref2, struct lane **out,
		    cxlshm_ref *side_ref, cxlshm_ref *side_ref2)
{
	uint64_t token, token2 = 0;
	cxlshm_ref first, second = 0;
	struct lane *lane;
	int rc = side_lock(lanes, &lane);

	if (rc)
		return rc;
	rc = export_pair(lanes, ref, ref2, &token, &token2);
	if (rc)
		goto unlock;
	rc = cxlshm_import(lane->client, token, &first);
	if (rc) {
		take_back(lanes, token);
		if (ref2)
			take_back(lanes, token2);
		goto unlock;
	}
	if (ref2) {
		rc = cxlshm_import(lane->client, token2, &second);
		if (rc) {
			take_back(lanes, token2);
			cxlshm_release(lane->client, first);
			goto unlock;
		}
	}
	*out = lane;
	*side_ref = first;
	if (side_ref2)
		*side_ref2 = second;
	return 0;
unlock:
	pthread_mutex_unlock(&lane->mutex);
	return rc;
}

void lane_side_end(struct lane *lane, cxlshm_ref side_ref, cxlshm_ref side_ref2)
{
	cxlshm_release(lane->client, side_ref);
	cxlshm_release(lane->client, side_ref2);
	pthread_mutex_unlock(&lane->mutex);
}

void lane_side_drop(struct lanes *lanes, uint64_t token)
{
	struct lane *lane;
	cxlshm_ref ref;

	if (side_lock(lanes, &lane)) {
		take_back(lanes, token);
		return;
	}
	if (!cxlshm_import(lane->client, token, &ref))
		lane_side_end(lane, ref, 0);
	else {
		pthread_mutex_unlock(&lane->mutex);
		take_back(lanes, token);
	}
}
