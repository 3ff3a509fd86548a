/* SPDX-License-Identifier: MIT */
/*
 * What to ask a mounted daemon: sequences made of bytes, and one fixed walk through everything.
 */
#ifndef TESTS_FUZZ_REQUESTS_H
#define TESTS_FUZZ_REQUESTS_H

#include "kernel.h"

/*
 * One request after the other until the bytes are used up.  The first byte of each chooses the operation (low six bits)
 * and a circumstance (high two: none, the caller killed, half of it missing, a wrong length); what follows are its
 * arguments, and zeros when there is nothing more.  Every byte string is a sequence.
 */
void requests_decode(struct kernel *k, const uint8_t *data, size_t size);

/* Look at everything there is, the .cxlshm tree too; then make, write, move and remove things. */
void requests_script(struct kernel *k);

/* Mount, do that, and unmount.  Returns 0, or why the daemon does not start: -errno. */
int requests_serve(const char *pool, enum device_kernel kind, bool threads);

#endif
