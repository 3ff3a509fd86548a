/* SPDX-License-Identifier: MIT */
/*
 * FUSE requests made of bytes.  Node ids and file handles are chosen among those that the kernel could name (kernel.h);
 * all the rest may be what no kernel sends: a file as a directory, a directory as a file, wrong counts, odd names.
 */
#include "requests.h"

#include <stdio.h>
#include <string.h>

#include "cxlshm.h"

struct cursor {
	const uint8_t *at, *end;
};

static uint8_t take(struct cursor *c)
{
	return c->at < c->end ? *c->at++ : 0;
}

/* A number: small, around a limit, or eight bytes. */
static uint64_t number(struct cursor *c)
{
	static const uint64_t known[] = {
		255, 511, 512, 1000, 4095, 4096, 4097, 8192, 10000, 65535, 65536, 65537, 1 << 18, 1 << 20, (1 << 20) + 1,
		6 << 18, (4 << 20) + 1, 8 << 20, 1 << 30, 1u << 31, UINT32_MAX, 1ull << 32, 1ull << 40, 1ull << 52, 1ull << 62,
		INT64_MAX - 4096, INT64_MAX - 1, INT64_MAX, 1ull << 63, UINT64_MAX - 4095, UINT64_MAX,
	};
	const unsigned count = sizeof(known) / sizeof(known[0]);
	uint8_t first = take(c);
	uint64_t value = 0;

	if (first < 128)
		return first;
	if (first < 128 + count)
		return known[first - 128];
	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)take(c) << 8 * i;
	return value;
}

static const char *const names[] = {
	"file", "dir", "empty", "inner", "hard", "symlink", "fields", "cells", "queue", "spsc", "large", "many0", "many1", "many2",
	"many3", "new", "other", "third", "a", "b", ".cxlshm", "pool", "clients", "stats", "metrics", "version", "objects",
	"", ".", "..", "dir/inner", "/", "/.cxlshm", "new/", "user.some", "user.other", "user.third", "user.cxlshm.id",
	"user.cxlshm.kind", "user.cxlshm.refs", "user.cxlshm.holders", "user.cxlshm.size", "user.cxlshm.mapped", "user.cxlshm.",
	"user.", "trusted.x", "security.capability", "system.posix_acl_access", "x", "0", "00", "99999999999999999999",
};

#define NAMES (sizeof(names) / sizeof(names[0]))

/* The id of what a node stands for. */
static uint64_t object_of(const struct kernel *k, size_t index)
{
	return inode_of(k->fs, k->nodes[index].id)->id;
}

/* A name with its NUL; returns the bytes.  At most KERNEL_BODY_MAX / 2. */
static size_t name(struct kernel *k, struct cursor *c, char *out)
{
	static const uint16_t lengths[] = {1, 200, 254, 255, 256, 257, 1000, 4095, 4096, 4400};
	uint8_t first = take(c);
	size_t length = 0;

	if (first < NAMES) {
		length = strlen(names[first]);
		memcpy(out, names[first], length);
	} else if (first < 200) {
		length = (size_t)sprintf(out, "many%u", first % 20u);
	} else if (first < 210) {
		length = lengths[first - 200];
		memset(out, 'n', length);
	} else if (first < 230) {
		length = (size_t)sprintf(out, "%llu", (unsigned long long)object_of(k, take(c) % k->node_count));
	} else {
		length = first - 230u;
		for (size_t i = 0; i < length; i++)
			out[i] = (char)take(c);
	}
	out[length] = 0;
	return length + 1;
}

static uint64_t node(struct kernel *k, struct cursor *c)
{
	return k->nodes[take(c) % k->node_count].id;
}

static const struct kernel_file *file(struct kernel *k, struct cursor *c)
{
	uint8_t index = take(c);

	return k->file_count ? &k->files[index % k->file_count] : NULL;
}

/* ---- requests about names ---- */

static void about_name(struct kernel *k, struct cursor *c, uint32_t opcode, unsigned how)
{
	char body[KERNEL_BODY_MAX];
	uint64_t where = node(k, c);
	size_t bytes = name(k, c, body);

	kernel_send(k, opcode, where, body, bytes, how);
}

static void make(struct kernel *k, struct cursor *c, uint32_t opcode, unsigned how)
{
	static const uint32_t types[] = {S_IFREG, S_IFIFO, S_IFSOCK, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, 0};
	char body[KERNEL_BODY_MAX];
	uint64_t where = node(k, c);
	uint32_t mode = (uint32_t)take(c) << 4 | (uint32_t)take(c);
	size_t bytes = 0;

	switch (opcode) {
	case FUSE_MKNOD:
		mode |= types[take(c) % 8];
		*(struct fuse_mknod_in *)body = (struct fuse_mknod_in){.mode = mode, .rdev = take(c), .umask = 022};
		bytes = sizeof(struct fuse_mknod_in);
		break;
	case FUSE_MKDIR:
		*(struct fuse_mkdir_in *)body = (struct fuse_mkdir_in){.mode = mode, .umask = 022};
		bytes = sizeof(struct fuse_mkdir_in);
		break;
	case FUSE_CREATE:
		*(struct fuse_create_in *)body = (struct fuse_create_in){.flags = (uint32_t)number(c), .mode = mode};
		bytes = sizeof(struct fuse_create_in);
		break;
	default:
		break;
	}
	bytes += name(k, c, body + bytes);
	if (opcode == FUSE_SYMLINK)
		bytes += name(k, c, body + bytes);
	kernel_send(k, opcode, where, body, bytes, how);
}

/* Two directories, or a node and a directory: their ids are in the body, which therefore stays whole. */
static void two_names(struct kernel *k, struct cursor *c, uint32_t opcode, unsigned how)
{
	char body[KERNEL_BODY_MAX];
	uint64_t from = node(k, c), to = node(k, c);
	size_t bytes = sizeof(uint64_t);

	how &= ~KERNEL_CUT;
	memcpy(body, opcode == FUSE_LINK ? &from : &to, sizeof(uint64_t));
	if (opcode == FUSE_RENAME2) {
		((struct fuse_rename2_in *)body)->flags = take(c);
		bytes = sizeof(struct fuse_rename2_in);
	}
	bytes += name(k, c, body + bytes);
	if (opcode != FUSE_LINK)
		bytes += name(k, c, body + bytes);
	kernel_send(k, opcode, opcode == FUSE_LINK ? to : from, body, bytes, how);
}

/* ---- about a node ---- */

static void attributes(struct kernel *k, struct cursor *c, unsigned how)
{
	struct fuse_setattr_in in = {.valid = (uint32_t)take(c) | (uint32_t)take(c) << 8};
	uint64_t where = node(k, c);

	in.size = in.valid & FATTR_SIZE ? number(c) : 0;
	in.mode = in.valid & FATTR_MODE ? (uint32_t)number(c) : 0;
	in.uid = in.valid & FATTR_UID ? (uint32_t)number(c) : 0;
	in.gid = in.valid & FATTR_GID ? (uint32_t)number(c) : 0;
	in.atime = in.valid & FATTR_ATIME ? number(c) : 0;
	in.mtime = in.valid & FATTR_MTIME ? number(c) : 0;
	in.mtimensec = in.valid & FATTR_MTIME ? (uint32_t)number(c) : 0;
	kernel_send(k, FUSE_SETATTR, where, &in, sizeof(in), how);
}

static void extended(struct kernel *k, struct cursor *c, uint32_t opcode, unsigned how)
{
	char body[KERNEL_BODY_MAX];
	uint64_t where = node(k, c);
	size_t bytes, size;

	if (opcode != FUSE_SETXATTR) {
		*(struct fuse_getxattr_in *)body = (struct fuse_getxattr_in){.size = (uint32_t)number(c)};
		bytes = sizeof(struct fuse_getxattr_in);
		if (opcode == FUSE_GETXATTR)
			bytes += name(k, c, body + bytes);
	} else {
		/* Until both agree on more, libfuse reads the short form of the header. */
		memset(body, 0, FUSE_COMPAT_SETXATTR_IN_SIZE);
		bytes = FUSE_COMPAT_SETXATTR_IN_SIZE;
		bytes += name(k, c, body + bytes);
		size = number(c) % (KERNEL_BODY_MAX - bytes);
		memset(body + bytes, 'v', size);
		memcpy(body, &(uint32_t){(uint32_t)size}, 4);
		body[4] = (char)(take(c) & 3);
		bytes += size;
	}
	kernel_send(k, opcode, where, body, bytes, how);
}

static void forget(struct kernel *k, struct cursor *c)
{
	size_t which = take(c) % k->node_count;
	uint8_t count = take(c);

	kernel_forget(k, which, count < 200 ? count : count < 240 ? k->nodes[which].lookups : UINT64_MAX);
}

static void forget_many(struct kernel *k, struct cursor *c)
{
	struct fuse_forget_one what[32];
	uint32_t count = take(c) % 32, sent = 0;

	for (uint32_t i = 0; i < count; i++) {
		what[sent].nodeid = node(k, c);
		what[sent].nlookup = take(c);
		/* Twice in one request: only as long as it is not gone. */
		for (uint32_t j = 0; j < sent; j++)
			if (what[j].nodeid == what[sent].nodeid)
				what[j].nlookup = 0;
		sent++;
	}
	kernel_forget_many(k, what, sent);
}

static void open_node(struct kernel *k, struct cursor *c, uint32_t opcode, unsigned how)
{
	struct fuse_open_in in;
	uint64_t where = node(k, c);

	in = (struct fuse_open_in){.flags = (uint32_t)number(c)};
	kernel_send(k, opcode, where, &in, sizeof(in), how);
}

/* ---- about an open file ---- */

static void read_file(struct kernel *k, struct cursor *c, uint32_t opcode, unsigned how)
{
	const struct kernel_file *f = file(k, c);
	struct fuse_read_in in = {.offset = number(c)};

	if (!f)
		return;
	in.fh = f->fh;
	in.size = (uint32_t)number(c);
	in.read_flags = take(c);
	kernel_send(k, opcode, f->node, &in, sizeof(in), how);
}

static void write_file(struct kernel *k, struct cursor *c, unsigned how)
{
	const struct kernel_file *f = file(k, c);
	char body[KERNEL_BODY_MAX];
	struct fuse_write_in in = {.offset = number(c)};

	if (!f)
		return;
	in.fh = f->fh;
	in.size = (uint32_t)(number(c) % (KERNEL_BODY_MAX - sizeof(in)));
	in.flags = take(c) & 1 ? 02000 : 0;	/* O_APPEND */
	in.write_flags = take(c);
	memcpy(body, &in, sizeof(in));
	memset(body + sizeof(in), 'w', in.size);
	kernel_send(k, FUSE_WRITE, f->node, body, sizeof(in) + in.size, how);
}

static void space(struct kernel *k, struct cursor *c, unsigned how)
{
	const struct kernel_file *f = file(k, c);
	struct fuse_fallocate_in in = {.offset = number(c)};

	in.length = number(c);
	in.mode = take(c);
	in.fh = f ? f->fh : 0;	/* the node counts */
	kernel_send(k, FUSE_FALLOCATE, f ? f->node : node(k, c), &in, sizeof(in), how);
}

static void seek(struct kernel *k, struct cursor *c, unsigned how)
{
	const struct kernel_file *f = file(k, c);
	struct fuse_lseek_in in = {.offset = number(c)};

	if (!f)
		return;
	in.fh = f->fh;
	in.whence = take(c) % 8;
	kernel_send(k, FUSE_LSEEK, f->node, &in, sizeof(in), how);
}

static void sync_file(struct kernel *k, struct cursor *c, unsigned how)
{
	const struct kernel_file *f = file(k, c);
	struct fuse_fsync_in in = {.fsync_flags = take(c)};

	if (!f)
		return;
	in.fh = f->fh;
	kernel_send(k, FUSE_FSYNC, f->node, &in, sizeof(in), how);
}

static void copy(struct kernel *k, struct cursor *c, unsigned how)
{
	const struct kernel_file *from = file(k, c), *to = file(k, c);
	struct fuse_copy_file_range_in in = {.off_in = number(c)};

	if (!from)
		return;
	in.off_out = number(c);
	in.len = number(c);
	in.flags = take(c);
	in.fh_in = from->fh;
	in.fh_out = to->fh;
	in.nodeid_out = to->node;
	kernel_send(k, FUSE_COPY_FILE_RANGE, from->node, &in, sizeof(in), how & ~KERNEL_CUT);
}

/* ---- whatever else a request may be ---- */

/* What this daemon does not serve, and what nobody knows; not NOTIFY_REPLY, which libfuse loses if it did not ask. */
static void strange(struct kernel *k, struct cursor *c, unsigned how)
{
	static const uint32_t opcodes[] = {
		0, 7, 19, FUSE_FLUSH, FUSE_INIT, FUSE_FSYNCDIR, FUSE_GETLK, FUSE_SETLK, FUSE_SETLKW, FUSE_ACCESS, FUSE_BMAP,
		FUSE_IOCTL, FUSE_POLL, FUSE_SETUPMAPPING, FUSE_REMOVEMAPPING, FUSE_SYNCFS, FUSE_TMPFILE, 52, 100, CUSE_INIT,
		UINT32_MAX, 1u << 31,
	};
	uint32_t opcode = opcodes[take(c) % (sizeof(opcodes) / sizeof(opcodes[0]))];
	uint64_t where = node(k, c);
	char body[64] = {0};
	size_t bytes = take(c) % sizeof(body), given = (size_t)(c->end - c->at);

	given = given < bytes ? given : bytes;
	memcpy(body, c->at, given);
	c->at += given;
	kernel_send(k, opcode, where, body, bytes, how);
}

static void interrupt(struct kernel *k, struct cursor *c)
{
	struct fuse_interrupt_in in = {.unique = k->unique + take(c)};

	kernel_send(k, FUSE_INTERRUPT, 0, &in, sizeof(in), 0);
}

static void ask_caller(struct kernel *k, struct cursor *c)
{
	k->uid = (uint32_t)number(c);
	k->gid = (uint32_t)number(c);
}

static void one(struct kernel *k, struct cursor *c)
{
	static const uint8_t circumstances[] = {0, KERNEL_GONE, KERNEL_CUT, KERNEL_LIES};
	uint8_t first = take(c);
	unsigned how = circumstances[first >> 6];

	switch (first & 63) {
	case 1:
	case 2:
	case 3:
		about_name(k, c, FUSE_LOOKUP, how);
		break;
	case 4:
		forget(k, c);
		break;
	case 5:
		forget_many(k, c);
		break;
	case 6:
		kernel_send(k, FUSE_GETATTR, node(k, c), "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, how);
		break;
	case 7:
	case 8:
		attributes(k, c, how);
		break;
	case 9:
		kernel_send(k, FUSE_READLINK, node(k, c), NULL, 0, how);
		break;
	case 10:
		make(k, c, FUSE_SYMLINK, how);
		break;
	case 11:
		make(k, c, FUSE_MKNOD, how);
		break;
	case 12:
		make(k, c, FUSE_MKDIR, how);
		break;
	case 13:
	case 14:
		make(k, c, FUSE_CREATE, how);
		break;
	case 15:
	case 16:
		about_name(k, c, FUSE_UNLINK, how);
		break;
	case 17:
		about_name(k, c, FUSE_RMDIR, how);
		break;
	case 18:
		two_names(k, c, FUSE_RENAME, how);
		break;
	case 19:
	case 20:
		two_names(k, c, FUSE_RENAME2, how);
		break;
	case 21:
		two_names(k, c, FUSE_LINK, how);
		break;
	case 22:
	case 23:
	case 24:
		open_node(k, c, FUSE_OPEN, how);
		break;
	case 25:
	case 26:
		read_file(k, c, FUSE_READ, how);
		break;
	case 27:
	case 28:
		write_file(k, c, how);
		break;
	case 29:
		kernel_send(k, FUSE_STATFS, node(k, c), NULL, 0, how);
		break;
	case 30:
	case 31:
		if (k->file_count)
			kernel_release(k, take(c) % k->file_count);
		break;
	case 32:
		extended(k, c, FUSE_SETXATTR, how);
		break;
	case 33:
		extended(k, c, FUSE_GETXATTR, how);
		break;
	case 34:
		extended(k, c, FUSE_LISTXATTR, how);
		break;
	case 35:
		about_name(k, c, FUSE_REMOVEXATTR, how);
		break;
	case 36:
	case 37:
		open_node(k, c, FUSE_OPENDIR, how);
		break;
	case 38:
		read_file(k, c, FUSE_READDIR, how);
		break;
	case 39:
	case 40:
		read_file(k, c, FUSE_READDIRPLUS, how);
		break;
	case 41:
		space(k, c, how);
		break;
	case 42:
		seek(k, c, how);
		break;
	case 43:
		copy(k, c, how);
		break;
	case 44:
		strange(k, c, how);
		break;
	case 45:
		interrupt(k, c);
		break;
	case 46:
		kernel_wait(k, number(c) << 16);
		break;
	case 47:
		kernel_map(k, take(c), take(c));
		break;
	case 48:
		kernel_store(k, take(c), number(c), take(c) * 16u);
		break;
	case 49:
		ask_caller(k, c);
		break;
	case 50:
		cxlshm_recover(k->fs->pool, NULL);
		break;
	case 51:
		sync_file(k, c, how);
		break;
	default:	/* the commonest are common here, too */
		about_name(k, c, FUSE_LOOKUP, how);
		break;
	}
}

void requests_decode(struct kernel *k, const uint8_t *data, size_t size)
{
	struct cursor c = {.at = data, .end = data + size};

	for (int left = 200; left && c.at < c.end; left--)
		one(k, &c);
}
