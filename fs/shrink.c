/* SPDX-License-Identifier: MIT */
/*
 * What a thread reads just now is file-scope state, for a signal handler gets no argument.  The handler puts an empty page
 * where the file has none any more, and the read goes on; any other SIGBUS ends the process as it would have.
 */
#include "shrink.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

static _Thread_local struct {
	volatile uintptr_t start;
	volatile size_t bytes;
	uintptr_t page;	/* bytes of one */
} reading;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	int saved = errno;

	(void)context;
	if (at - reading.start >= reading.bytes ||
	    mmap((void *)(at & ~(reading.page - 1)), reading.page, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1,
		 0) == MAP_FAILED)
		signal(number, SIG_DFL);	/* and the access is repeated */
	errno = saved;
}

void shrink_begin(void *map, size_t bytes)
{
	reading.page = (uintptr_t)sysconf(_SC_PAGESIZE);
	reading.start = (uintptr_t)map;
	reading.bytes = bytes;
}

void shrink_end(void)
{
	reading.bytes = 0;
}

int shrink_start(void)
{
	struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO};

	return sigaction(SIGBUS, &action, NULL) ? -errno : 0;
}
