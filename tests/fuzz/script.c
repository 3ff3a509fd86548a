/* SPDX-License-Identifier: MIT */
/*
 * One fixed walk through a mounted pool of damage.h: everything is looked at, then made, written, moved and removed.
 * Answers are not judged but by kernel.c's rules: the pool may be damaged.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "prune.h"
#include "requests.h"

#define WALK_MAX 120u	/* entries looked at */
#define DEPTH_MAX 4u

static uint64_t look_up(struct kernel *k, uint64_t folder, const char *name)
{
	const char *answer = kernel_send(k, FUSE_LOOKUP, folder, name, strlen(name) + 1, 0);

	return answer ? ((const struct fuse_entry_out *)answer)->nodeid : 0;
}

static uint64_t look_up_path(struct kernel *k, const char *path)
{
	uint64_t id = FUSE_ROOT_ID;
	char name[64];

	while (id && *path) {
		size_t length = strcspn(path, "/");

		snprintf(name, sizeof(name), "%.*s", (int)length, path);
		id = look_up(k, id, name);
		path += length + (path[length] == '/');
	}
	return id;
}

/* Open; returns whether there is a new file at the end of the list. */
static bool open_node(struct kernel *k, uint64_t id, uint32_t opcode, uint32_t flags)
{
	struct fuse_open_in in = {.flags = flags};

	return kernel_send(k, opcode, id, &in, sizeof(in), 0) != NULL;
}

static void read_last(struct kernel *k, uint32_t opcode, uint64_t offset, uint32_t size)
{
	const struct kernel_file *f = &k->files[k->file_count - 1];
	struct fuse_read_in in = {.fh = f->fh, .offset = offset, .size = size};

	kernel_send(k, opcode, f->node, &in, sizeof(in), 0);
}

static void write_last(struct kernel *k, uint64_t offset, const char *text)
{
	const struct kernel_file *f = &k->files[k->file_count - 1];
	char body[200];
	struct fuse_write_in in = {.fh = f->fh, .offset = offset, .size = (uint32_t)strlen(text)};

	memcpy(body, &in, sizeof(in));
	memcpy(body + sizeof(in), text, in.size);
	kernel_send(k, FUSE_WRITE, f->node, body, sizeof(in) + in.size, 0);
}

static void release_last(struct kernel *k)
{
	kernel_release(k, k->file_count - 1);
}

static void look_at(struct kernel *k, uint64_t id)
{
	static const char *const attributes[] = {"user.some", "user.cxlshm.id", "user.cxlshm.kind", "user.cxlshm.refs",
						 "user.cxlshm.holders", "user.cxlshm.size", "user.cxlshm.mapped"};
	struct fuse_getattr_in attr = {.fh = 0};
	struct fuse_getxattr_in list = {.size = 500};
	char body[sizeof(list) + 40];

	kernel_send(k, FUSE_GETATTR, id, &attr, sizeof(attr), 0);
	kernel_send(k, FUSE_READLINK, id, NULL, 0, 0);
	kernel_send(k, FUSE_LISTXATTR, id, &list, sizeof(list), 0);
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
		memcpy(body, &list, sizeof(list));
		strcpy(body + sizeof(list), attributes[i]);
		kernel_send(k, FUSE_GETXATTR, id, body, sizeof(list) + strlen(attributes[i]) + 1, 0);
	}
	if (open_node(k, id, FUSE_OPEN, O_RDWR) || open_node(k, id, FUSE_OPEN, O_RDONLY)) {
		const struct kernel_file *f = &k->files[k->file_count - 1];
		struct fuse_lseek_in seek = {.fh = f->fh, .whence = SEEK_HOLE};

		read_last(k, FUSE_READ, 0, 5000);
		write_last(k, 40, "written");
		kernel_send(k, FUSE_LSEEK, f->node, &seek, sizeof(seek), 0);
		release_last(k);
	}
}

/* Names are kept aside: what comes next overwrites the answer. */
static void walk(struct kernel *k, uint64_t folder, unsigned depth, unsigned *budget)
{
	char name[CXLSHM_NAME_MAX + 1];
	uint64_t offset = 0, id;
	struct fuse_dirent entry;

	if (!open_node(k, folder, FUSE_OPENDIR, 0))
		return;
	read_last(k, FUSE_READDIRPLUS, 0, 8000);
	while (*budget > 0) {
		const struct kernel_file *f = &k->files[k->file_count - 1];
		struct fuse_read_in in = {.fh = f->fh, .offset = offset, .size = 400};
		const char *answer = kernel_send(k, FUSE_READDIR, f->node, &in, sizeof(in), 0);

		if (!answer || device()->reply_bytes == sizeof(struct fuse_out_header))
			break;
		--*budget;
		memcpy(&entry, answer, FUSE_NAME_OFFSET);
		memcpy(name, answer + FUSE_NAME_OFFSET, entry.namelen);
		name[entry.namelen] = 0;
		offset = entry.off;
		id = strcmp(name, ".") && strcmp(name, "..") && strcmp(name, ".cxlshm") ? look_up(k, folder, name) : 0;
		if (!id)
			continue;
		look_at(k, id);
		if (depth)
			walk(k, id, depth - 1, budget);
	}
	release_last(k);
}

static void control(struct kernel *k)
{
	static const char *const names[] = {"pool", "clients", "stats", "metrics", "version"};
	uint64_t folder = look_up(k, FUSE_ROOT_ID, ".cxlshm"), objects, id;
	char name[32];

	if (!folder)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		id = look_up(k, folder, names[i]);
		if (id && open_node(k, id, FUSE_OPEN, O_RDONLY)) {
			read_last(k, FUSE_READ, 0, 20000);
			release_last(k);
		}
	}
	objects = look_up(k, folder, "objects");
	if (!objects || !open_node(k, objects, FUSE_OPENDIR, 0))
		return;
	read_last(k, FUSE_READDIR, 2, 600);
	if (device()->reply_bytes > sizeof(struct fuse_out_header)) {
		struct fuse_dirent *entry = (struct fuse_dirent *)(device()->reply + sizeof(struct fuse_out_header));

		snprintf(name, sizeof(name), "%.*s", (int)entry->namelen, entry->name);
		id = look_up(k, objects, name);
		if (id && open_node(k, id, FUSE_OPEN, O_RDONLY)) {
			read_last(k, FUSE_READ, 0, 20000);
			release_last(k);
		}
	}
	release_last(k);
}

static void two_names(struct kernel *k, uint64_t from, const char *name, uint64_t to, const char *new_name, uint32_t flags)
{
	struct fuse_rename2_in in = {.newdir = to, .flags = flags};
	char body[120];
	size_t first = strlen(name) + 1, second = strlen(new_name) + 1;

	memcpy(body, &in, sizeof(in));
	memcpy(body + sizeof(in), name, first);
	memcpy(body + sizeof(in) + first, new_name, second);
	kernel_send(k, FUSE_RENAME2, from, body, sizeof(in) + first + second, 0);
}

static void change(struct kernel *k)
{
	static const char makes[] = "\244\201\0\0\0\0\0\0\0\0\0\0\0\0\0\0new";	/* fuse_mknod_in: a regular file, 0644 */
	struct fuse_setattr_in attr = {.valid = FATTR_SIZE | FATTR_MODE | FATTR_UID, .size = 6000, .mode = 04711, .uid = 7};
	struct fuse_fallocate_in space = {.offset = 4096, .length = 9000};
	struct fuse_create_in create = {.flags = O_RDWR, .mode = S_IFREG | 0640};
	uint64_t folder, id, dir = look_up_path(k, "dir"), inner = look_up_path(k, "dir/inner");
	char body[80] = {0};

	kernel_send(k, FUSE_MKDIR, FUSE_ROOT_ID, "\355\1\0\0\0\0\0\0folder", 15, 0);
	kernel_send(k, FUSE_MKNOD, FUSE_ROOT_ID, makes, sizeof(makes), 0);
	kernel_send(k, FUSE_SYMLINK, FUSE_ROOT_ID, "link\0dir/inner", 15, 0);
	folder = look_up(k, FUSE_ROOT_ID, "folder");
	if (folder) {
		memcpy(body, &create, sizeof(create));
		strcpy(body + sizeof(create), "made");
		if (kernel_send(k, FUSE_CREATE, folder, body, sizeof(create) + 5, 0)) {
			write_last(k, 3000, "more than there was");
			space.fh = k->files[k->file_count - 1].fh;
			kernel_send(k, FUSE_FALLOCATE, k->files[k->file_count - 1].node, &space, sizeof(space), 0);
			kernel_wait(k, 10000000);
			release_last(k);
			kernel_wait(k, 10000000);
		}
	}
	id = look_up(k, FUSE_ROOT_ID, "file");
	if (id) {
		kernel_send(k, FUSE_SETATTR, id, &attr, sizeof(attr), 0);
		kernel_send(k, FUSE_SETXATTR, id, "\3\0\0\0\0\0\0\0user.third\0abc", 22, 0);
		kernel_send(k, FUSE_REMOVEXATTR, id, "user.some", 10, 0);
		memcpy(body, &id, sizeof(id));
		strcpy(body + sizeof(id), "hard2");
		kernel_send(k, FUSE_LINK, FUSE_ROOT_ID, body, sizeof(id) + 6, 0);
	}
	two_names(k, FUSE_ROOT_ID, "new", FUSE_ROOT_ID, "newer", 0);
	two_names(k, FUSE_ROOT_ID, "hard2", FUSE_ROOT_ID, "large", RENAME_EXCHANGE);
	if (dir && folder) {
		two_names(k, dir, "many3", folder, "many", 0);
		two_names(k, dir, "many4", dir, "many5", 0);
		two_names(k, dir, "many6", FUSE_ROOT_ID, "symlink", RENAME_EXCHANGE);
		two_names(k, dir, "inner", folder, "inner", RENAME_NOREPLACE);
		kernel_send(k, FUSE_UNLINK, dir, "cells", 6, 0);
	}
	if (inner)
		kernel_send(k, FUSE_UNLINK, inner, "hard", 5, 0);
	if (folder)
		kernel_send(k, FUSE_RMDIR, folder, "inner", 6, 0);
	for (int i = 0; dir && i < 20; i += 2) {
		snprintf(body, sizeof(body), "many%d", i);
		kernel_send(k, FUSE_UNLINK, dir, body, strlen(body) + 1, 0);
	}
	kernel_send(k, FUSE_UNLINK, FUSE_ROOT_ID, "fields", 7, 0);
	kernel_send(k, FUSE_UNLINK, FUSE_ROOT_ID, "queue", 6, 0);
	kernel_send(k, FUSE_UNLINK, FUSE_ROOT_ID, "file", 5, 0);
	kernel_send(k, FUSE_RMDIR, FUSE_ROOT_ID, "dir", 4, 0);
}

void requests_script(struct kernel *k)
{
	unsigned budget = WALK_MAX;

	kernel_send(k, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, 0);
	walk(k, FUSE_ROOT_ID, DEPTH_MAX, &budget);
	control(k);
	change(k);
	cxlshm_recover(k->fs->pool, NULL);
	budget = WALK_MAX / 2;
	walk(k, FUSE_ROOT_ID, 1, &budget);
	kernel_send(k, FUSE_STATFS, FUSE_ROOT_ID, NULL, 0, 0);
}

int requests_serve(const char *pool, enum device_kernel kind, bool threads)
{
	struct kernel k;
	int rc = kernel_mount(&k, pool, kind, false, false);

	if (rc)
		return rc;
	kernel_init(&k, FUSE_KERNEL_VERSION, 45, UINT64_MAX, sizeof(struct fuse_init_in));
	if (threads)
		kernel_start_threads(&k);
	requests_script(&k);
	if (threads) {
		prune_kick(k.prune);
		usleep(8000);	/* it settles for five */
	}
	kernel_unmount(&k);
	return 0;
}
