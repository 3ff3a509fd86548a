/* SPDX-License-Identifier: MIT */
/*
 * What the waiting proof, its scenarios and its neighbour share.
 */
#ifndef TESTS_WAIT_H
#define TESTS_WAIT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/must.h"
#include "client.h"
#include "cxlshm.h"

#define STAGE_REFS 6
#define QUEUE_PLACES 4	/* in each of the two queues */

enum { HOLDER, SHARED, QUEUE, SPSC, DIRECTORY, PLAIN };	/* of struct stage: what all work on */

struct scenario;

struct stage {
	const struct scenario *scenario;
	struct cxlshm_pool *pool;	/* the neighbour's */
	struct cxlshm_client *neighbour;
	struct cxlshm_client *reader;	/* NULL, or one that has stopped while it looks at an object */
	cxlshm_ref held[STAGE_REFS];
	uint64_t token[STAGE_REFS][2];	/* exported: for the one that is stopped, and for one that died before */
};

struct scenario {
	const char *name;
	void (*act)(struct stage *s, struct cxlshm_pool *pool);	/* in the process that is stopped */
	unsigned dead_at;	/* crash point at which victim() dies before, in a process of its own; 0: nobody does */
	void (*victim)(struct stage *s, struct cxlshm_pool *pool);
	void (*before)(struct stage *s);	/* what the neighbour does behind that, before act(); or NULL */
	int moves;	/* a directory is renamed, or the rename of one recovered: the neighbour renames none */
};

extern const struct scenario scenarios[];	/* ends with name NULL */

/* The neighbour makes what all work on. */
void stage_prepare(struct stage *s);

/* The neighbour's calls, between round_begin() and round_end(). */
void stage_neighbour(struct stage *s);

/* The reader, if there is one, goes on and leaves. */
void stage_reader_end(struct stage *s);

/* ---- what is demanded of each call ---- */

/* The functions that the neighbour calls.  Each must have done its work at least once in every round. */
#define KINDS(X)                                                                                   \
	X(pool_open)                                                                               \
	X(join)                                                                                    \
	X(leave)                                                                                   \
	X(recover)                                                                                 \
	X(each_client)                                                                             \
	X(trim)                                                                                    \
	X(alloc)                                                                                   \
	X(alloc_with)                                                                              \
	X(dup)                                                                                     \
	X(attach)                                                                                  \
	X(release)                                                                                 \
	X(field_load)                                                                              \
	X(field_store)                                                                             \
	X(field_swap)                                                                              \
	X(cell_load)                                                                               \
	X(cell_store)                                                                              \
	X(cell_swap)                                                                               \
	X(cell_cas)                                                                                \
	X(export)                                                                                  \
	X(import)                                                                                  \
	X(queue_create)                                                                            \
	X(queue_send)                                                                              \
	X(queue_receive)                                                                           \
	X(queue_send_wait)                                                                         \
	X(queue_receive_wait)                                                                      \
	X(lookup)                                                                                  \
	X(link)                                                                                    \
	X(create)                                                                                  \
	X(mkdir)                                                                                   \
	X(symlink)                                                                                 \
	X(mknod)                                                                                   \
	X(readlink)                                                                                \
	X(unlink)                                                                                  \
	X(rmdir)                                                                                   \
	X(rename)                                                                                  \
	X(exchange)                                                                                \
	X(readdir)                                                                                 \
	X(stat)                                                                                    \
	X(setattr)                                                                                 \
	X(getxattr)                                                                                \
	X(setxattr)                                                                                \
	X(listxattr)                                                                               \
	X(removexattr)                                                                             \
	X(named_object)                                                                            \
	X(resize)                                                                                  \
	X(reserve)                                                                                 \
	X(map)                                                                                     \
	X(unmap)                                                                                   \
	X(extent_open)                                                                             \
	X(extent_busy)

#define KIND_ENUM(name) KIND_##name,
enum kind { KINDS(KIND_ENUM) KIND_COUNT };
#undef KIND_ENUM

/*
 * Everything that a call may say beside a client that is stopped.  While it is, nobody but the neighbour moves, so he knows
 * what is right from a look right before (a listing, a queue's role) and gives it with the call: FINE, or the one reason
 * for a refusal.  Whatever else a call says has failed, for it would say so as long as the other is stopped.
 *
 * reason, the code, also 0, the scenarios where it may be (NULL: all), from include/cxlshm.h
 */
#define REASONS(X)                                                                                 \
	X(FINE, 0, 1, NULL, "it works")                                                            \
	/* names, as a listing shows them: */                                                      \
	X(TAKEN, -EEXIST, 0, NULL, "-EEXIST: the new name is there")                               \
	X(ABSENT, -ENOENT, 0, NULL, "-ENOENT: the name is not there")                              \
	X(REMOVED, -ENOENT, 0, "directories", "-ENOENT: the directory was removed")                \
	X(REPLACED, -ENOENT, 0, "directories",                                                     \
	  "rename: an empty directory that is to be replaced takes no new names meanwhile (-ENOENT)") \
	X(NOT_EMPTY, -ENOTEMPTY, 0, NULL, "rmdir: -ENOTEMPTY")                                     \
	/* the directory itself is in a rename, the exception of cxlshm_rename(): */               \
	X(MOVING, -ENOTEMPTY, 1, "directories", "rename: renaming a directory waits for another such rename") \
	/* or the stopped one is in the middle of a call on a name in it: */                       \
	X(CHANGING, -ENOTEMPTY, 1, "names directories recover_unlink recover_overtaken recover_exchange recover_move", \
	  "rmdir: -ENOTEMPTY: another client is just adding a name there, or taking one out")      \
	X(NO_ATTR, -ENODATA, 0, NULL, "getxattr: -ENODATA")                                        \
	/* queues; what the stopped one was about to send or take may count or not: */             \
	X(FULL, -EAGAIN, 0, NULL, "send: -EAGAIN: full")                                           \
	X(MAYBE_FULL, -EAGAIN, 1, NULL, "send: -EAGAIN: full")                                     \
	X(EMPTY, -EAGAIN, 0, NULL, "receive: -EAGAIN: empty")                                      \
	X(MAYBE_EMPTY, -EAGAIN, 1, "queues succeed succeed_receiver recover_role", "receive: -EAGAIN: empty")       \
	X(LATE, -ETIMEDOUT, 0, NULL, "send_wait, receive_wait: -ETIMEDOUT")                        \
	X(MAYBE_LATE, -ETIMEDOUT, 1, "queues succeed succeed_receiver recover_role", "receive_wait: -ETIMEDOUT")    \
	X(ROLE, -EBUSY, 0, "queues succeed succeed_receiver", "send: -EBUSY: another living client is the sender of an SPSC queue") \
	X(HEIR, -EBUSY, 0, "succeed succeed_receiver recover_role",                                                 \
	  "send: -EBUSY: or a dead one that somebody else is just recovering")                     \
	X(HEIR_LATE, -ETIMEDOUT, 0, "succeed succeed_receiver recover_role",                                        \
	  "send_wait: waiting at most timeout_ns for somebody else's recovery of the role's dead holder")

#define REASON_ENUM(name, code, or_fine, scenarios, promise) name,
enum reason { REASONS(REASON_ENUM) REASON_COUNT };
#undef REASON_ENUM

void round_begin(void);
void round_end(void);
void call_begin(enum kind kind, const char *what);
int64_t call_end(int64_t rc, enum reason reason);

/* One call of the neighbour, timed and judged: cxlshm_KIND() of WHAT.  Its result; a length, where it says one, is fine. */
#define CALL(kind, what, reason, call) (call_begin(KIND_##kind, what), call_end((int64_t)(call), reason))

#endif
