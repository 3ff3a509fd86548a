/* SPDX-License-Identifier: MIT */
/*
 * Names of the crash points, and the call of a test's hook at them.
 */
#include "crash.h"

#include "client.h"

static const char *const names[] = {
#define CRASH_POINT_NAME(module, name) #module "." #name,
	CRASH_POINTS(CRASH_POINT_NAME)
#undef CRASH_POINT_NAME
};

const char *crash_point_name(enum crash_point point)
{
	return point < CRASH_POINT_COUNT ? names[point] : NULL;
}

#ifdef CXLSHM_CRASH_POINTS
void crash_hit(struct client *c, enum crash_point point)
{
	if (c->pool->crash_hook)
		c->pool->crash_hook(c->pool->crash_arg, c, point);
}
#endif
