/* SPDX-License-Identifier: MIT */
/*
 * When the neighbour works; see neighbour.h, and meanwhile.c for what it does.
 *
 * A recovery in the parent acts as the dead client, by a handle of its own: held up at a crash point it is to the neighbour
 * what a recovering process is that has been stopped there.  The neighbour's own calls pass points, too, and may recover
 * other dead clients: there is no round within a round.
 *
 * Nobody else moves while it works.  So where its calls would sleep until somebody does they need not, and one that is not
 * back after SLEEPS_MAX of them would wait for ever.
 */
#include <time.h>

#include "meanwhile.h"
#include "neighbour.h"

#define SLEEPS_MAX 100000u

static uint32_t sleeps;

int nanosleep(const struct timespec *time, struct timespec *left)
{
	(void)time;
	(void)left;
	REQUIRE(sleeps++ < SLEEPS_MAX);
	return 0;
}

void neighbour_begin(struct neighbour *n, struct stage *stage, const struct scenario *scenario, uint32_t turn)
{
	memset(n, 0, sizeof(*n));
	n->stage = stage;
	n->meanwhile = scenario->meanwhile;
	stage->turn = turn;
}

void neighbour_work(struct neighbour *n)
{
	if (!n->meanwhile || n->working)
		return;
	sleeps = 0;
	n->working = 1;
	n->meanwhile(n->stage);
	n->working = 0;
	n->stage->turn++;
	n->rounds++;
}

static void held_up(void *arg, struct client *c, unsigned point)
{
	struct neighbour *n = arg;

	if (n->working || n->passed[point] >= NEIGHBOUR_PASSAGES)
		return;
	REQUIRE(c != (struct client *)n->stage->neighbour);
	n->passed[point]++;
	neighbour_work(n);
}

int neighbour_recover(struct neighbour *n)
{
	struct pool *pool = (struct pool *)n->stage->pool;
	int rc;

	sleeps = 0;
	pool->crash_hook = held_up;
	pool->crash_arg = n;
	rc = cxlshm_recover(n->stage->pool, NULL);
	pool->crash_hook = NULL;
	return rc;
}

/* ---- did it do anything? ---- */

extern struct may_site __start_may_sites[], __stop_may_sites[];	/* the linker's */

void neighbour_note(uint8_t *succeeded)
{
	REQUIRE(__stop_may_sites - __start_may_sites < NEIGHBOUR_CALLS);
	for (const struct may_site *site = __start_may_sites; site < __stop_may_sites; site++)
		if (site->succeeded)
			succeeded[site - __start_may_sites] = 1;
}

/* One whose every call is refused gets through any round, and has shown nothing.  (Short forms make too few rounds.) */
unsigned neighbour_say_refused(const uint8_t *succeeded)
{
	unsigned refused = 0;

	for (const struct may_site *site = __start_may_sites; site < __stop_may_sites; site++)
		if (!succeeded[site - __start_may_sites]) {
			refused++;
			printf("FAILED: never succeeded beside the dead: %s:%u: %s\n", site->file, site->line, site->call);
		}
	return refused;
}
