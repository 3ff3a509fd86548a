/* SPDX-License-Identifier: MIT */
/*
 * What differs between processors: 16-byte single-copy-atomic access, and writing cache lines back to
 * memory (failure_domain=host: a machine that dies takes its dirty lines with it).
 * The only file with #ifdef on the processor; arch_<cpu>.h fill it in.
 *
 *   arch_load16(p, out)        one 16-byte load, acquire
 *   arch_cas16(p, old, new)    one 16-byte compare-and-swap, full barrier; 1 if it took place
 *   arch_store16(p, v)         one 16-byte store, release
 *   arch_write_back(p)         start writing back the line that holds p
 *   arch_write_back_fence()    wait until the lines started before are in memory
 *   arch_count(p)              add one to a word that nobody else writes; readers see the old or the new value
 *   arch_relax()               be nice to the other hardware thread in a polling loop
 */
#ifndef CXLSHM_ARCH_H
#define CXLSHM_ARCH_H

#include <stdint.h>

struct arch16 {
	uint64_t value;
	uint64_t stamp;
} __attribute__((aligned(16)));

#define ARCH_LINE_BYTES 64u

/* A build for ThreadSanitizer. */
#if defined(__SANITIZE_THREAD__)
#define ARCH_SEEN_BY_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ARCH_SEEN_BY_TSAN 1
#endif
#endif

/* ThreadSanitizer says nothing of this thread's accesses in between, and still sees what orders others.  May be nested. */
#ifdef ARCH_SEEN_BY_TSAN
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#define tsan_overlook_begin() AnnotateIgnoreReadsBegin(__FILE__, __LINE__)
#define tsan_overlook_end() AnnotateIgnoreReadsEnd(__FILE__, __LINE__)
#else
#define tsan_overlook_begin() ((void)0)
#define tsan_overlook_end() ((void)0)
#endif

#if defined(__x86_64__)
#include "arch_x86.h"
#elif defined(__aarch64__)
#include "arch_aarch64.h"
#else
#error "cxlshm needs a 16-byte compare-and-swap: x86-64 or aarch64"
#endif

#endif
