/* SPDX-License-Identifier: MIT */
/*
 * membarrier(2) orders what a test rarely meets out of order.  So a test sees that it is called, and what was written by then:
 * the library is linked into the test, and its calls of syscall(3) come here.
 */
#ifndef TESTS_MEMBARRIER_H
#define TESTS_MEMBARRIER_H

#include <dlfcn.h>
#include <stdarg.h>
#include <unistd.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>

static struct {
	unsigned calls;
	void (*at)(void);	/* called before each of them */
} membarriers;

long syscall(long number, ...)
{
	long (*real)(long number, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	va_list list;
	long v[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		v[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_membarrier && v[0] == MEMBARRIER_CMD_GLOBAL_EXPEDITED) {
		membarriers.calls++;
		if (membarriers.at)
			membarriers.at();
	}
	return real(number, v[0], v[1], v[2], v[3], v[4], v[5]);
}

#endif
