/* SPDX-License-Identifier: MIT */
/*
 * Dying at a crash point.  In builds with CXLSHM_CRASH_POINTS a pool handle may carry a hook that is called at each
 * one, and may end the process, or leave the operation for good with longjmp.  In other builds: nothing.
 */
#ifndef CXLSHM_CRASH_H
#define CXLSHM_CRASH_H

#include "crash_points.h"

struct client;

#ifdef CXLSHM_CRASH_POINTS
void crash_hit(struct client *c, enum crash_point point);
#define CRASH_POINT(c, module, name) crash_hit((c), CRASH_##module##_##name)
#else
#define CRASH_POINT(c, module, name) ((void)(c), (void)CRASH_##module##_##name)
#endif

/* "module.name" of a point, NULL behind the last. */
const char *crash_point_name(enum crash_point point);

#endif
