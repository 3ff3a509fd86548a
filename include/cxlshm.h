/* SPDX-License-Identifier: MIT */
/*
 * cxlshm: reference-counted objects in memory shared by processes, safe when any of them dies.
 *
 * In five calls: cxlshm_pool_open() maps a pool that mkfs.cxlshm made; cxlshm_join() takes a client
 * slot in it; cxlshm_alloc() makes an object and a reference to it; cxlshm_ptr() gives its bytes;
 * cxlshm_release() drops the reference, and the object goes with the last one, wherever that is held.
 * A process that dies, at any instruction, is cleaned up after by the others.
 *
 * Results.  Every call that can fail returns 0 or a negative errno, and writes through its result
 * pointers only on success.  These mean the same everywhere:
 *   -EINVAL     an argument makes no sense: an unknown flag, index out of range, wrong kind of object
 *   -EBADF      the reference is not one of this client's, or was released.  A released one is told only until its row is used
 *               again, or its memory given back by cxlshm_trim(); one of another pool, or of an earlier client in the
 *               same slot, is not told from this client's own
 *   -ENOSPC     the pool (or its file system) is full; the pool is intact, and nothing was done
 *   -EUSERS     every client slot is taken by a living client
 *   -EUCLEAN    the pool is damaged: run fsck.cxlshm
 *   -ENOTSUP    the pool has a version or feature that this library does not know
 *   -EOVERFLOW  a count is at its limit of 2^32 - 1
 *   -EFBIG      a size or an offset of a file object beyond what its file system takes
 *   -EOWNERDEAD this handle was inherited through fork(): the child must open and join for itself
 *   -ESTALE     this client was taken for dead, and recovered, because its descriptors were closed: see "Dying"
 *   -EROFS      the pool was opened with CXLSHM_READONLY
 * Calls that take a client may answer -ESTALE and -EOWNERDEAD, those that take a reference -EBADF and -EUCLEAN, and those that
 * make an object or a reference (which is 16 bytes) -ENOSPC: the comments below name these only where there is more to say.
 *
 * Who owns what.  A reference that a call writes through a result pointer is the client's, to be released.  Strings and
 * structs that are passed in are read during the call only, and those written are the caller's.
 *
 * Handles and result pointers must not be NULL unless a comment says that they may: the answer is -EINVAL (cxlshm_client_id():
 * 0; cxlshm_client_pool(): NULL).  The shortest calls do not look: cxlshm_alloc(), _dup(), _attach(), _release(), _ptr(),
 * _size(), _id(), _kind(), _queue_send(), _queue_receive().
 *
 * Threads.  A pool handle may be used by any number of threads.  A client handle is used by one
 * thread at a time; join once a thread.  Calls on different clients never wait for each other,
 * whatever the other one is doing, with two exceptions named at cxlshm_rename() and cxlshm_extent_busy().
 *
 * Dying.  "Crash" says what others find when the caller dies inside the call.  Where it is not said:
 * either the call has happened or it has not, and all references of the caller are dropped by
 * whoever recovers it.
 * A client lives while the descriptors that its pool handle opened are open.  closefrom(3), or dup2(2) over one of them, is
 * the client's death: others recover it, and give its memory to others.  Calls that go beyond the client's own memory look,
 * and answer -ESTALE; the shortest ones do not, and what they write may be somebody else's.  cxlshm_leave() is all that is
 * left to do; no cxlshm_pool_close() once the numbers may be other files'.  The other way round, a child made behind the
 * back of pthread_atfork(3) handlers, by _Fork(3) or clone(2), keeps the parent's clients alive until it ends or executes
 * another program.
 */
#ifndef CXLSHM_H
#define CXLSHM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* C11, C++11, or anything older that has POSIX's struct timespec.  (Other C libraries say so in their own words.) */
#if defined(__GLIBC__) && __GLIBC__ * 1000 + __GLIBC_MINOR__ >= 2026 && !defined(_STRUCT_TIMESPEC)
#error "cxlshm.h needs struct timespec: compile with -std=c11, -std=gnu99 or -D_POSIX_C_SOURCE=199309L, or newer"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CXLSHM_VERSION_MAJOR 0
#define CXLSHM_VERSION_MINOR 1
#define CXLSHM_VERSION_PATCH 0

#define CXLSHM_NAME_MAX 255	/* bytes in one name */
#define CXLSHM_CLIENT_NAME_MAX 31	/* bytes in a client's name */
#define CXLSHM_FIELDS_MAX ((1u << 22) - 1)	/* reference fields or cells in one object */

struct cxlshm_pool;
struct cxlshm_client;

/*
 * A reference: one row in its client's table, in shared memory, so that it can be dropped for a client
 * that died.  0 is no reference.  It means something to the client that got it only; hand an object
 * to another client with a cell, a queue, a name or cxlshm_export().
 */
typedef uint64_t cxlshm_ref;

/* A sentence about what went wrong, with the path or option in it.  Empty on success. */
struct cxlshm_error {
	char text[512];
};

/* ---------------------------------------------------------------- pools */

#define CXLSHM_FAILURE_PROCESS 0u	/* every client is on this machine */
#define CXLSHM_FAILURE_HOST 1u	/* a machine may die with its dirty cache lines */

struct cxlshm_pool_options {
	uint64_t size_bytes;	/* of the heap file and of all extents together; at least 1 MiB.  On a file system that is larger the
				 * heap keeps to it, and so does each file, but not all of them together */
	uint32_t client_slots;	/* 0: as many as fit in 1 % of the pool, at most 1024.  To hold memory of its own a client needs a
				 * segment, and there are about 60 of them in pools of 16 to 256 MiB, 250 in 1 GiB, 3 in 1 MiB:
				 * who gets none can join, and use what others made, but is told -ENOSPC when it allocates */
	uint32_t failure_domain;	/* CXLSHM_FAILURE_* */
	mode_t mode;	/* of the heap file; the folders get the matching x bits; 0: 0660 */
	uid_t uid;	/* (uid_t)-1: the caller's */
	gid_t gid;	/* (gid_t)-1: the caller's */
	const char *numa;	/* NULL or "": none; bind:N, interleave:N,M, preferred:N, cxl */
	int force;	/* take a directory that holds a pool already, if nobody uses it */
};

/*
 * Make a pool in directory PATH (which must exist; mkfs.cxlshm gives it a tmpfs of its own).
 * error may be NULL.
 * Errors: -EEXIST it holds a pool, or files of one, and force is 0; -ENOTEMPTY it holds other files, there
 * or in x/, which are never deleted; -EBUSY the pool there is in use; -ENOENT, -ENOTDIR, -EACCES; -EINVAL
 * size, slots or NUMA policy; -ENOSPC.
 * Crash: a directory with a heap that no call takes for a pool, but a second try does, also without force.
 */
int cxlshm_pool_create(const char *path, const struct cxlshm_pool_options *options,
		       struct cxlshm_error *error);

/* Delete the pool's files in PATH, not the directory.  Errors: -EBUSY while any client lives or a
 * pool handle is open; -ENOTEMPTY other files are in x/, or heap is none of a pool: nothing is deleted.
 * Crash: what a second call takes, and cxlshm_pool_create() with force. */
int cxlshm_pool_remove(const char *path, struct cxlshm_error *error);

#define CXLSHM_READONLY 1u	/* map it for looking only: no client can join through this handle */
#define CXLSHM_SPARSE 2u	/* do not reserve file objects' bytes: a full pool is SIGBUS later */

/*
 * Map the pool in directory PATH.  error may be NULL.
 * Owns: the handle is the caller's, until cxlshm_pool_close().
 * Errors: -ENOENT, -EACCES, -EUCLEAN (truncated, damaged), -ENOTSUP (version, feature bits, CPU),
 * -ENOMEM (does not fit the address space), -EMFILE, -EBUSY (being made or removed just now), -EAGAIN (the process has no
 * thread key left, PTHREAD_KEYS_MAX, usually 1024: each handle takes one).
 */
int cxlshm_pool_open(const char *path, unsigned flags, struct cxlshm_pool **pool,
		     struct cxlshm_error *error);

/* Leave with every client still joined through this handle, unmap, close.  The handle is gone. */
void cxlshm_pool_close(struct cxlshm_pool *pool);

struct cxlshm_pool_info {
	char uuid[37];
	char numa[64];	/* policy as given to mkfs, "" for none */
	uint32_t format_version;
	uint32_t failure_domain;
	uint64_t size_bytes;	/* as made */
	uint64_t heap_bytes;	/* of the heap file */
	uint64_t segment_bytes;
	uint64_t page_bytes;
	uint32_t client_slots;
	uint32_t segments;
};

/* What the pool is: filled in with what never changes while it exists.  Errors: -EINVAL.  Crash: it writes nothing shared. */
int cxlshm_pool_info(struct cxlshm_pool *pool, struct cxlshm_pool_info *info);

struct cxlshm_pool_space {
	uint64_t size_bytes;	/* what the pool may use in all */
	uint64_t free_bytes;	/* what can still be reserved: unclaimed, or left in its file system */
	uint64_t files;	/* file objects that exist */
	uint64_t block_bytes;
};

/* How full the pool is, as statfs(2) would say.  Of a pool without a tmpfs of its own (--plain) each extent is looked at.
 * Errors: -EINVAL, -EOWNERDEAD; as statfs(2) and open(2).  Crash: it writes nothing shared. */
int cxlshm_pool_space(struct cxlshm_pool *pool, struct cxlshm_pool_space *space);

/* ---------------------------------------------------------------- clients */

#define CXLSHM_JOIN_THREAD 1u	/* leave by itself when the calling thread exits; until then no other thread may leave
				 * for it, but cxlshm_pool_close() */

/*
 * Take a client slot.  name (NULL: the program's) is shown in lists of clients.
 * Dead clients met on the way are recovered first.
 * Owns: the client is the caller's until cxlshm_leave() or cxlshm_pool_close().
 * Errors: -EUSERS, -ENOSPC, -EROFS, -EOWNERDEAD.
 */
int cxlshm_join(struct cxlshm_pool *pool, const char *name, unsigned flags,
		struct cxlshm_client **client);

/* Drop every reference the client still holds, undo its mappings, give its slot and memory back.  The handle is gone.
 * Errors: -EINVAL.  Crash: recovery does the rest. */
int cxlshm_leave(struct cxlshm_client *client);

/*
 * Take in what others freed in the client's memory, and give back to the system what holds nothing, but for a little that it
 * would soon want again; as malloc_trim(3).  Allocating, releasing and leaving do that, too, in their time: this is for who
 * does none of these for a while, when others free what it has allocated.  Gives back at most 32 segments (128 MiB) a call,
 * and as many that were kept because somebody read in them, so that this does not take long (32 measured: 10 ms with
 * 4 KiB pages, 0.5 ms with huge ones); the next call goes on.  More only when the last of them is an object larger than a
 * segment, which goes whole.
 * Errors: -EINVAL, -ESTALE, -EOWNERDEAD.
 */
int cxlshm_trim(struct cxlshm_client *client);

/* The slot number: what lists of clients and holders show. */
uint32_t cxlshm_client_id(const struct cxlshm_client *client);

/* The pool handle that the client joined through: the same one, so not to be closed once more. */
struct cxlshm_pool *cxlshm_client_pool(const struct cxlshm_client *client);

struct cxlshm_recovery {
	uint32_t clients;	/* dead clients recovered by this call */
	uint64_t references;	/* references they held, dropped */
	uint64_t objects;	/* objects that went with them */
	uint64_t segments;	/* segments given back or left for adoption */
	uint64_t extents;	/* extent files removed */
	uint64_t duration_ns;
};

/*
 * Recover every client of this pool that died.  Needs no client, runs beside living ones, and may
 * itself be killed at any point.  Joining, and running out of memory, do the same by themselves.
 * recovery may be NULL.  Threads: any, at once; each dead client is recovered by one of them.
 */
int cxlshm_recover(struct cxlshm_pool *pool, struct cxlshm_recovery *recovery);

/*
 * Wait until a client joins or leaves, at most timeout_ns (-1: for ever); *sequence is what the last
 * call gave (start with 0) and becomes the new one.  -ETIMEDOUT, -EINTR.  For monitors that keep a
 * pidfd for each client.
 */
int cxlshm_wait_clients(struct cxlshm_pool *pool, uint32_t *sequence, int64_t timeout_ns);

/* ---------------------------------------------------------------- objects and references */

#define CXLSHM_ZERO 1u	/* all bytes zero; otherwise what an object that this client allocated had in it, which may be bytes
				 * that others, to whom it gave references, wrote there */
#define CXLSHM_PAGE_ALIGNED 2u	/* bytes start on a 4 KiB boundary; otherwise on a 16-byte one */
#define CXLSHM_CELLS 4u	/* the slots are 16-byte cells, not 8-byte reference fields */
#define CXLSHM_EXTENT 8u	/* the bytes are an extent: zero, mappable with cxlshm_map() and, once
				 * the object has a name, as a file; slots must be 0 */

/*
 * Make an object of BYTES payload bytes (0 upwards) and a reference to it.
 * Owns: *ref is the client's.  The object is private to this client until its reference is stored
 * somewhere else.
 * Errors: -ENOSPC, -EINVAL, -EOWNERDEAD.
 */
int cxlshm_alloc(struct cxlshm_client *client, size_t bytes, cxlshm_ref *ref);

/*
 * The same, with SLOTS reference slots at the payload's start (within BYTES, all empty) and flags.
 * Slots are reference fields of 8 bytes, or with CXLSHM_CELLS cells of 16.  The application must not
 * write them but through the calls below: whatever they refer to is counted, and dropped with the object.
 */
int cxlshm_alloc_with(struct cxlshm_client *client, size_t bytes, uint32_t slots, unsigned flags,
		      cxlshm_ref *ref);

/* One more local copy of ref: the same handle, to be released once more.  Touches no shared count.  No limit is
 * checked: the count of copies has 64 bits.  Errors: -EBADF.  Crash: all copies go with the one reference that they are. */
int cxlshm_dup(struct cxlshm_client *client, cxlshm_ref ref);

/* A second, counted reference to the same object.  Errors: -ENOSPC, -EOVERFLOW. */
int cxlshm_attach(struct cxlshm_client *client, cxlshm_ref ref, cxlshm_ref *out);

/* Drop a reference (or one local copy of it).  The object goes with the last one.  0 is allowed. */
int cxlshm_release(struct cxlshm_client *client, cxlshm_ref ref);

/*
 * The object's bytes in this process, or NULL: no reference of this client's, or an object whose bytes
 * are in an extent (use cxlshm_map()).  Valid while the reference is held.
 */
void *cxlshm_ptr(const struct cxlshm_client *client, cxlshm_ref ref);

/* Payload bytes as asked for (of an extent: its present size); a negative errno on failure. */
int64_t cxlshm_size(struct cxlshm_client *client, cxlshm_ref ref);

/* A number that is the object's alone while it lives, the same for all clients; 0 for a bad ref. */
uint64_t cxlshm_id(const struct cxlshm_client *client, cxlshm_ref ref);

enum cxlshm_kind {
	CXLSHM_KIND_NONE = 0,
	CXLSHM_KIND_HEAP,	/* bytes in the heap */
	CXLSHM_KIND_FILE,	/* bytes in an extent */
	CXLSHM_KIND_DIRECTORY,
	CXLSHM_KIND_SYMLINK,
	CXLSHM_KIND_SPECIAL,	/* fifo or socket node */
	CXLSHM_KIND_QUEUE,
	CXLSHM_KIND_NAMED,	/* inode of a heap object that has a name */
	CXLSHM_KIND_INTERNAL	/* inner nodes and entries of directories, xattrs */
};

/* What sort of object it is, which never changes; CXLSHM_KIND_NONE for a bad ref. */
enum cxlshm_kind cxlshm_kind(const struct cxlshm_client *client, cxlshm_ref ref);

/* ---------------------------------------------------------------- reference fields
 *
 * A field is a counted reference inside an object's payload.  The application must keep two clients
 * from using one field at once unless both only load it.  A client that died in a call on a field uses it until it is
 * recovered: who takes over its lock, or its work, calls cxlshm_recover() first.  (Cells need none of this.)
 * holder is a reference to the object it is in.
 * -EINVAL: index out of range, or the object has no fields.
 */

/* A new reference to what the field refers to; *ref = 0 if it is empty. */
int cxlshm_field_load(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index,
		      cxlshm_ref *ref);

/* Make the field refer to what ref refers to (0: nothing); ref stays the caller's.  What the field
 * referred to before is released. */
int cxlshm_field_store(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index,
		       cxlshm_ref ref);

/* Exchange *ref with the field: no count changes.  *ref must have no local copies (-EBUSY). */
int cxlshm_field_swap(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index,
		      cxlshm_ref *ref);

/* ---------------------------------------------------------------- cells
 *
 * A cell is a counted reference that any number of clients may load, swap and compare-and-swap at once,
 * lock-free.  Errors as for fields.
 */

/* A new reference to what the cell refers to; *ref = 0 if it is empty.  Lock-free. */
int cxlshm_cell_load(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index,
		     cxlshm_ref *ref);

/* Make the cell refer to what ref refers to (0: nothing); ref stays the caller's. */
int cxlshm_cell_store(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index,
		      cxlshm_ref ref);

/* Exchange *ref with the cell: no count changes.  *ref must have no local copies (-EBUSY). */
int cxlshm_cell_swap(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index,
		     cxlshm_ref *ref);

/*
 * If the cell refers to the same object as expected (0: is empty), exchange it with *desired.
 * -EAGAIN: it does not, and nothing changed.  *desired must have no local copies (-EBUSY).
 */
int cxlshm_cell_cas(struct cxlshm_client *client, cxlshm_ref holder, uint32_t index,
		    cxlshm_ref expected, cxlshm_ref *desired);

/* ---------------------------------------------------------------- handing over */

/*
 * Put the reference up for one other client to take: *token can be sent by any means.  On success ref
 * is no longer the caller's.  -EAGAIN: too many exports of this client are waiting (64).  -EBUSY: ref
 * has local copies.  Crash: exports not yet imported are dropped with their exporter.
 */
int cxlshm_export(struct cxlshm_client *client, cxlshm_ref ref, uint64_t *token);

/* Take an exported reference; the exporter may take it back this way too.  -ENOENT: taken already, its exporter is gone, or it
 * was never issued.  -EINVAL: no client can have issued that token. */
int cxlshm_import(struct cxlshm_client *client, uint64_t token, cxlshm_ref *ref);

/* ---------------------------------------------------------------- queues
 *
 * A bounded first-in-first-out queue of references; the queue is an object like any other.  With
 * CXLSHM_SPSC one client sends and one receives (the first to do so; when it dies or leaves, the next);
 * otherwise any number do.  A reference in a queue is the queue's: it survives the sender.
 */
#define CXLSHM_SPSC 1u

/*
 * Make an empty queue for capacity references, 1 to 2^20; each takes 16 bytes, at once.  flags: CXLSHM_SPSC or 0.
 * Owns: *queue is the client's; the queue owns what is in it, and drops that when its own last reference goes.
 * Errors: -ENOSPC, -EINVAL capacity or flags.  Crash: there is no queue, for nobody else has a reference to it yet.
 */
int cxlshm_queue_create(struct cxlshm_client *client, uint32_t capacity, unsigned flags,
			cxlshm_ref *queue);

/* Send: on success ref is the queue's.  -EAGAIN: full.  -EBUSY: ref has local copies, or another living
 * client is the sender of an SPSC queue, or a dead one that somebody else is just recovering.  -EINVAL: ref is the queue
 * itself, or queue is none.  Non-blocking.  Crash: it is in the queue, or dropped with the sender. */
int cxlshm_queue_send(struct cxlshm_client *client, cxlshm_ref queue, cxlshm_ref ref);

/* Receive.  -EAGAIN: empty.  -EBUSY: as above, of the receiver.  Crash: it is still in the queue, or dropped with the receiver. */
int cxlshm_queue_receive(struct cxlshm_client *client, cxlshm_ref queue, cxlshm_ref *ref);

/* Send, waiting at most timeout_ns (-1: for ever) for room, and for somebody else's recovery of the role's dead holder.
 * -ETIMEDOUT, with 0 too; -EINTR: a signal was handled in a sleep (one between two sleeps is not told of).  ref is still the
 * caller's then.  Crash: as cxlshm_queue_send(); who is asleep leaves nothing behind. */
int cxlshm_queue_send_wait(struct cxlshm_client *client, cxlshm_ref queue, cxlshm_ref ref,
			   int64_t timeout_ns);

/* Receive, waiting in the same way for a reference; the same errors.  Crash: as cxlshm_queue_receive(). */
int cxlshm_queue_receive_wait(struct cxlshm_client *client, cxlshm_ref queue, cxlshm_ref *ref,
			      int64_t timeout_ns);

/* References in it just now.  What passes through it during the call may count, and a send or receive that is not over (or that
 * its caller died in, until somebody sends or receives again) may count or not. */
int64_t cxlshm_queue_length(struct cxlshm_client *client, cxlshm_ref queue);

/* ---------------------------------------------------------------- names
 *
 * Paths are relative to dir (0: the pool's root directory); components are separated by '/', and a
 * leading '/' is ignored; "" is dir itself, which has no name to be given, changed or removed (-EEXIST, -EISDIR, -EBUSY).
 * "." and ".." are not special to the library: they are refused as names (-EINVAL).  Symbolic links are not followed: one in the middle of a path is -ENOTDIR.
 * Errors: -ENOENT, -ENOTDIR, -EISDIR, -EEXIST, -ENAMETOOLONG (a component over 255 bytes), -ENOSPC.
 * Lookups write nothing to shared memory but the reference they return.
 */
#define CXLSHM_INODE 1u	/* cxlshm_lookup(): of a named heap object, its inode instead of the object */
#define CXLSHM_NOREPLACE 2u	/* cxlshm_rename(): -EEXIST if the new name exists */
#define CXLSHM_EXCHANGE 4u	/* cxlshm_rename(): both exist and change places */

/*
 * A reference to what path names: an inode, or of a named heap object or queue the object (with CXLSHM_INODE, its inode).
 * flags: CXLSHM_INODE or 0.  ref must not be NULL.
 * Owns: *ref is the client's, and holds what it names also when the name goes.
 * Errors: -ENOENT, -ENOTDIR, -EINVAL, -ENAMETOOLONG, -ENOSPC, -EOVERFLOW.  Crash: the name is as it was; the reference goes with
 * the client.
 */
int cxlshm_lookup(struct cxlshm_client *client, cxlshm_ref dir, const char *path, unsigned flags,
		  cxlshm_ref *ref);

/*
 * Give the object a name.  A file, directory-less node, or inode gets a hard link; a heap object or queue
 * gets an inode with mode (permission bits) and the caller's effective user and group.  (An object made with
 * CXLSHM_EXTENT is a file already, of the caller's, with mode 0600: cxlshm_setattr() changes that.)
 * ref stays the caller's.  -EPERM: a directory.  -EINVAL: no object that can have a name.
 */
int cxlshm_link(struct cxlshm_client *client, cxlshm_ref ref, cxlshm_ref dir, const char *path,
		mode_t mode);

/*
 * Make a file object of size_bytes zero bytes, reserved, with an extent, under a name.
 * mode: permission bits.  It belongs to the caller's effective user and group.
 * ref may be NULL.  -EEXIST, -ENOSPC, -EFBIG.  Crash: the file exists whole or not at all.
 */
int cxlshm_create(struct cxlshm_client *client, cxlshm_ref dir, const char *path,
		  uint64_t size_bytes, mode_t mode, cxlshm_ref *ref);

/*
 * Make an empty directory, of the caller's effective user and group; mode: permission bits.
 * ref may be NULL; otherwise *ref is the client's, and holds the directory also when its name goes.
 * Errors: -EEXIST, -ENOENT, -ENOTDIR, -EINVAL, -ENAMETOOLONG, -ENOSPC.  Crash: the directory exists, empty, or not at all.
 */
int cxlshm_mkdir(struct cxlshm_client *client, cxlshm_ref dir, const char *path, mode_t mode,
		 cxlshm_ref *ref);

/* Make a symbolic link to target, 1 to 4095 bytes that are copied and never looked at.  ref, owner, errors and Crash: as
 * cxlshm_mkdir(); the mode is 0777.  -ENAMETOOLONG: target is longer, too.  -EINVAL: it is empty. */
int cxlshm_symlink(struct cxlshm_client *client, const char *target, cxlshm_ref dir,
		   const char *path, cxlshm_ref *ref);

/* A fifo or socket node: mode carries S_IFIFO or S_IFSOCK (else -EINVAL).  ref, owner, errors and Crash: as cxlshm_mkdir(). */
int cxlshm_mknod(struct cxlshm_client *client, cxlshm_ref dir, const char *path, mode_t mode,
		 cxlshm_ref *ref);

/* The link's target, NUL-terminated and cut to size; returns its whole length (which may be more) or a negative errno. */
int64_t cxlshm_readlink(struct cxlshm_client *client, cxlshm_ref ref, char *target, size_t size);

/* Remove a name that is not a directory's (-EISDIR); the object lives as long as it is referred to. */
int cxlshm_unlink(struct cxlshm_client *client, cxlshm_ref dir, const char *path);

/*
 * Remove an empty directory.  -ENOTEMPTY: it is not, or for some milliseconds, in which this was tried, another client has been
 * in the middle of adding a name there, or of taking one out; one that was stopped there is so until it goes on, or dies.
 */
int cxlshm_rmdir(struct cxlshm_client *client, cxlshm_ref dir, const char *path);

/*
 * Rename, by default replacing what the new name named (as rename(2): -ENOTEMPTY, -EISDIR, -ENOTDIR).
 * While it runs both names may show, never neither.  -EINVAL: a directory into itself.  -EBUSY: an empty path.
 * With CXLSHM_EXCHANGE both names show for a moment what the old one named.  If others remove, replace or
 * rename both in that moment, what the new one named keeps a name: the old one if it is free, else the new
 * one if it is, else, in the new one's directory, the new one (cut to fit) + "." + cxlshm_id() in
 * hexadecimal (+ "." + a number if need be).
 * An empty directory that is to be replaced takes no new names meanwhile (-ENOENT), also if it is not replaced in the end;
 * whether it is empty is as for cxlshm_rmdir().
 * Threads: renaming a directory waits for another such rename, if its caller lives, or whoever is just recovering that.
 * Crash: completed by recovery once the new name shows, or taken back if the old one was taken meanwhile.  Recovery has no
 * memory to make room for a name with: of the three above it may pass over one that is free.
 */
int cxlshm_rename(struct cxlshm_client *client, cxlshm_ref old_dir, const char *old_path,
		  cxlshm_ref new_dir, const char *new_path, unsigned flags);

struct cxlshm_dirent {
	uint64_t id;	/* as in struct cxlshm_stat */
	uint64_t position;	/* pass it to go on behind this entry */
	uint32_t kind;	/* enum cxlshm_kind */
	uint32_t mode;	/* with the S_IFMT bits */
	char name[CXLSHM_NAME_MAX + 1];
};

/*
 * The next entry behind *position (0: from the start), which moves on.  -ENOENT: no more.
 * An entry there from start to end of a listing is listed exactly once, whatever changes meanwhile.
 * ref may be NULL; otherwise it gets a reference to the entry's inode.
 */
int cxlshm_readdir(struct cxlshm_client *client, cxlshm_ref dir, uint64_t *position,
		   struct cxlshm_dirent *entry, cxlshm_ref *ref);

/* ---------------------------------------------------------------- attributes
 *
 * Of files, directories, symlinks, special nodes and inodes of named heap objects; for other objects
 * cxlshm_stat() fills in what there is, and the rest gives -EINVAL.
 */
struct cxlshm_stat {
	uint64_t id;	/* as cxlshm_id(); the inode number */
	uint32_t kind;	/* enum cxlshm_kind */
	uint32_t mode;	/* with the S_IFMT bits */
	uid_t uid;
	gid_t gid;
	uint64_t links;	/* names */
	uint64_t size_bytes;	/* of a directory: its entries */
	uint64_t used_bytes;	/* reserved for its bytes */
	uint64_t refs;	/* references of all kinds, this call's own included */
	uint64_t data_id;	/* of a named heap object's inode: the object's id; else id */
	struct timespec atime, mtime, ctime, btime;
};

/* Fill in *st.  Each field is true of some moment in the call.  Errors: -EINVAL; of a file, as stat(2) of its extent too.
 * Crash: it writes nothing shared. */
int cxlshm_stat(struct cxlshm_client *client, cxlshm_ref ref, struct cxlshm_stat *st);

#define CXLSHM_SET_MODE 1u
#define CXLSHM_SET_UID 2u
#define CXLSHM_SET_GID 4u
#define CXLSHM_SET_ATIME 8u
#define CXLSHM_SET_MTIME 16u
#define CXLSHM_SET_CTIME 32u

/* Set the attributes named in mask from st.  Each one changes by itself; ctime moves to now unless
 * CXLSHM_SET_CTIME gives it.  Times outside the years 1678 to 2261 become the nearest one inside.  A file object's atime and
 * mtime are its extent's: others than the user who made that need CAP_FOWNER, or get -EPERM or -EACCES, also in a pool that
 * its group may write.
 * Crash: some of them are set. */
int cxlshm_setattr(struct cxlshm_client *client, cxlshm_ref ref, const struct cxlshm_stat *st,
		   unsigned mask);

/*
 * Extended attributes.  All of one object's are exchanged at once: who reads finds them as they were or as they became, and
 * of two that set one the last wins.  name: 1 to 255 bytes (-ERANGE), in any namespace.  -EINVAL: an object that has none.
 *
 * Copy the value, of size bytes at most, without a NUL; its length in bytes.  size 0: the length only, value may be NULL.
 * Errors: -ENODATA; -ERANGE: it is longer than size; -ENOSPC: no room for a reference meanwhile.  Crash: they are as they were.
 */
int64_t cxlshm_getxattr(struct cxlshm_client *client, cxlshm_ref ref, const char *name, void *value,
			size_t size);

/* Set it to size bytes of value (NULL with 0).  flags: XATTR_CREATE (-EEXIST) or XATTR_REPLACE (-ENODATA) of
 * <sys/xattr.h>, or 0.  Those of one object take 64 KiB together, names and all: -ENOSPC beyond; -E2BIG: the value alone is
 * longer.  Crash: the old value or the new one (and then ctime may be the old one). */
int cxlshm_setxattr(struct cxlshm_client *client, cxlshm_ref ref, const char *name,
		    const void *value, size_t size, int flags);

/* Copy the names, each with its NUL, one behind the other; their bytes in all.  size 0: those only, list may be NULL.
 * Errors: -ERANGE: they are more than size, and list holds some of them; -ENOSPC.  Crash: they are as they were. */
int64_t cxlshm_listxattr(struct cxlshm_client *client, cxlshm_ref ref, char *list, size_t size);

/* Remove it.  Errors: -ENODATA, -ENOSPC.  Crash: as cxlshm_setxattr(): it is there or not. */
int cxlshm_removexattr(struct cxlshm_client *client, cxlshm_ref ref, const char *name);

/* Of a named heap object's inode: a reference to the object itself. */
int cxlshm_named_object(struct cxlshm_client *client, cxlshm_ref inode, cxlshm_ref *ref);

/* ---------------------------------------------------------------- extents */

/*
 * Set a file object's size in bytes; growing reserves them (not with CXLSHM_SPARSE) and zeroes them.  Mappings of what is cut
 * off are SIGBUS from then on.
 * Errors: -ENOSPC (the size is as it was), -EINVAL no file, -EFBIG; as open(2) of its extent.
 * Crash: the old size or the new one.  With the old one, memory may be reserved behind the end until it is cut or goes.
 */
int cxlshm_resize(struct cxlshm_client *client, cxlshm_ref ref, uint64_t size_bytes);

/*
 * fallocate(2) on a file object: mode is 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE (with or without KEEP_SIZE) or
 * FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE.  -ENOSPC, -EINVAL, -EFBIG; -EOPNOTSUPP: any other mode.
 * Zeroing a range reserves it first, and gives up nothing that is reserved.  Crash: any part of it is done.
 */
int cxlshm_reserve(struct cxlshm_client *client, cxlshm_ref ref, int mode, uint64_t offset,
		   uint64_t length);

/*
 * Map length bytes from offset (a multiple of 4096) of a file object: the mapping is the shared memory.
 * prot as for mmap(2).  The mapping holds a reference of its own, until cxlshm_unmap() or death.
 * The range may end, or lie, behind the file's end: what is there is SIGBUS until the file grows.
 * Errors: -EINVAL offset or length 0; -EOVERFLOW they end beyond what an offset can be; -ENOMEM no room in the address space;
 * -EACCES; -ENOSPC no row for the reference.
 */
int cxlshm_map(struct cxlshm_client *client, cxlshm_ref ref, uint64_t offset, size_t length,
	       int prot, void **address);

/*
 * Undo one cxlshm_map(), whole, by the address it gave, and drop the mapping's reference.  -EINVAL: it is none of this
 * client's, or was undone.  After -ESTALE, and in the child of a fork(), it unmaps, too, and answers 0.
 * Crash: the mapping goes with the process, its reference with the client.
 */
int cxlshm_unmap(struct cxlshm_client *client, void *address);

/* A descriptor of the extent, opened with open flags (O_RDONLY, O_RDWR, ... | O_CLOEXEC implied), the
 * caller's to close; or a negative errno.  It holds no reference: keep one. */
int cxlshm_extent_open(struct cxlshm_client *client, cxlshm_ref ref, int flags);

/*
 * 1 if any process maps the extent or has a descriptor of it open (or asks this very question), else 0; or a negative
 * errno.  -EACCES: others than the user who made the file need CAP_LEASE, also in a pool that its group may write.
 * Threads: it waits for nobody, but takes a lease (fcntl(2), F_SETLEASE) and gives it back: who opens the file in between, as
 * cxlshm_map(), _resize() and _reserve() do, waits for that, and if this caller was stopped just there (a death ends it), for as
 * long as /proc/sys/fs/lease-break-time says, 45 s.
 */
int cxlshm_extent_busy(struct cxlshm_client *client, cxlshm_ref ref);

/*
 * With failure_domain=host: write the cache lines of [address, address + bytes) back to memory and wait, so that what
 * was stored there (in an object, or in a mapping of an extent) outlives this machine.  Do so before handing the object
 * on.  With failure_domain=process: nothing.
 */
void cxlshm_write_back(struct cxlshm_pool *pool, const void *address, size_t bytes);

/* ---------------------------------------------------------------- looking inside
 *
 * These take no references and disturb nobody; what they show may be a moment old.
 */
struct cxlshm_client_info {
	uint32_t id;
	uint32_t alive;	/* 1: holds its slot's lock; 0: dead, not yet recovered */
	int64_t pid;
	char name[CXLSHM_CLIENT_NAME_MAX + 1];
	uint64_t joined_ns;	/* CLOCK_REALTIME */
	uint64_t era;
	uint64_t references;
	uint64_t segments;
	uint64_t allocations, frees, attaches;	/* since it joined */
	uint64_t recoveries;	/* dead clients that it recovered, as it joined and since; those of cxlshm_recover(), which
				 * has no client, are in struct cxlshm_counters only */
};

/* Call back for each client; a non-zero answer ends the walk and is returned. */
int cxlshm_each_client(struct cxlshm_pool *pool,
		       int (*visit)(void *arg, const struct cxlshm_client_info *info), void *arg);

struct cxlshm_object_info {
	uint64_t id;
	enum cxlshm_kind kind;
	uint64_t size_bytes;
	uint32_t refs;
	uint32_t slots;	/* reference fields or cells */
	uint32_t exposed;
	uint32_t segment;
};

/*
 * Call back for each live object, those inside directories too; a non-zero answer ends the walk and is returned.  info is
 * valid during the callback only.  What is made or dropped meanwhile may be shown or not.  Reads every segment that is in
 * use: for people.  Errors: -EINVAL, -EOWNERDEAD, -ENOMEM; as pread(2).  Crash: it writes nothing shared.
 */
int cxlshm_each_object(struct cxlshm_pool *pool,
		       int (*visit)(void *arg, const struct cxlshm_object_info *info), void *arg);

/* One object by its id.  -ENOENT. */
int cxlshm_object_info(struct cxlshm_pool *pool, uint64_t id, struct cxlshm_object_info *info);

struct cxlshm_holder {
	uint32_t client;	/* slot number; UINT32_MAX: not a client */
	uint64_t object;	/* id of the object whose field or cell refers; 0: a client does */
	uint64_t references;	/* how many */
};

/* Who refers to object ID.  Reads the whole pool: for people, not for programs in a hurry. */
int cxlshm_each_holder(struct cxlshm_pool *pool, uint64_t id,
		       int (*visit)(void *arg, const struct cxlshm_holder *holder), void *arg);

/* Root references of living clients on object ID only: cheaper, proportional to references held. */
int cxlshm_each_client_holder(struct cxlshm_pool *pool, uint64_t id,
			      int (*visit)(void *arg, const struct cxlshm_holder *holder), void *arg);

struct cxlshm_counters {
	uint64_t allocations, frees, attaches;	/* of clients present and gone */
	uint64_t clients_recovered;
	uint64_t references_recovered;
	uint32_t clients;
	uint32_t segments_free, segments_owned, segments_orphaned, segments_span;
	uint64_t extents;
	uint64_t extent_bytes;	/* reserved */
};

/* Looks at each client's slot, each segment's word and each extent. */
int cxlshm_counters(struct cxlshm_pool *pool, struct cxlshm_counters *counters);

/* ---------------------------------------------------------------- checking */

#define CXLSHM_CHECK_REPAIR 1u	/* rebuild counts, free what nothing refers to, collect cycles */
#define CXLSHM_CHECK_VERBOSE 2u	/* report what is fine, too */

struct cxlshm_check_result {
	uint64_t problems;	/* found */
	uint64_t repaired;	/* of them */
	uint64_t objects, references, segments, extents;	/* looked at */
};

/*
 * Walk every invariant of the pool in PATH: each count against the references found, every list,
 * every extent.  No client may be joined (-EBUSY); dead ones are recovered first with REPAIR and
 * reported without.  report gets one line for each finding (severity 0: note, 1: problem, 2: repaired).
 * Errors: as cxlshm_pool_open() when it cannot be read at all; otherwise 0, and see result.
 */
int cxlshm_check(const char *path, unsigned flags,
		 void (*report)(void *arg, int severity, const char *line), void *arg,
		 struct cxlshm_check_result *result, struct cxlshm_error *error);

#ifdef __cplusplus
}
#endif
#endif
