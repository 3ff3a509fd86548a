/* SPDX-License-Identifier: MIT */
/*
 * What the neighbour does while the other client is stopped.
 *
 * Each call gets with it what it may answer (enum reason of wait.h).  Of his own objects, names and queues that is FINE.  Of
 * those that he shares with the stopped one it depends on how far that one came, so he looks right before: names in a
 * listing, the roles of the one-to-one queue in its own words.  Nobody moves in between but he himself.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "names.h"
#include "queue.h"
#include "wait.h"

#define LIST_MAX 128
#define CHILD_S 10
#define SHORT_NS 1000000	/* of calls that may wait: longer than the polling that they begin with */

/* ---- the clients ---- */

static int open_and_close(struct stage *s)
{
	struct cxlshm_pool *pool;
	int rc = cxlshm_pool_open(((struct pool *)s->pool)->path, 0, &pool, NULL);

	if (!rc)
		cxlshm_pool_close(pool);
	return rc;
}

/* A client of a process that ends without leaving, or, should it wait, is ended. */
static int join_and_die(struct stage *s)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct cxlshm_client *c;
		struct cxlshm_pool *pool;
		cxlshm_ref ref;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(CHILD_S);
		if (cxlshm_pool_open(((struct pool *)s->pool)->path, 0, &pool, NULL) ||
		    cxlshm_join(pool, "dying", 0, &c) || cxlshm_alloc(c, 40, &ref))
			_exit(1);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -ECHILD;
}

static int recover_one_that_died(struct stage *s)
{
	struct cxlshm_recovery recovery;
	int rc = cxlshm_recover(s->pool, &recovery);

	return rc || recovery.clients ? rc : -EOWNERDEAD;
}

static int is_alive(void *arg, const struct cxlshm_client_info *info)
{
	(void)arg;
	return info->alive ? 0 : -EOWNERDEAD;
}

static void clients(struct stage *s)
{
	struct cxlshm_client *c = NULL;
	int died;

	CALL(pool_open, "", FINE, open_and_close(s));
	died = join_and_die(s);	/* to make a process takes longer than any call, and is none */
	CALL(join, "one that dies", FINE, died);
	CALL(recover, "one that died", FINE, recover_one_that_died(s));
	CALL(each_client, "whether all live", FINE, cxlshm_each_client(s->pool, is_alive, NULL));
	CALL(join, "", FINE, cxlshm_join(s->pool, "another", 0, &c));
	CALL(leave, "", FINE, cxlshm_leave(c));
}

/* ---- objects ---- */

static void memory(struct cxlshm_client *n)
{
	cxlshm_ref ref = 0, extent = 0;
	void *address;

	CALL(alloc, "3000 bytes", FINE, cxlshm_alloc(n, 3000, &ref));
	CALL(dup, "", FINE, cxlshm_dup(n, ref));
	CALL(release, "a copy", FINE, cxlshm_release(n, ref));
	CALL(release, "3000 bytes", FINE, cxlshm_release(n, ref));
	CALL(alloc, "a span", FINE, cxlshm_alloc(n, 500000, &ref));
	CALL(release, "a span", FINE, cxlshm_release(n, ref));
	CALL(alloc_with, "an extent", FINE, cxlshm_alloc_with(n, 5000, 0, CXLSHM_EXTENT, &extent));
	CALL(map, "an extent", FINE, cxlshm_map(n, extent, 0, 5000, PROT_READ, &address));
	CALL(unmap, "an extent", FINE, cxlshm_unmap(n, address));
	CALL(release, "an extent", FINE, cxlshm_release(n, extent));
	CALL(trim, "", FINE, cxlshm_trim(n));
}

static void references(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref = 0, holder = 0;
	uint64_t token = 0;

	CALL(attach, "what all have", FINE, cxlshm_attach(n, s->held[SHARED], &ref));
	CALL(export, "", FINE, cxlshm_export(n, ref, &token));
	CALL(import, "", FINE, cxlshm_import(n, token, &ref));
	/* Fields are one client's at a time, so these are his own; what they refer to is not. */
	CALL(alloc_with, "two fields", FINE, cxlshm_alloc_with(n, 32, 2, CXLSHM_ZERO, &holder));
	CALL(field_store, "", FINE, cxlshm_field_store(n, holder, 0, s->held[SHARED]));
	CALL(field_swap, "", FINE, cxlshm_field_swap(n, holder, 0, &ref));
	CALL(release, "", FINE, cxlshm_release(n, ref));
	CALL(field_load, "", FINE, cxlshm_field_load(n, holder, 0, &ref));
	CALL(release, "", FINE, cxlshm_release(n, ref));
	CALL(release, "with fields", FINE, cxlshm_release(n, holder));
	for (uint32_t i = 0; i < 2; i++) {
		CALL(cell_load, "", FINE, cxlshm_cell_load(n, s->held[HOLDER], i, &ref));
		CALL(release, "", FINE, cxlshm_release(n, ref));
		CALL(cell_store, "", FINE, cxlshm_cell_store(n, s->held[HOLDER], i, s->held[PLAIN]));
		ref = 0;
		CALL(cell_swap, "", FINE, cxlshm_cell_swap(n, s->held[HOLDER], i, &ref));
		CALL(release, "", FINE, cxlshm_release(n, ref));
		ref = 0;
		CALL(cell_cas, "", FINE, cxlshm_cell_cas(n, s->held[HOLDER], i, 0, &ref));
	}
}

/* ---- queues ---- */

static int send(struct cxlshm_client *n, cxlshm_ref queue, int64_t wait_ns)
{
	cxlshm_ref ref;
	int rc = cxlshm_alloc(n, 40, &ref);

	if (rc)
		return rc;
	rc = wait_ns ? cxlshm_queue_send_wait(n, queue, ref, wait_ns) : cxlshm_queue_send(n, queue, ref);
	if (rc)
		cxlshm_release(n, ref);
	return rc;
}

static int receive(struct cxlshm_client *n, cxlshm_ref queue, int64_t wait_ns)
{
	cxlshm_ref ref;
	int rc = wait_ns ? cxlshm_queue_receive_wait(n, queue, &ref, wait_ns) : cxlshm_queue_receive(n, queue, &ref);

	return rc ? rc : cxlshm_release(n, ref);
}

/* An empty queue of so many places: as many can be sent, and no more, and received, and no more. */
static void fill_and_empty(struct cxlshm_client *n, const char *what, cxlshm_ref queue, int places)
{
	for (int i = 1; i < places; i++)
		CALL(queue_send, what, FINE, send(n, queue, 0));
	CALL(queue_send_wait, what, FINE, send(n, queue, SHORT_NS));
	CALL(queue_send, what, FULL, send(n, queue, 0));
	CALL(queue_send_wait, what, LATE, send(n, queue, SHORT_NS));
	for (int i = 1; i < places; i++)
		CALL(queue_receive, what, FINE, receive(n, queue, 0));
	CALL(queue_receive_wait, what, FINE, receive(n, queue, SHORT_NS));
	CALL(queue_receive, what, EMPTY, receive(n, queue, 0));
	CALL(queue_receive_wait, what, LATE, receive(n, queue, SHORT_NS));
}

/* Any to any.  How much the stopped one and those before it put there is not known, but that as much can be taken out. */
static void any_queue(struct cxlshm_client *n, cxlshm_ref queue)
{
	for (int i = 0; i < QUEUE_PLACES; i++)
		CALL(queue_send, "any to any", MAYBE_FULL, send(n, queue, 0));
	for (int i = 0; i < QUEUE_PLACES; i++)
		CALL(queue_receive, "any to any", FINE, receive(n, queue, 0));
	CALL(queue_receive, "any to any", EMPTY, receive(n, queue, 0));
	fill_and_empty(n, "any to any", queue, QUEUE_PLACES);
}

enum role { FREE, LIVING, BEING_RECOVERED };

/* Whose role is it, by the queue's own word?  That of one who is dead and whom nobody recovers is free to be taken. */
static enum role role_of(struct stage *s, enum queue_side side)
{
	struct client *n = (struct client *)s->neighbour;
	struct root_fmt *row = root_of(n, s->held[SPSC]);
	struct queue queue;
	uint64_t value;
	uint32_t cid;

	REQUIRE(row);
	MUST(queue_at(n->pool, a64_load_relaxed(&row->object), &queue));
	value = a128_load_acquire(side == QUEUE_SENDER ? &queue.q->sender : &queue.q->receiver).value;
	cid = (uint32_t)(value & 0xfff);
	if (!cid || cid == n->cid || !client_claimed(n->pool, cid) ||
	    client_incarnation(n->pool, cid) != value >> 12 || !client_alive(n->pool, cid))
		return FREE;
	return a64_load_acquire(&pool_slot(n->pool, cid)->taken_over) ? BEING_RECOVERED : LIVING;
}

/* One to one.  Without the sender's role there may be nothing to receive. */
static void one_queue(struct stage *s)
{
	static const enum reason now[] = {FINE, ROLE, HEIR}, later[] = {FINE, ROLE, HEIR_LATE};
	struct cxlshm_client *n = s->neighbour;
	enum role sender = role_of(s, QUEUE_SENDER), receiver;
	cxlshm_ref queue = s->held[SPSC], own = 0;
	int sent;

	sent = !CALL(queue_send, "one to one", now[sender], send(n, queue, 0));
	sent = !CALL(queue_send_wait, "one to one", later[sender], send(n, queue, SHORT_NS)) && sent;
	receiver = role_of(s, QUEUE_RECEIVER);
	CALL(queue_receive, "one to one", receiver || sent ? now[receiver] : MAYBE_EMPTY, receive(n, queue, 0));
	CALL(queue_receive_wait, "one to one", receiver || sent ? later[receiver] : MAYBE_LATE,
	     receive(n, queue, SHORT_NS));
	CALL(queue_create, "", FINE, cxlshm_queue_create(n, 2, CXLSHM_SPSC, &own));
	fill_and_empty(n, "his own", own, 2);
	CALL(release, "a queue", FINE, cxlshm_release(n, own));
}

/* ---- files and attributes ---- */

static void xattrs(struct cxlshm_client *n, const char *what, cxlshm_ref ref)
{
	char text[64];

	/* Set by the stopped one, too. */
	CALL(setxattr, what, FINE, cxlshm_setxattr(n, ref, "user.x", "own", 3, 0));
	CALL(getxattr, what, FINE, cxlshm_getxattr(n, ref, "user.x", text, sizeof(text)));
	CALL(listxattr, what, FINE, cxlshm_listxattr(n, ref, text, sizeof(text)));
	CALL(removexattr, what, FINE, cxlshm_removexattr(n, ref, "user.x"));
	CALL(getxattr, what, NO_ATTR, cxlshm_getxattr(n, ref, "user.x", text, sizeof(text)));
}

/* The file that the stopped one may be working on just now. */
static void file(struct cxlshm_client *n)
{
	const struct cxlshm_stat now = {.mode = 0600, .atime = {1, 0}, .mtime = {2, 0}};
	struct cxlshm_stat st;
	void *address = NULL;
	cxlshm_ref f = 0;
	int64_t fd;

	CALL(lookup, "f", FINE, cxlshm_lookup(n, 0, "f", 0, &f));
	CALL(stat, "f", FINE, cxlshm_stat(n, f, &st));
	CALL(map, "f", FINE, cxlshm_map(n, f, 0, 8192, PROT_READ | PROT_WRITE, &address));
	if (address)
		*((volatile char *)address + 4096) = 1;
	CALL(extent_busy, "f", FINE, cxlshm_extent_busy(n, f));
	CALL(unmap, "f", FINE, cxlshm_unmap(n, address));
	fd = CALL(extent_open, "f", FINE, cxlshm_extent_open(n, f, O_RDONLY));
	if (fd >= 0)
		close((int)fd);
	CALL(resize, "f", FINE, cxlshm_resize(n, f, 4096));
	CALL(reserve, "f", FINE, cxlshm_reserve(n, f, 0, 0, 12288));
	CALL(reserve, "zeros in f", FINE, cxlshm_reserve(n, f, FALLOC_FL_ZERO_RANGE, 100, 12000));
	CALL(setattr, "f", FINE, cxlshm_setattr(n, f, &now, CXLSHM_SET_MODE | CXLSHM_SET_ATIME | CXLSHM_SET_MTIME));
	xattrs(n, "f", f);
	CALL(link, "f", FINE, cxlshm_link(n, f, 0, "own-f", 0));
	CALL(unlink, "own-f", FINE, cxlshm_unlink(n, 0, "own-f"));
	CALL(release, "f", FINE, cxlshm_release(n, f));
}

/* ---- names ---- */

struct list {
	uint32_t n;
	struct cxlshm_dirent entry[LIST_MAX];
};

static int list_all(struct cxlshm_client *n, cxlshm_ref dir, struct list *l)
{
	uint64_t position = 0;
	int rc;

	l->n = 0;
	while (!(rc = cxlshm_readdir(n, dir, &position, &l->entry[l->n], NULL)))
		if (++l->n == LIST_MAX)
			return -E2BIG;
	return rc == -ENOENT ? 0 : rc;
}

static const struct list *list(struct cxlshm_client *n, cxlshm_ref dir)
{
	static struct list l;

	CALL(readdir, "", FINE, list_all(n, dir, &l));
	return &l;
}

static int listed(struct cxlshm_client *n, cxlshm_ref dir, const char *name)
{
	const struct list *l = list(n, dir);

	for (uint32_t i = 0; i < l->n; i++)
		if (!strcmp(l->entry[i].name, name))
			return 1;
	return 0;
}

static uint64_t count_of(struct client *n, cxlshm_ref dir)
{
	struct root_fmt *row = root_of(n, dir);
	struct attr_fmt *attr = row ? inode_attr(n, a64_load_relaxed(&row->object), NULL) : NULL;

	REQUIRE(attr);
	return a128_load_acquire(&attr->entries).value;
}

/* Has d been removed by the stopped one?  In the middle of an exchange it shows nowhere, but is not. */
static int is_removed(struct stage *s)
{
	const struct list *l = list(s->neighbour, 0);

	for (uint32_t i = 0; i < l->n; i++)
		if (l->entry[i].id == cxlshm_id(s->neighbour, s->held[DIRECTORY]))
			return 0;
	return count_of((struct client *)s->neighbour, s->held[DIRECTORY]) == COUNTER_REMOVED;
}

/* What there is to say to a new name; dir is d, or 0. */
static enum reason to_add(struct stage *s, cxlshm_ref dir, const char *name)
{
	if (listed(s->neighbour, dir, name))
		return TAKEN;
	return dir && is_removed(s) ? REMOVED : FINE;
}

static enum reason to_find(struct stage *s, cxlshm_ref dir, const char *name)
{
	return listed(s->neighbour, dir, name) ? FINE : ABSENT;
}

static enum reason to_rename(struct stage *s, const char *from, cxlshm_ref to_dir)
{
	if (!listed(s->neighbour, 0, from))
		return ABSENT;
	return to_dir && is_removed(s) ? REMOVED : FINE;
}

/* The directory in the root.  One that is itself renamed, or to be replaced, counts one entry more than it has. */
static enum reason of_directory(struct stage *s, const char *name, int adding)
{
	struct cxlshm_client *n = s->neighbour;
	enum reason reason = FINE;
	cxlshm_ref dir = 0;
	uint64_t count;

	if (!listed(n, 0, name))
		return ABSENT;
	CALL(lookup, name, FINE, cxlshm_lookup(n, 0, name, 0, &dir));
	count = count_of((struct client *)n, dir);
	if (adding && count == (COUNTER_REMOVED | 1))
		reason = REPLACED;
	else if (!adding && list(n, dir)->n)
		reason = NOT_EMPTY;
	else if (!adding && count && s->scenario->moves)
		reason = MOVING;
	else if (!adding && count)
		reason = CHANGING;
	CALL(release, name, FINE, cxlshm_release(n, dir));
	return reason;
}

static void look_up(struct stage *s, cxlshm_ref dir, const char *name)
{
	enum reason reason = to_find(s, dir, name);
	cxlshm_ref ref = 0;

	CALL(lookup, name, reason, cxlshm_lookup(s->neighbour, dir, name, CXLSHM_INODE, &ref));
	CALL(release, name, FINE, cxlshm_release(s->neighbour, ref));
}

static void add_and_remove(struct stage *s, cxlshm_ref dir, const char *name)
{
	enum reason reason = to_add(s, dir, name);

	CALL(mknod, name, reason, cxlshm_mknod(s->neighbour, dir, name, S_IFIFO | 0600, NULL));
	reason = to_find(s, dir, name);
	CALL(unlink, name, reason, cxlshm_unlink(s->neighbour, dir, name));
}

/* Names that the stopped one has nothing to do with, beside its own. */
static void own_names(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref ref = 0, data = 0;
	char text[16];

	CALL(mknod, "own", FINE, cxlshm_mknod(n, 0, "own", S_IFIFO | 0600, &ref));
	xattrs(n, "own", ref);
	CALL(link, "own", FINE, cxlshm_link(n, ref, 0, "own-2", 0));
	CALL(release, "own", FINE, cxlshm_release(n, ref));
	CALL(rename, "own", FINE, cxlshm_rename(n, 0, "own", 0, "own-3", 0));
	CALL(create, "own", FINE, cxlshm_create(n, 0, "own", 4096, 0600, NULL));
	CALL(exchange, "own", FINE, cxlshm_rename(n, 0, "own", 0, "own-2", CXLSHM_EXCHANGE));
	CALL(unlink, "own", FINE, cxlshm_unlink(n, 0, "own"));
	CALL(unlink, "own-2", FINE, cxlshm_unlink(n, 0, "own-2"));
	CALL(unlink, "own-3", FINE, cxlshm_unlink(n, 0, "own-3"));
	CALL(symlink, "own", FINE, cxlshm_symlink(n, "target", 0, "own", &ref));
	CALL(readlink, "own", FINE, cxlshm_readlink(n, ref, text, sizeof(text)));
	CALL(release, "own", FINE, cxlshm_release(n, ref));
	CALL(unlink, "own", FINE, cxlshm_unlink(n, 0, "own"));
	/* What all have gets an inode of its own. */
	CALL(link, "an object", FINE, cxlshm_link(n, s->held[PLAIN], 0, "own", 0600));
	CALL(lookup, "own", FINE, cxlshm_lookup(n, 0, "own", CXLSHM_INODE, &ref));
	CALL(named_object, "own", FINE, cxlshm_named_object(n, ref, &data));
	CALL(release, "own", FINE, cxlshm_release(n, ref));
	CALL(release, "an object", FINE, cxlshm_release(n, data));
	CALL(unlink, "own", FINE, cxlshm_unlink(n, 0, "own"));
	CALL(mkdir, "own", FINE, cxlshm_mkdir(n, 0, "own", 0700, NULL));
	CALL(mknod, "own/n", FINE, cxlshm_mknod(n, 0, "own/n", S_IFIFO | 0600, NULL));
	CALL(unlink, "own/n", FINE, cxlshm_unlink(n, 0, "own/n"));
	/* The documented exception: where others rename directories, too, he would wait for them. */
	if (!s->scenario->moves) {
		CALL(rename, "a directory", FINE, cxlshm_rename(n, 0, "own", 0, "own-2", 0));
		CALL(mkdir, "own", FINE, cxlshm_mkdir(n, 0, "own", 0700, NULL));
		CALL(exchange, "directories", FINE, cxlshm_rename(n, 0, "own", 0, "own-2", CXLSHM_EXCHANGE));
		CALL(rmdir, "own-2", FINE, cxlshm_rmdir(n, 0, "own-2"));
	}
	CALL(rmdir, "own", FINE, cxlshm_rmdir(n, 0, "own"));
}

/* Names that the stopped one may be working on just now. */
static void shared_names(struct stage *s)
{
	static const char *const theirs[] = {"a",  "b1", "b2", "b3", "b4", "b5", "b6", "d", "e",
					     "g",  "h",	 "f",  "n1", "v",  "w",	 "x",  "y"};
	static const char *const in_d[] = {"linked", "named", "s", "moved", "g", "w"};
	static const char *const go[] = {"n1", "a", "v", "x", "y"};
	struct cxlshm_client *n = s->neighbour;
	cxlshm_ref d = s->held[DIRECTORY], ref = 0;
	enum reason reason;

	for (size_t i = 0; i < sizeof(theirs) / sizeof(*theirs); i++)
		look_up(s, 0, theirs[i]);
	for (size_t i = 0; i < sizeof(in_d) / sizeof(*in_d); i++)
		look_up(s, d, in_d[i]);
	reason = to_find(s, 0, "b1");
	CALL(lookup, "b1", reason, cxlshm_lookup(n, 0, "b1", 0, &ref));
	if (ref) {
		xattrs(n, "b1", ref);
		reason = to_add(s, d, "linked");
		CALL(link, "linked in d", reason, cxlshm_link(n, ref, d, "linked", 0));
		CALL(release, "b1", FINE, cxlshm_release(n, ref));
	}
	reason = to_add(s, d, "s");
	CALL(symlink, "s in d", reason, cxlshm_symlink(n, "own", d, "s", NULL));
	add_and_remove(s, d, "own");
	reason = to_rename(s, "b3", 0);
	CALL(rename, "b3", reason, cxlshm_rename(n, 0, "b3", 0, "own", 0));
	reason = to_rename(s, "own", d);
	CALL(rename, "own into d", reason, cxlshm_rename(n, 0, "own", d, "own", 0));
	reason = to_rename(s, "b5", 0) == FINE ? to_find(s, 0, "b6") : ABSENT;
	CALL(exchange, "b5 and b6", reason, cxlshm_rename(n, 0, "b5", 0, "b6", CXLSHM_EXCHANGE));
	CALL(mknod, "own", FINE, cxlshm_mknod(n, 0, "own-2", S_IFIFO | 0600, NULL));
	CALL(rename, "over b6", FINE, cxlshm_rename(n, 0, "own-2", 0, "b6", 0));
	for (size_t i = 0; i < sizeof(go) / sizeof(*go); i++) {
		reason = to_find(s, 0, go[i]);
		CALL(unlink, go[i], reason, cxlshm_unlink(n, 0, go[i]));
		add_and_remove(s, 0, go[i]);
	}
}

/* Take away what is listed in d. */
static void empty_d(struct stage *s)
{
	const struct list entries = *list(s->neighbour, s->held[DIRECTORY]);

	for (uint32_t i = 0; i < entries.n; i++) {
		const struct cxlshm_dirent *e = &entries.entry[i];

		if (e->kind == CXLSHM_KIND_DIRECTORY)
			CALL(rmdir, e->name, FINE, cxlshm_rmdir(s->neighbour, s->held[DIRECTORY], e->name));
		else
			CALL(unlink, e->name, FINE, cxlshm_unlink(s->neighbour, s->held[DIRECTORY], e->name));
	}
}

/* Directories that the stopped one may be working on just now. */
static void shared_directories(struct stage *s)
{
	struct cxlshm_client *n = s->neighbour;
	enum reason reason = to_add(s, 0, "e");

	CALL(mkdir, "e", reason, cxlshm_mkdir(n, 0, "e", 0700, NULL));
	reason = of_directory(s, "e", 1);
	if (!CALL(mknod, "e/n", reason, cxlshm_mknod(n, 0, "e/n", S_IFIFO | 0600, NULL)))
		CALL(unlink, "e/n", FINE, cxlshm_unlink(n, 0, "e/n"));
	reason = of_directory(s, "e", 0);
	CALL(rmdir, "e", reason, cxlshm_rmdir(n, 0, "e"));
	if (!s->scenario->moves)
		empty_d(s);
	reason = of_directory(s, "d", 0);
	CALL(rmdir, "d", reason, cxlshm_rmdir(n, 0, "d"));
}

void stage_neighbour(struct stage *s)
{
	round_begin();
	references(s);
	memory(s->neighbour);
	any_queue(s->neighbour, s->held[QUEUE]);
	one_queue(s);
	file(s->neighbour);
	own_names(s);
	shared_names(s);
	shared_directories(s);
	clients(s);
	round_end();
}
