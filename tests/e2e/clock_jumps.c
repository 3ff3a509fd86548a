/* SPDX-License-Identifier: MIT */
/*
 * clock_jumps: preloaded into a daemon, its wall clock jumps by years each time it looks, back and forth; CLOCK_MONOTONIC
 * and the kernel's own clock go on.  A time namespace has no wall clock of its own, and setting the machine's would be seen
 * by all.  JUMPS, a file's name: jump while it is there; if it is not empty, once, five years ahead.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

static int64_t jump(void)
{
	/* Three, so that who looks twice at each request does not see the same one at all of them. */
	static const int64_t years[] = {5, -3, -11};
	static _Atomic unsigned looks;
	const char *file = getenv("JUMPS");
	struct stat st;

	if (!file || stat(file, &st))
		return 0;
	return years[st.st_size ? 0 : looks++ % 3] * 31536000;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);

	if (!real)
		real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	if (real(clock, t))
		return -1;
	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
		t->tv_sec += jump();
	return 0;
}

time_t time(time_t *out)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (out)
		*out = t.tv_sec;
	return t.tv_sec;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	tv->tv_sec = t.tv_sec;
	tv->tv_usec = t.tv_nsec / 1000;
	return 0;
}
