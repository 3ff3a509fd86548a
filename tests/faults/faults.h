/* SPDX-License-Identifier: MIT */
/*
 * What the cases share.
 */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cxlshm.h"

#define MIB (1ull << 20)
#define SKIPPED 77
#define POOL_PATH 80

#define MUST(call)                                                                                       \
	do {                                                                                             \
		int must_rc = (call);                                                                    \
		if (must_rc) {                                                                           \
			printf("FAIL %s:%d: %s: %s\n", __FILE__, __LINE__, #call, strerror(abs(must_rc))); \
			exit(1);                                                                         \
		}                                                                                        \
	} while (0)

#define REQUIRE(what)                                                                    \
	do {                                                                             \
		if (!(what)) {                                                           \
			printf("FAIL %s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
			exit(1);                                                         \
		}                                                                        \
	} while (0)

static inline double faults_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline void faults_said(void *arg, int severity, const char *line)
{
	(void)arg;
	if (severity)
		printf("     fsck: %s\n", line);
}

static inline void faults_in_order(const char *path)
{
	struct cxlshm_check_result result;

	MUST(cxlshm_check(path, 0, faults_said, NULL, &result, NULL));
	REQUIRE(!result.problems);
}

static inline void faults_make(const char *path, uint64_t bytes, uint32_t slots)
{
	struct cxlshm_pool_options options = {
		.size_bytes = bytes, .client_slots = slots, .uid = (uid_t)-1, .gid = (gid_t)-1};
	struct cxlshm_error error = {""};

	if (mkdir(path, 0700) && errno != EEXIST)
		MUST(errno);
	if (cxlshm_pool_create(path, &options, &error)) {
		printf("FAIL %s\n", error.text);
		exit(1);
	}
}

/* Cases, each in an empty folder of its own. */
void faults_full_tmpfs(const char *dir);
void faults_full_tmpfs_span(const char *dir);
void faults_full_tmpfs_tail(const char *dir);
void faults_full_tmpfs_join(const char *dir);
void faults_signals(const char *dir);
void faults_signal_in_each_call(const char *dir);
void faults_clock_jumps(const char *dir);

#endif
