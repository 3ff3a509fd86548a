/* SPDX-License-Identifier: MIT */
/*
 * What the daemon does where a real kernel rarely leads it: each case is a few requests (kernel.h) to a daemon of its own on a
 * sound pool, and what must be true behind them.  The daemon's threads do not run, so each takes the same course every time.
 *
 * Calls that are to fail, or that somebody comes between, are wrapped: corner_wraps in meson.build.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "damage.h"
#include "file.h"
#include "kernel.h"

int __real_nanosleep(const struct timespec *time, struct timespec *left);
int __wrap_nanosleep(const struct timespec *time, struct timespec *left);
int __real_cxlshm_export(struct cxlshm_client *client, cxlshm_ref ref, uint64_t *token);
int __wrap_cxlshm_export(struct cxlshm_client *client, cxlshm_ref ref, uint64_t *token);
void __real_cxlshm_write_back(struct cxlshm_pool *pool, const void *address, size_t bytes);
void __wrap_cxlshm_write_back(struct cxlshm_pool *pool, const void *address, size_t bytes);

static void (*meanwhile)(void);	/* called once, by the next who sleeps */
static unsigned exports_left;	/* the export that takes it from 1 to 0 fails */
static size_t written_back;	/* bytes */
static int cut_off = -1;	/* a file that ends before it is written back */

int __wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
	void (*now)(void) = meanwhile;

	meanwhile = NULL;
	if (now)
		now();
	return __real_nanosleep(time, left);
}

int __wrap_cxlshm_export(struct cxlshm_client *client, cxlshm_ref ref, uint64_t *token)
{
	if (exports_left && !--exports_left)
		return -ENOSPC;
	return __real_cxlshm_export(client, ref, token);
}

void __wrap_cxlshm_write_back(struct cxlshm_pool *pool, const void *address, size_t bytes)
{
	if (cut_off >= 0)
		MUST(ftruncate(cut_off, 0));
	written_back += bytes;
	__real_cxlshm_write_back(pool, address, bytes);
}

/* ---- requests that must be answered well ---- */

static uint64_t look_up(struct kernel *k, uint64_t folder, const char *name)
{
	const char *answer = kernel_send(k, FUSE_LOOKUP, folder, name, strlen(name) + 1, 0);

	MUST(!answer);
	return ((const struct fuse_entry_out *)answer)->nodeid;
}

static void open_file(struct kernel *k, uint64_t id, uint32_t flags)
{
	struct fuse_open_in in = {.flags = flags};

	kernel_send(k, FUSE_OPEN, id, &in, sizeof(in), 0);
}

/* Make it, open. */
static uint64_t create(struct kernel *k, const char *name)
{
	struct fuse_create_in in = {.flags = O_RDWR, .mode = S_IFREG | 0600};
	char body[sizeof(in) + 40];
	const char *answer;

	memcpy(body, &in, sizeof(in));
	strcpy(body + sizeof(in), name);
	answer = kernel_send(k, FUSE_CREATE, FUSE_ROOT_ID, body, sizeof(in) + strlen(name) + 1, 0);
	MUST(!answer);
	return ((const struct fuse_entry_out *)answer)->nodeid;
}

static void rename_to(struct kernel *k, uint64_t from, const char *name, uint64_t to, const char *new_name)
{
	char body[100];
	size_t first = strlen(name) + 1, second = strlen(new_name) + 1;

	memcpy(body, &to, sizeof(to));
	memcpy(body + sizeof(to), name, first);
	memcpy(body + sizeof(to) + first, new_name, second);
	kernel_send(k, FUSE_RENAME, from, body, sizeof(to) + first + second, 0);
	MUST(k->error);
}

static void unlink_name(struct kernel *k, const char *name)
{
	kernel_send(k, FUSE_UNLINK, FUSE_ROOT_ID, name, strlen(name) + 1, 0);
	MUST(k->error);
}

static void forget(struct kernel *k, uint64_t id)
{
	for (size_t i = 0; i < k->node_count; i++)
		if (k->nodes[i].id == id) {
			kernel_forget(k, i, k->nodes[i].lookups);
			return;
		}
	MUST(1);
}

/* ---- what is looked at ---- */

/* A descriptor of the extent, as any client may have one. */
static int extent_of(struct kernel *k, uint64_t id)
{
	int fd = cxlshm_extent_open(k->fs->lanes.names.client, inode_of(k->fs, id)->ref, O_RDWR);

	MUST(fd < 0);
	return fd;
}

static void path_of(struct kernel *k, uint64_t id, char *path, size_t size)
{
	char link[40];
	int fd = extent_of(k, id);
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, path, size - 1);
	MUST(length <= 0);
	path[length] = 0;
	close(fd);
}

static uint64_t refs_of(struct kernel *k, uint64_t id)
{
	struct cxlshm_stat st;

	MUST(cxlshm_stat(k->fs->lanes.names.client, inode_of(k->fs, id)->ref, &st));
	return st.refs;
}

/* ---- the cases ---- */

/* O_TRUNC that cannot be done is an error, also of a file that is open and needs no descriptor any more. */
static void truncate_fails(struct kernel *k)
{
	uint64_t id = look_up(k, FUSE_ROOT_ID, "file");
	char path[200], aside[210];

	path_of(k, id, path, sizeof(path));
	snprintf(aside, sizeof(aside), "%s.aside", path);
	open_file(k, id, O_RDWR);
	MUST(k->error);
	MUST(rename(path, aside));
	open_file(k, id, O_RDWR | O_TRUNC);
	MUST(!k->error);
	MUST(rename(aside, path));
	open_file(k, id, O_RDWR | O_TRUNC);
	MUST(k->error);
}

/* A file that was closed a moment ago, and is kept for the next open, goes with its name: no time passes here. */
static void unlink_at_once(struct kernel *k)
{
	uint64_t id = create(k, "made");
	char path[200];

	path_of(k, id, path, sizeof(path));
	kernel_release(k, 0);
	MUST(k->fs->idle_count != 1);
	unlink_name(k, "made");
	MUST(k->fs->idle_count || device()->backing_count);
	forget(k, id);
	MUST(!access(path, F_OK));
}

static void replace_at_once(struct kernel *k)
{
	uint64_t id = create(k, "made");
	char path[200];

	path_of(k, id, path, sizeof(path));
	kernel_release(k, 0);
	rename_to(k, FUSE_ROOT_ID, "large", FUSE_ROOT_ID, "made");
	MUST(k->fs->idle_count || device()->backing_count);
	forget(k, id);
	MUST(!access(path, F_OK));
}

/* The idler is told when a file is to be looked at before it would come by itself. */
static void wake_the_idler(struct kernel *k)
{
	eventfd_t told;

	create(k, "made");
	kernel_store(k, 0, 0, 1);
	kernel_map(k, 0, 0);
	MUST(!k->maps[0]);
	unlink_name(k, "made");
	MUST(!eventfd_read(k->fs->wake_fd, &told));	/* nothing yet */
	kernel_release(k, 0);
	MUST(k->fs->mapped_count != 1);
	MUST(eventfd_read(k->fs->wake_fd, &told));
	/* It was told of this look: not again for a later one. */
	open_file(k, look_up(k, FUSE_ROOT_ID, "file"), O_RDWR);
	kernel_release(k, 0);
	MUST(!eventfd_read(k->fs->wake_fd, &told));
}

/* Two opens wait for somebody's probe of the extent: one backing file comes of it. */
static struct {
	struct kernel *k;
	struct inode *inode;
	struct handle *handle;
	int probe;
} other;

static void open_too(void)
{
	close(other.probe);
	MUST(file_open(other.k->fs, other.inode, O_RDWR, true, 0, &other.handle));
}

static void open_behind_a_probe(struct kernel *k)
{
	uint64_t id = look_up(k, FUSE_ROOT_ID, "file");

	other.k = k;
	other.inode = inode_of(k->fs, id);
	other.handle = NULL;
	other.probe = extent_of(k, id);
	MUST(fcntl(other.probe, F_SETLEASE, F_WRLCK));
	meanwhile = open_too;
	open_file(k, id, O_RDWR);
	MUST(k->error || !other.handle);
	MUST(device()->backing_count != 1 || k->fs->backing_count != 1);
	file_release(k->fs, other.handle);
}

/* A directory moves between parents although its side lane cannot be had; nothing is held for that lane then. */
static void move_without_a_lane(struct kernel *k)
{
	uint64_t dir = look_up(k, FUSE_ROOT_ID, "dir"), refs = refs_of(k, dir);

	exports_left = 2;
	rename_to(k, dir, "inner", FUSE_ROOT_ID, "moved");
	MUST((int)exports_left);
	rename_to(k, FUSE_ROOT_ID, "moved", dir, "inner");
	MUST(refs_of(k, dir) != refs);
}

static void sync_file(struct kernel *k)
{
	struct fuse_fsync_in in = {.fh = k->files[0].fh};

	kernel_send(k, FUSE_FSYNC, k->files[0].node, &in, sizeof(in), 0);
	MUST(k->error);
}

/* With failure_domain=host, fsync writes back what is in the file, */
static void write_back(struct kernel *k)
{
	open_file(k, look_up(k, FUSE_ROOT_ID, "file"), O_RDWR);
	MUST(k->error);
	kernel_store(k, 0, 4096, 100);
	written_back = 0;
	sync_file(k);
	MUST(written_back < 100 || written_back > 10000);
}

/* and lives on if somebody cuts the file off meanwhile. */
static void cut_while_written_back(struct kernel *k)
{
	uint64_t id = look_up(k, FUSE_ROOT_ID, "file");

	open_file(k, id, O_RDWR);
	MUST(k->error);
	kernel_store(k, 0, 0, 4095);
	kernel_store(k, 0, 4096, 4095);
	cut_off = extent_of(k, id);
	sync_file(k);
	close(cut_off);
	cut_off = -1;
}

static const struct {
	const char *name;
	void (*run)(struct kernel *k);
	bool host;
} cases[] = {
	{"truncate_fails", truncate_fails, false},
	{"unlink_at_once", unlink_at_once, false},
	{"replace_at_once", replace_at_once, false},
	{"wake_the_idler", wake_the_idler, false},
	{"open_behind_a_probe", open_behind_a_probe, false},
	{"move_without_a_lane", move_without_a_lane, false},
	{"write_back", write_back, true},
	{"cut_while_written_back", cut_while_written_back, true},
};

static void report(void *arg, int severity, const char *line)
{
	(void)arg;
	if (severity)
		fprintf(stderr, "%s\n", line);
}

int main(void)
{
	struct cxlshm_check_result result;
	struct damage d;
	struct kernel k;
	int rc;

	signal(SIGIO, SIG_IGN);	/* as main() of the daemon */
	damage_make(&d, 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		damage_restore(&d);
		if (cases[i].host)
			damage_make_host(&d);
		printf("%s\n", cases[i].name);
		fflush(stdout);
		rc = kernel_mount(&k, d.dir, DEVICE_PASSTHROUGH, false, true);
		if (rc == -ENOTSUP && cases[i].host) {
			printf("skipped: this processor cannot write back\n");
			continue;
		}
		MUST(rc);
		kernel_init(&k, FUSE_KERNEL_VERSION, 45, UINT64_MAX, sizeof(struct fuse_init_in));
		cases[i].run(&k);
		kernel_unmount(&k);
		MUST(cxlshm_check(d.dir, 0, report, NULL, &result, NULL));
		MUST(result.problems != 0);
	}
	damage_free(&d);
	return 0;
}
